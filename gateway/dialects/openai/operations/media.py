"""Pictures and sounds, made and read."""

from __future__ import annotations

from gateway.dialects.base import Json, RequestSchema
from gateway.dialects.openai.metering.contents import TRANSCRIPT_USAGE_READER
from gateway.dialects.openai.metering.made_usage import IMAGE_USAGE_READER, SPEECH_USAGE_READER
from gateway.dialects.openai.operations.parts import (
    ANYTHING,
    BINARY,
    EVENTS,
    FORM,
    JSON,
    SEARCH,
    STREAM,
    TRANSCRIPT,
    relayed,
)
from gateway.dialects.references import Position, Positions

_FILE: Json = {"type": "string", "format": "binary"}

IMAGES = relayed(
    path="/images/generations",
    name="ImagesGenerations",
    kind="images",
    summary="Images",
    is_text=False,
    has_fallbacks=True,
    usage=IMAGE_USAGE_READER,
    request=RequestSchema(
        fields={"prompt": {"type": "string"}}, example={"model": "painter", "prompt": "A lighthouse"}
    ),
    media=(JSON, EVENTS),
)
IMAGE_EDITS = relayed(
    path="/images/edits",
    name="ImagesEdits",
    kind="images",
    summary="Pictures changed",
    body=FORM,
    is_text=False,
    has_fallbacks=True,
    usage=IMAGE_USAGE_READER,
    pins=Positions((Position("images[].file_id", "file"), Position("mask.file_id", "file"))),
    prompt=SEARCH,
    request=RequestSchema(
        fields={"image": _FILE, "mask": _FILE, "prompt": {"type": "string"}} | STREAM,
        example={"model": "painter", "prompt": "A lighthouse by night"},
    ),
    media=(JSON, EVENTS),
)
IMAGE_VARIATIONS = relayed(
    path="/images/variations",
    name="ImagesVariations",
    kind="images",
    summary="Pictures like one",
    body=FORM,
    is_text=False,
    has_fallbacks=True,
    prompt=SEARCH,
    usage=IMAGE_USAGE_READER,
    request=RequestSchema(fields={"image": _FILE}, example={"model": "painter"}),
    media=(JSON,),
)
SPEECH = relayed(
    path="/audio/speech",
    name="AudioSpeech",
    kind="speech",
    summary="Speech",
    is_text=False,
    has_fallbacks=True,
    usage=SPEECH_USAGE_READER,
    request=RequestSchema(
        fields={"input": {"type": "string"}}, example={"model": "speaker", "input": "Hello!", "voice": "alloy"}
    ),
    # Sound of whatever kind; makers of clients know this name for bytes, and the other for none at all.
    media=(BINARY, ANYTHING),
)
TRANSCRIPTIONS = relayed(
    path="/audio/transcriptions",
    name="AudioTranscriptions",
    kind="transcriptions",
    summary="What was said",
    body=FORM,
    is_text=True,
    has_fallbacks=True,
    prompt=SEARCH,
    answer=TRANSCRIPT,
    usage=TRANSCRIPT_USAGE_READER,
    request=RequestSchema(
        fields={"file": _FILE, "language": {"type": "string"}, "prompt": {"type": "string"}} | STREAM,
        example={"model": "listener"},
    ),
    media=(JSON, EVENTS, "text/plain"),
)
TRANSLATIONS = relayed(
    path="/audio/translations",
    name="AudioTranslations",
    kind="transcriptions",
    summary="What was said, in English",
    body=FORM,
    is_text=True,
    has_fallbacks=True,
    prompt=SEARCH,
    answer=TRANSCRIPT,
    usage=TRANSCRIPT_USAGE_READER,
    request=RequestSchema(fields={"file": _FILE}, example={"model": "listener"}),
    media=(JSON, "text/plain"),
)

MEDIA_ROWS = (IMAGES, IMAGE_EDITS, IMAGE_VARIATIONS, SPEECH, TRANSCRIPTIONS, TRANSLATIONS)
