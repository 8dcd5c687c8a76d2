"""Conversations and their items."""

from __future__ import annotations

from aiohttp import web

from gateway.demo.upstream.bodies import answer, fields_of
from gateway.demo.upstream.desk import Json, Refused, deleted, desk_of, new_id, now, page
from gateway.demo.upstream.response_shapes import items_of


def _shown(kept: Json) -> Json:
    return {name: value for name, value in kept.items() if name != "items"}


async def create(request: web.Request) -> web.StreamResponse:
    fields = await fields_of(request)
    about: Json = {"id": new_id("conv_"), "object": "conversation", "created_at": now()}
    kept = about | {"metadata": fields.get("metadata") or {}, "items": items_of(fields.get("items"))}
    return answer(_shown(desk_of(request).conversations.put(kept["id"], kept)))


async def show(request: web.Request) -> web.StreamResponse:
    return answer(_shown(desk_of(request).conversations.get(request.match_info["id"])))


async def update(request: web.Request) -> web.StreamResponse:
    kept = desk_of(request).conversations.get(request.match_info["id"])
    kept["metadata"] = (await fields_of(request)).get("metadata") or {}
    return answer(_shown(kept))


async def delete(request: web.Request) -> web.StreamResponse:
    name = request.match_info["id"]
    desk_of(request).conversations.take(name)
    return answer(deleted(name, "conversation.deleted"))


async def add_items(request: web.Request) -> web.StreamResponse:
    kept = desk_of(request).conversations.get(request.match_info["id"])
    added = items_of((await fields_of(request, "items"))["items"])
    kept["items"] += added
    return answer(page(added, {"order": "asc", "limit": "100"}))


async def list_items(request: web.Request) -> web.StreamResponse:
    kept = desk_of(request).conversations.get(request.match_info["id"])
    return answer(page(kept["items"], request.query))


async def show_item(request: web.Request) -> web.StreamResponse:
    return answer(_item(desk_of(request).conversations.get(request.match_info["id"]), request.match_info["item"]))


async def delete_item(request: web.Request) -> web.StreamResponse:
    kept = desk_of(request).conversations.get(request.match_info["id"])
    kept["items"].remove(_item(kept, request.match_info["item"]))
    return answer(_shown(kept))


def _item(kept: Json, name: str) -> Json:
    for item in kept["items"]:
        if item["id"] == name:
            return dict(item)
    raise Refused(f"No item found with id '{name}'.", status=404, param="item_id")


ROUTES = [
    web.post("/conversations", create),
    web.get("/conversations/{id}", show),
    web.post("/conversations/{id}", update),
    web.delete("/conversations/{id}", delete),
    web.post("/conversations/{id}/items", add_items),
    web.get("/conversations/{id}/items", list_items),
    web.get("/conversations/{id}/items/{item}", show_item),
    web.delete("/conversations/{id}/items/{item}", delete_item),
]
