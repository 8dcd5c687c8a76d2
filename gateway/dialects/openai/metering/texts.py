"""Count an answer's text, for where no usage is reported.

Events that are text and nothing else, as most are, are read many at a time: one decoding in C for all of them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gateway.dialects.base import Contents
from gateway.dialects.event_batch import Batches


class _Function(msgspec.Struct, gc=False):
    arguments: str | None = None


class _ToolCall(msgspec.Struct, gc=False):
    function: _Function | None = None


class _Words(msgspec.Struct, gc=False):
    """A `delta` or a `message` of chat completions."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None


class Choice(msgspec.Struct, gc=False):
    """One of an answer's, whole or its next words."""

    delta: _Words | None = None
    message: _Words | None = None
    text: str | None = None


def text_of_choices(choices: list[Choice]) -> int:
    """Return the bytes of words, thoughts, refusals and arguments."""
    size = 0
    for choice in choices:
        words = choice.delta or choice.message
        if words is not None:
            size += _text_of_words(words)
        elif choice.text:
            size += size_of(choice.text)
    return size


def _text_of_words(words: _Words) -> int:
    size = size_of(words.content)
    if words.reasoning_content or words.reasoning:  # some upstreams tell it under both names
        size += size_of(words.reasoning_content or words.reasoning)
    if words.refusal:
        size += size_of(words.refusal)
    if words.tool_calls:
        functions = [call.function for call in words.tool_calls if call.function is not None]
        size += sum([size_of(function.arguments) for function in functions])
    if words.function_call is not None:
        size += size_of(words.function_call.arguments)
    return size


def size_of(text: str | None) -> int:
    """Return the bytes of a text in UTF-8; 0 for none."""
    if not text:
        return 0
    return len(text) if text.isascii() else len(text.encode())


class _PlainWords(msgspec.Struct, gc=False):
    """What else there may be has to be null."""

    content: str | None = None
    reasoning_content: None = None
    reasoning: None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None


class _PlainChoice(msgspec.Struct, gc=False):
    delta: _PlainWords


class _Chunk(msgspec.Struct, gc=False):
    """A chunk of a chat completion that is text alone."""

    service_tier: str | None = None
    usage: None = None
    error: None = None
    type: None = None
    delta: None = None
    response: None = None
    output: None = None


class _PlainChunk(_Chunk, gc=False, kw_only=True):
    choices: list[_PlainChoice]


class _AnyChunk(_Chunk, gc=False, kw_only=True):
    choices: list[Choice]


class _TextDelta(msgspec.Struct, gc=False):
    """An event of the responses route that is text alone."""

    delta: str
    type: Literal["response.output_text.delta"]
    choices: None = None
    usage: None = None
    error: None = None
    response: None = None
    output: None = None
    service_tier: None = None


def _plain_text(chunks: list[_PlainChunk]) -> Contents:
    words = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    return Contents(text_bytes=size_of("".join(words)), service_tier=_tier(chunks))


def _any_text(chunks: list[_AnyChunk]) -> Contents:
    return Contents(text_bytes=sum([text_of_choices(each.choices) for each in chunks]), service_tier=_tier(chunks))


def _tier(chunks: list[_PlainChunk] | list[_AnyChunk]) -> str | None:
    if chunks[-1].service_tier is not None:
        return chunks[-1].service_tier
    tiers = [chunk.service_tier for chunk in chunks if chunk.service_tier is not None]
    return tiers[-1] if tiers else None


def _delta_text(deltas: list[_TextDelta]) -> Contents:
    return Contents(text_bytes=size_of("".join([each.delta for each in deltas])))


_CHUNKS = Batches(b"data: ", (_PlainChunk, _plain_text), (_AnyChunk, _any_text))
_DELTAS = Batches(b"event: response.output_text.delta\ndata: ", (_TextDelta, _delta_text))


def texts_of(events: bytes) -> Contents | None:
    """Return the text of joined events that are nothing else.

    None where one of them may be: then each has to be read.
    """
    return _CHUNKS.read(events) if events.startswith(b"data") else _DELTAS.read(events)
