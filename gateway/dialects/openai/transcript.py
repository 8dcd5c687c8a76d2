"""Read the usage and the text of transcriptions, whole or streamed."""

from __future__ import annotations

import msgspec

from gateway.dialects.base import Contents, Usage, UsageReader
from gateway.dialects.openai.answer_scan import JsonScan
from gateway.dialects.openai.contents import contents_of
from gateway.dialects.openai.payload import UNREADABLE
from gateway.dialects.openai.usage_report import decoded, seconds_of
from gateway.types import UsageDetails


class _Answer(msgspec.Struct):
    text: str | None = None
    duration: msgspec.Raw | None = None  # of a verbose one


_decode = msgspec.json.Decoder(_Answer).decode


def transcript_contents(payload: bytes) -> Contents | None:
    """Read an event or a whole answer, whose `text` is everything."""
    contents = contents_of(payload)
    if contents is None:
        return None
    try:
        answer = _decode(payload)
    except UNREADABLE:
        return contents
    if answer.text:
        size = len(answer.text.encode("utf-8", "surrogatepass"))
        contents.whole_text_bytes = max(contents.whole_text_bytes, size)
    if contents.usage is None and answer.duration is not None:
        seconds = seconds_of(decoded(answer.duration))
        contents.usage = Usage(details=UsageDetails(audio_seconds=seconds)) if seconds else None
    return contents


TRANSCRIPT_USAGE_READER = UsageReader(contents=transcript_contents, scan=JsonScan)
