"""Responses: stored, chained, streamed, in the background."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from gateway.demo.upstream.bodies import answer, fields_of, is_true, needing, stream
from gateway.demo.upstream.desk import Desk, Json, Refused, deleted, desk_of, new_id, now, page
from gateway.demo.upstream.response_shapes import events_of, items_of, output_of, response_body
from gateway.demo.upstream.words import count_words, response_usage

# So long what runs in the background is queued, and then runs.
QUEUED_SECONDS, RUNNING_SECONDS = 0.5, 1.0
_FINAL = ("completed", "incomplete", "cancelled", "failed")


def respond(desk: Desk, fields: Json) -> Json:
    """Answer as a whole; keep it unless `store` is false."""
    needing(fields, "model")
    asked = items_of(fields.get("input"))
    before = _words_before(desk, fields)
    output, tokens, is_cut = output_of(fields, asked)
    words = before + count_words(asked) + count_words(fields.get("instructions"))
    whole = response_body(
        fields, output, response_usage(max(1, words), tokens), "incomplete" if is_cut else "completed"
    )
    if conversation := _conversation(desk, fields):
        conversation["items"] += [*asked, *output]
    if whole["store"]:
        size = 4_000 + sum(len(str(each)) for each in asked)
        desk.responses.put(whole["id"], {"id": whole["id"], "whole": whole, "input": asked, "words": words}, size)
    return whole


def _words_before(desk: Desk, fields: Json) -> int:
    """Count the words of the chain so far. Raises Refused."""
    name = fields.get("previous_response_id")
    if name is None:
        return sum(count_words(each) for each in (_conversation(desk, fields) or {}).get("items", ()))
    previous = desk.responses.find(str(name))
    if previous is None:
        message = f"Previous response with id '{name}' not found."
        raise Refused(message, param="previous_response_id", code="previous_response_not_found")
    return int(previous["words"]) + count_words(previous["whole"]["output"])


def _conversation(desk: Desk, fields: Json) -> Json | None:
    named = fields.get("conversation")
    name = named.get("id") if isinstance(named, dict) else named
    return None if name is None else desk.conversations.get(str(name))


async def create(request: web.Request) -> web.StreamResponse:
    desk, fields = desk_of(request), await fields_of(request)
    background = fields.get("background") is True
    if background and fields.get("store") is False:
        raise Refused("Background responses need 'store' to be true.", param="store")
    whole = respond(desk, fields)
    if background:
        desk.responses.get(whole["id"])["began"] = time.monotonic()
    if fields.get("stream") is True:
        return await stream(request, events_of(whole))
    return answer(_as_it_stands(desk, whole["id"]) if background else whole)


def _as_it_stands(desk: Desk, name: str) -> Json:
    """Return a response, which may still be in the background."""
    kept = desk.responses.get(name)
    whole: Json = kept["whole"]
    age = time.monotonic() - kept.get("began", 0.0)
    if "began" not in kept or whole["status"] == "cancelled" or age >= QUEUED_SECONDS + RUNNING_SECONDS:
        return whole
    status = "queued" if age < QUEUED_SECONDS else "in_progress"
    return whole | {"status": status, "output": [], "usage": None, "completed_at": None, "incomplete_details": None}


async def show(request: web.Request) -> web.StreamResponse:
    desk, name, query = desk_of(request), request.match_info["id"], request.query
    if not is_true(query.get("stream", "")):
        return answer(_as_it_stands(desk, name))
    after = query.get("starting_after", "")
    return await stream(request, events_of(desk.responses.get(name)["whole"], after=int(after or -1)))


async def delete(request: web.Request) -> web.StreamResponse:
    name = request.match_info["id"]
    desk_of(request).responses.take(name)
    return answer(deleted(name, "response"))


async def cancel(request: web.Request) -> web.StreamResponse:
    desk, name = desk_of(request), request.match_info["id"]
    kept, shown = desk.responses.get(name), _as_it_stands(desk, name)
    if not shown["background"]:
        raise Refused("Only responses created with background=true can be cancelled.", param="response_id")
    if shown["status"] not in _FINAL:
        kept["whole"] = shown = shown | {"status": "cancelled"}
    return answer(shown)


async def list_input_items(request: web.Request) -> web.StreamResponse:
    items = desk_of(request).responses.get(request.match_info["id"])["input"]
    return answer(page(items, request.query))


async def count_input_tokens(request: web.Request) -> web.StreamResponse:
    desk, fields = desk_of(request), await fields_of(request)
    words = _words_before(desk, fields) + count_words(items_of(fields.get("input")))
    words += count_words(fields.get("instructions")) + count_words(fields.get("tools"))
    return answer({"object": "response.input_tokens", "input_tokens": max(1, words)})


async def compact(request: web.Request) -> web.StreamResponse:
    desk, fields = desk_of(request), await fields_of(request, "model")
    asked = items_of(fields.get("input"))
    before = _words_before(desk, fields)
    kept: list[Any] = [item for item in asked if item.get("role") == "user"]
    sealed = {"id": new_id("cmp_"), "type": "compaction", "encrypted_content": new_id("demo-sealed-")}
    usage = response_usage(max(1, before + count_words(asked)), 1)
    about = {"id": new_id("resp_"), "object": "response.compaction", "created_at": now(), "usage": usage}
    return answer(about | {"output": [*kept, sealed]})


ROUTES = [
    web.post("/responses", create),
    web.post("/responses/input_tokens", count_input_tokens),
    web.post("/responses/compact", compact),
    web.get("/responses/{id}", show),
    web.delete("/responses/{id}", delete),
    web.post("/responses/{id}/cancel", cancel),
    web.get("/responses/{id}/input_items", list_input_items),
]
