"""Requests read, answers and streams of events written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import orjson
from aiohttp import web

from gateway.demo.upstream.desk import Json, Refused, desk_of

DONE = b"data: [DONE]\n\n"
MAX_BODY_BYTES = 32 * 2**20


async def fields_of(request: web.Request, *required: str) -> Json:
    """Read a body of JSON or of a form. Raises Refused.

    Of a form without its files.
    """
    if request.content_type == "multipart/form-data":
        form = await form_of(request)
        fields: Any = {name: value for name, value in form.items() if isinstance(value, str)}
    else:
        raw = await request.read()
        try:
            fields = orjson.loads(raw) if raw else {}
        except orjson.JSONDecodeError:
            raise Refused("We could not parse the JSON body of your request.") from None
    if not isinstance(fields, dict):
        raise Refused("The body of your request is not a JSON object.")
    return needing(fields, *required)


def needing(fields: Json, *required: str) -> Json:
    """Return the fields, in which these must be. Raises Refused."""
    for name in required:
        if fields.get(name) in (None, ""):
            code = "missing_required_parameter"
            raise Refused(f"Missing required parameter: '{name}'.", param=name, code=code)
    return fields


async def form_of(request: web.Request) -> dict[str, str | web.FileField | list[Any]]:
    """Read a form; fields that repeat (`image[]`) become lists. Raises Refused."""
    if request.content_type not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        raise Refused(f"Unsupported content type: '{request.content_type}'. Use 'multipart/form-data'.")
    try:
        sent = await request.post()
    except ValueError:
        raise Refused("We could not parse the form of your request.") from None
    form: dict[str, Any] = {}
    for name, value in sent.items():
        text = value.decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else value
        plain = name.removesuffix("[]")
        if plain in form or name != plain:
            held = form.get(plain)
            form[plain] = [*(held if isinstance(held, list) else [held] if held is not None else []), text]
        else:
            form[plain] = text
    return form


def file_of(form: dict[str, Any], name: str) -> web.FileField:
    """Return a form's file, the first of several. Raises Refused."""
    found = form.get(name)
    found = found[0] if isinstance(found, list) and found else found
    if not isinstance(found, web.FileField):
        raise Refused(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    return found


def whole_number(value: Any, otherwise: int, most: int) -> int:
    """Read a number that may be text, within 1 … `most`."""
    text = str(value)
    return max(1, min(int(text), most)) if text.isdecimal() else otherwise


def is_true(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.lower() in ("true", "1"))


def answer(body: Json) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")


def event(data: Json, name: str | None = None) -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: %b\n\n" % orjson.dumps(data)


async def stream(request: web.Request, events: Iterable[bytes]) -> web.StreamResponse:
    """Send events one by one, each after a moment."""
    pause = desk_of(request).pause_seconds
    response = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-cache"})
    await response.prepare(request)
    for each in events:
        await response.write(each)
        if pause:
            await asyncio.sleep(pause)
    return response
