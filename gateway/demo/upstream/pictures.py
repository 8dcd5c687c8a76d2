"""Images: a small PNG, whatever is asked for."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator

from aiohttp import web

from gateway.demo.upstream.bodies import (
    answer,
    event,
    fields_of,
    file_of,
    form_of,
    is_true,
    needing,
    stream,
    whole_number,
)
from gateway.demo.upstream.desk import Desk, Json, desk_of, now
from gateway.demo.upstream.words import count_words

SIDE, MOST_IMAGES, IMAGE_TOKENS = 64, 10, 272


def png() -> bytes:
    """Draw a gradient of `SIDE` pixels square."""
    rows = [
        b"\0" + bytes(value for x in range(SIDE) for value in (4 * x, 4 * y, 255 - 2 * (x + y))) for y in range(SIDE)
    ]
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def images(_: Desk, fields: Json) -> Json:
    """Answer with `n` pictures."""
    needing(fields, "prompt")
    return _pictures(fields) | _about(fields) | {"usage": _usage(fields)}


def _pictures(fields: Json) -> Json:
    drawn = base64.b64encode(png()).decode()
    is_url = fields.get("response_format") == "url"
    one = {"url": f"data:image/png;base64,{drawn}"} if is_url else {"b64_json": drawn}
    return {"created": now(), "data": [one] * whole_number(fields.get("n"), 1, MOST_IMAGES)}


def _about(fields: Json) -> Json:
    return {"background": "opaque", "output_format": "png", "quality": "low", "size": fields.get("size") or "1024x1024"}


def _usage(fields: Json) -> Json:
    text = max(1, count_words(fields.get("prompt")))
    image = IMAGE_TOKENS if "image" in fields else 0
    made = IMAGE_TOKENS * whole_number(fields.get("n"), 1, MOST_IMAGES)
    return {
        "input_tokens": text + image,
        "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        "output_tokens": made,
        "total_tokens": text + image + made,
    }


def _events(fields: Json, kind: str) -> Iterator[bytes]:
    about = _about(fields) | {"created_at": now(), "b64_json": base64.b64encode(png()).decode()}
    for index in range(whole_number(fields.get("partial_images") or 0, 0, 3) if fields.get("partial_images") else 0):
        name = f"{kind}.partial_image"
        yield event(about | {"type": name, "partial_image_index": index}, name)
    name = f"{kind}.completed"
    yield event(about | {"type": name, "usage": _usage(fields)}, name)


async def generate(request: web.Request) -> web.StreamResponse:
    fields = needing(await fields_of(request), "prompt")
    if is_true(fields.get("stream")):
        return await stream(request, _events(fields, "image_generation"))
    return answer(images(desk_of(request), fields))


async def edit(request: web.Request) -> web.StreamResponse:
    if request.content_type == "application/json":  # pictures by their address or id
        fields = needing(await fields_of(request), "prompt")
    else:
        fields = needing(dict(await form_of(request)), "prompt")
        file_of(fields, "image")
    if is_true(fields.get("stream")):
        return await stream(request, _events(fields, "image_edit"))
    return answer(images(desk_of(request), fields | {"image": True}))


async def vary(request: web.Request) -> web.StreamResponse:
    form = await form_of(request)
    file_of(form, "image")
    return answer(_pictures(form))


ROUTES = [
    web.post("/images/generations", generate),
    web.post("/images/edits", edit),
    web.post("/images/variations", vary),
]
