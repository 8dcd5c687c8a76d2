"""Read the usage of images and speech.

What is made is images or speech: an output that is reported as a plain number is of that kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from gateway.dialects.base import Contents, Usage, UsageReader
from gateway.dialects.openai.metering.answer_scan import JsonScan
from gateway.dialects.openai.metering.contents import contents_of
from gateway.dialects.openai.metering.usage_report import read_report
from gateway.dialects.openai.payload import UNREADABLE
from gateway.types import UsageDetails

Made = Literal["audio_output_tokens", "image_output_tokens"]
_NO_DETAILS = UsageDetails()
_IMAGE_DONE = frozenset(("image_generation.completed", "image_edit.completed"))


class _Entry(msgspec.Struct, gc=False):
    """An image of `data`; what it holds is skipped."""


class _Images(msgspec.Struct, gc=False):
    data: list[_Entry] | None = None
    type: str | None = None


_decode_images = msgspec.json.Decoder(_Images).decode


def image_contents(payload: bytes) -> Contents | None:
    """Read an answer with images, or an event of their stream."""
    contents = contents_of(payload)
    if contents is not None:
        contents.images = _images_in(payload)
        contents.usage = _made(contents.usage, "image_output_tokens")
    return contents


def speech_contents(payload: bytes) -> Contents | None:
    """Read an event of streamed speech."""
    contents = contents_of(payload)
    if contents is not None:
        contents.usage = _made(contents.usage, "audio_output_tokens")
    return contents


def _images_in(payload: bytes) -> int:
    try:
        parsed = _decode_images(payload)
    except UNREADABLE:
        return 0
    return len(parsed.data) if parsed.data is not None else int(parsed.type in _IMAGE_DONE)


def _made(usage: Usage | None, kind: Made) -> Usage | None:
    """Count the output as `kind` where no kinds of it are reported."""
    if usage is None or not usage.completion_tokens or usage.reasoning_tokens:
        return usage
    details = usage.details or _NO_DETAILS
    if details.audio_output_tokens or details.image_output_tokens:
        return usage
    return msgspec.structs.replace(usage, details=msgspec.structs.replace(details, **{kind: usage.completion_tokens}))


def _reading(kind: Made) -> Callable[[object], Usage | None]:
    return lambda report: _made(read_report(report), kind)


IMAGE_USAGE_READER = UsageReader(contents=image_contents, scan=lambda: JsonScan(read=_reading("image_output_tokens")))
SPEECH_USAGE_READER = UsageReader(contents=speech_contents, scan=lambda: JsonScan(read=_reading("audio_output_tokens")))
