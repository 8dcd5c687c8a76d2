"""Read the usage and the text of transcriptions, whole or streamed."""

from __future__ import annotations

import msgspec

from gateway.dialects.base import Contents, UsageReader
from gateway.dialects.openai.answer_scan import JsonScan
from gateway.dialects.openai.contents import contents_of
from gateway.dialects.openai.payload import UNREADABLE


class _Answer(msgspec.Struct):
    text: str | None = None


_decode = msgspec.json.Decoder(_Answer).decode


def transcript_contents(payload: bytes) -> Contents | None:
    """Read an event or a whole answer, whose `text` is everything."""
    contents = contents_of(payload)
    if contents is None:
        return None
    try:
        text = _decode(payload).text
    except UNREADABLE:
        text = None
    if text:
        contents.whole_text_bytes = max(contents.whole_text_bytes, len(text.encode("utf-8", "surrogatepass")))
    return contents


TRANSCRIPT_USAGE_READER = UsageReader(contents=transcript_contents, scan=JsonScan)
