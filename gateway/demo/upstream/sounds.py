"""Speech, transcriptions and translations; every sound is one short tone."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from gateway.demo.upstream.bodies import answer, event, fields_of, file_of, form_of, is_true, needing, stream
from gateway.demo.upstream.desk import Json, Refused
from gateway.demo.upstream.words import ANSWER, count_words

RATE, SECONDS, PITCH = 8_000, 0.25, 440
_PIECES = 4


def tone() -> bytes:
    """Return the samples of a tone: 16 bits, one channel."""
    count = int(RATE * SECONDS)
    return struct.pack(f"<{count}h", *(int(9_000 * math.sin(math.tau * PITCH * n / RATE)) for n in range(count)))


def wav() -> bytes:
    """Return the tone as a WAV file."""
    samples = tone()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    data = struct.pack("<4sI", b"data", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", 4 + len(form) + len(data)) + b"WAVE" + form + data


async def speak(request: web.Request) -> web.StreamResponse:
    fields = await fields_of(request, "model", "input", "voice")
    if fields.get("stream_format") == "sse":
        return await stream(request, _speech_events(fields))
    is_raw = fields.get("response_format") == "pcm"
    # Whatever format was asked for: no encoder of compressed sound is at hand, and a player knows a WAV by its bytes.
    kind = "audio/pcm" if is_raw else "audio/wav"
    return web.Response(body=tone() if is_raw else wav(), content_type=kind)


def _speech_events(fields: Json) -> Iterator[bytes]:
    whole = wav()
    size = len(whole) // _PIECES + 1
    for start in range(0, len(whole), size):
        audio = base64.b64encode(whole[start : start + size]).decode()
        yield event({"type": "speech.audio.delta", "audio": audio})
    words = max(1, count_words(fields["input"]))
    usage = {"input_tokens": words, "output_tokens": _PIECES, "total_tokens": words + _PIECES}
    yield event({"type": "speech.audio.done", "usage": usage})


# -- sound into text


async def transcribe(request: web.Request) -> web.StreamResponse:
    form = needing(dict(await form_of(request)), "model")
    file_of(form, "file")
    if is_true(form.get("stream")):
        return await stream(request, _transcript_events())
    return _written(form, "transcribe")


async def translate(request: web.Request) -> web.StreamResponse:
    form = needing(dict(await form_of(request)), "model")
    file_of(form, "file")
    return _written(form, "translate")


def _written(form: dict[str, Any], task: str) -> web.Response:
    shape = form.get("response_format") or "json"
    if shape in ("text", "srt", "vtt"):
        return web.Response(text=_as_text(str(shape)), content_type="text/plain")
    if shape == "json":
        return answer({"text": ANSWER} if task == "translate" else {"text": ANSWER, "usage": _usage()})
    if shape == "diarized_json":
        segment = {"id": "seg_0", "type": "transcript.text.segment", "speaker": "A", "text": ANSWER}
        about = {"task": task, "duration": SECONDS, "text": ANSWER, "usage": _usage()}
        return answer(about | {"segments": [segment | {"start": 0.0, "end": SECONDS}]})
    if shape != "verbose_json":
        raise Refused(f"Invalid value: '{shape}'.", param="response_format")
    return answer(_verbose(task))


def _verbose(task: str) -> Json:
    words = ANSWER.split(" ")
    each = SECONDS / len(words)
    segment = {"id": 0, "seek": 0, "start": 0.0, "end": SECONDS, "text": ANSWER, "tokens": [], "temperature": 0.0}
    return {
        "task": task,
        "language": "english",
        "duration": SECONDS,
        "text": ANSWER,
        "segments": [segment | {"avg_logprob": -0.1, "compression_ratio": 1.0, "no_speech_prob": 0.01}],
        "words": [{"word": word, "start": n * each, "end": (n + 1) * each} for n, word in enumerate(words)],
        "usage": {"type": "duration", "seconds": math.ceil(SECONDS)},
    }


def _as_text(shape: str) -> str:
    if shape == "srt":
        return f"1\n00:00:00,000 --> 00:00:00,250\n{ANSWER}\n"
    return f"WEBVTT\n\n00:00:00.000 --> 00:00:00.250\n{ANSWER}\n" if shape == "vtt" else f"{ANSWER}\n"


def _usage() -> Json:
    words = len(ANSWER.split(" "))
    heard = 10
    details = {"text_tokens": 0, "audio_tokens": heard}
    sums = {"input_tokens": heard, "output_tokens": words, "total_tokens": heard + words}
    return {"type": "tokens", "input_token_details": details} | sums


def _transcript_events() -> Iterator[bytes]:
    for word in ANSWER.split(" "):
        yield event({"type": "transcript.text.delta", "delta": f"{word} "})
    yield event({"type": "transcript.text.done", "text": ANSWER, "usage": _usage()})


ROUTES = [
    web.post("/audio/speech", speak),
    web.post("/audio/transcriptions", transcribe),
    web.post("/audio/translations", translate),
]
