"""Read an answer's usage, its text's size, and its failure.

One decoding in C looks at an event or a whole answer; what it does not know is skipped without being made. Answers too
large for one look, and those of another shape, are scanned instead (`answer_scan`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from gateway.dialects.base import Contents, ToolCalls, UsageReader
from gateway.dialects.openai.metering.answer_scan import JsonScan
from gateway.dialects.openai.metering.texts import Choice, size_of, text_of_choices, texts_of
from gateway.dialects.openai.metering.usage_report import MOST_TOKENS, decoded, read_report, seconds_of, usage_of
from gateway.dialects.openai.payload import UNREADABLE, top_members
from gateway.types import Usage, UsageDetails

_NOTHING = msgspec.Raw(b"null")
_NO_ERROR = frozenset((b"null", b"{}", b"[]", b'""', b"false"))
_UNFINISHED = (b'"queued"', b'"in_progress"')
_CALLS = ("web_search_call", "file_search_call", "code_interpreter_call", "web_fetch_call")
_ENDS = frozenset(("response.completed", "response.failed", "response.incomplete"))


# What nearly every upstream sends, decoded in one step; anything else is no error but read with more patience.
_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]


class _Crossing(msgspec.Struct, gc=False, omit_defaults=True):
    text_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    image_tokens: _Count | None = None


class _OfInput(msgspec.Struct, gc=False, omit_defaults=True):
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    image_tokens: _Count | None = None
    cached_tokens_details: _Crossing | None = None

    @property
    def is_plain(self) -> bool:
        return not (self.audio_tokens or self.image_tokens or self.cache_write_tokens or self.cached_tokens_details)


class _OfOutput(msgspec.Struct, gc=False, omit_defaults=True):
    reasoning_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    image_tokens: _Count | None = None

    @property
    def is_plain(self) -> bool:
        return not (self.audio_tokens or self.image_tokens)


class Report(msgspec.Struct, gc=False, omit_defaults=True):
    """A `usage` in the words of chat completions or of responses.

    What only some upstreams report is raw, and read apart.
    """

    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    total_tokens: _Count | None = None
    prompt_tokens_details: _OfInput | None = None
    completion_tokens_details: _OfOutput | None = None
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    input_tokens_details: _OfInput | None = None
    output_tokens_details: _OfOutput | None = None
    input_token_details: msgspec.Raw = _NOTHING
    output_token_details: msgspec.Raw = _NOTHING
    cached_tokens: msgspec.Raw = _NOTHING
    prompt_cache_hit_tokens: msgspec.Raw = _NOTHING
    cache_read_input_tokens: msgspec.Raw = _NOTHING
    cache_creation_input_tokens: msgspec.Raw = _NOTHING
    cache_creation: msgspec.Raw = _NOTHING
    seconds: msgspec.Raw = _NOTHING
    prompt_audio_seconds: msgspec.Raw = _NOTHING
    server_tool_use: msgspec.Raw = _NOTHING
    service_tier: msgspec.Raw = _NOTHING
    speed: msgspec.Raw = _NOTHING

    def read(self) -> Usage | None:
        """None where it holds no count."""
        given = msgspec.structs.astuple(self)
        prompt, completion, total, of_prompt, of_completion = given[:_OF_CHAT]
        if given[_OF_CHAT:] != _NOTHING_ELSE:  # in the words of responses, or more than plain counts
            if given[_FIRST_RAW:] != _NOTHING_RAW:
                return self._read_patiently()
            prompt, completion, of_prompt, of_completion = self._in_words_of_chat()
        cached = reasoning = 0
        if of_prompt is not None:
            if not of_prompt.is_plain:
                return self._read_patiently()
            cached = of_prompt.cached_tokens or 0
        if of_completion is not None:
            if not of_completion.is_plain:
                return self._read_patiently()
            reasoning = of_completion.reasoning_tokens or 0
        return _usage(prompt, completion, total, cached, reasoning)

    def _in_words_of_chat(self) -> tuple[int | None, int | None, _OfInput | None, _OfOutput | None]:
        return (
            self.input_tokens if self.prompt_tokens is None else self.prompt_tokens,
            self.output_tokens if self.completion_tokens is None else self.completion_tokens,
            self.prompt_tokens_details or self.input_tokens_details,
            self.completion_tokens_details or self.output_tokens_details,
        )

    def _read_patiently(self) -> Usage | None:
        return read_report(decoded(msgspec.Raw(_encode(self))))


_OF_CHAT = Report.__struct_fields__.index("input_tokens")  # all before it is what chat completions have
_FIRST_RAW = Report.__struct_fields__.index("input_token_details")
_NOTHING_ELSE = msgspec.structs.astuple(Report())[_OF_CHAT:]
_NOTHING_RAW = msgspec.structs.astuple(Report())[_FIRST_RAW:]


def _usage(prompt: int | None, completion: int | None, total: int | None, cached: int, reasoning: int) -> Usage | None:
    if prompt is completion is total is None:
        return None
    prompt, completion, total = prompt or 0, completion or 0, total or 0
    least = prompt + completion
    if cached or reasoning:
        if reasoning and total == least + reasoning:
            completion, least = completion + reasoning, total  # xAI and Gemini report it beside the completion
        cached, reasoning = min(cached, prompt), min(reasoning, completion)
    return Usage(prompt, completion, total if total > least else least, cached, reasoning)


class _Part(msgspec.Struct, gc=False):
    text: str | None = None
    refusal: str | None = None


class _Item(msgspec.Struct, gc=False):
    """An item of a response's output."""

    type: str | None = None
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    arguments: str | None = None


class _Response(msgspec.Struct, gc=False):
    usage: Report | None = None
    service_tier: str | None = None
    output: list[_Item] | None = None


class _Payload(msgspec.Struct, gc=False):
    choices: list[Choice] | None = None
    usage: Report | None = None
    service_tier: str | None = None
    type: str | None = None
    delta: str | None = None
    response: _Response | None = None
    output: list[_Item] | None = None
    error: msgspec.Raw = _NOTHING
    status: msgspec.Raw = _NOTHING


_decode = msgspec.json.Decoder(_Payload).decode
_encode = msgspec.json.Encoder().encode
_FIRST_RARE = _Payload.__struct_fields__.index("service_tier")
_NOTHING_RARE = msgspec.structs.astuple(_Payload())[_FIRST_RARE:]


def contents_of(payload: bytes) -> Contents | None:
    """Read an event's data or a whole answer.

    None where it is no JSON object.
    """
    try:
        parsed = _decode(payload)
    except UNREADABLE:
        return _contents_of_odd(payload)
    usage = parsed.usage.read() if parsed.usage is not None else None
    text_bytes = 0
    if parsed.choices and (usage is None or not usage.total_tokens):  # else nobody asks for it
        text_bytes = text_of_choices(parsed.choices)
    contents = Contents(usage, text_bytes)
    if msgspec.structs.astuple(parsed)[_FIRST_RARE:] != _NOTHING_RARE:
        _add_rare(contents, parsed)
    return contents


def _add_rare(contents: Contents, parsed: _Payload) -> None:
    """Add what chat completions have none of, but for errors and tiers."""
    kind = parsed.type
    if parsed.delta and not parsed.choices and _tells_text(kind):
        contents.text_bytes = size_of(parsed.delta)
    if parsed.response is not None:
        _add_response(contents, parsed.response)
    if parsed.service_tier is not None:
        contents.service_tier = parsed.service_tier
    if parsed.output:
        _add_output(contents, parsed.output)
    if kind in _ENDS:
        contents.ended = True
    elif parsed.error is not _NOTHING or kind == "error":
        contents.failed = kind == "error" or bytes(parsed.error).translate(None, b" \t\r\n") not in _NO_ERROR
    if parsed.status is not _NOTHING:
        contents.unfinished = bytes(parsed.status) in _UNFINISHED


def _tells_text(kind: str | None) -> bool:
    return kind is not None and kind.endswith("delta") and "audio.delta" not in kind


def _add_response(contents: Contents, response: _Response) -> None:
    if contents.usage is None and response.usage is not None:
        contents.usage = response.usage.read()
    if response.service_tier is not None:
        contents.service_tier = response.service_tier
    if response.output:
        _add_output(contents, response.output)


def _add_output(contents: Contents, items: list[_Item]) -> None:
    contents.whole_text_bytes = _text_of_output(items)
    _add_calls(contents, [item.type for item in items])


def _add_calls(contents: Contents, types: Sequence[str | None]) -> None:
    """Count calls of tools, and images made, by the items' types."""
    calls = ToolCalls(*(types.count(name) for name in _CALLS))
    if any(calls):
        contents.tools = calls
    contents.images = types.count("image_generation_call")


def _text_of_output(items: list[_Item]) -> int:
    size = 0
    for item in items:
        size += size_of(item.arguments)
        for part in (*(item.content or ()), *(item.summary or ())):
            size += size_of(part.text) + size_of(part.refusal)
    return size


def _contents_of_odd(payload: bytes) -> Contents | None:
    """Read JSON of odd types: content in parts, counts as texts."""
    top = top_members(payload)
    if top is None:
        return None
    scan = JsonScan()
    scan.feed(payload)
    scan.end()
    kind, error = bytes(top.type).strip(b'"').decode(errors="replace"), bytes(top.error).translate(None, b" \t\r\n")
    contents = Contents(
        usage_of(payload),
        scan.text_bytes,
        failed=kind not in _ENDS and (kind == "error" or error not in _NO_ERROR),
        ended=kind in _ENDS,
        unfinished=bytes(top.status) in _UNFINISHED,
    )
    inner = top_members(bytes(top.response)) or top
    contents.service_tier = _text(inner.service_tier) or _text(top.service_tier)
    _add_calls(contents, _types(inner.output))
    return contents


class _Typed(msgspec.Struct, gc=False):
    type: msgspec.Raw = _NOTHING


def _types(output: msgspec.Raw) -> list[str | None]:
    try:
        return [_text(item.type) for item in msgspec.json.decode(output, type=list[_Typed])]
    except UNREADABLE:
        return []


def _text(value: msgspec.Raw) -> str | None:
    found = decoded(value) if bytes(value).startswith(b'"') else None
    return found if isinstance(found, str) else None


USAGE_READER = UsageReader(contents=contents_of, scan=JsonScan, texts=texts_of)


class _Transcript(msgspec.Struct):
    text: str | None = None
    duration: msgspec.Raw = _NOTHING  # of a verbose one


_decode_transcript = msgspec.json.Decoder(_Transcript).decode


def transcript_contents(payload: bytes) -> Contents | None:
    """Read a transcription, or an event of one, whose `text` is everything."""
    contents = contents_of(payload)
    if contents is None:
        return None
    try:
        transcript = _decode_transcript(payload)
    except UNREADABLE:
        return contents
    if transcript.text:
        contents.whole_text_bytes = max(contents.whole_text_bytes, size_of(transcript.text))
    if contents.usage is None and transcript.duration is not _NOTHING:
        seconds = seconds_of(decoded(transcript.duration))
        contents.usage = Usage(details=UsageDetails(audio_seconds=seconds)) if seconds else None
    return contents


TRANSCRIPT_USAGE_READER = UsageReader(contents=transcript_contents, scan=JsonScan)
