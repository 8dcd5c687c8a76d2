"""Upstreams that keep objects as OpenAI does: each endpoint its own, and none of another's."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from kit.answers import answer, event, events
from kit.forms import fields_of
from kit.upstream import Behaviour, Received

Json = dict[str, Any]
# What POST on a collection makes: the prefix of its ids, and its `object`.
MADE = {
    "responses": ("resp", "response"),
    "chat/completions": ("chatcmpl", "chat.completion"),
    "files": ("file", "file"),
    "uploads": ("upload", "upload"),
    "batches": ("batch", "batch"),
    "vector_stores": ("vs", "vector_store"),
    "conversations": ("conv", "conversation"),
    "containers": ("cntr", "container"),
    "evals": ("eval", "eval"),
    "fine_tuning/jobs": ("ftjob", "fine_tuning.job"),
    "videos": ("video", "video"),
    "skills": ("skill", "skill"),
}
_REFERRING = ("previous_response_id", "conversation", "input_file_id")
_USAGE = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}


class Keeping:
    """A behaviour for many endpoints. `kept` is what each has, by its id; `asked` what they were asked."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Json]] = defaultdict(dict)
        self.asked: list[tuple[str, str, str]] = []  # endpoint, method, route
        self.hosts_anything = False  # GET finds whatever id it is asked for
        self._made = 0

    async def __call__(self, request: Received) -> None:
        self.asked.append((request.endpoint, request.method, request.route))
        await self._behaviour(request)(request)

    def at(self, endpoint: str) -> list[tuple[str, str]]:
        """What this endpoint was asked."""
        return [(method, route) for each, method, route in self.asked if each == endpoint]

    def _behaviour(self, request: Received) -> Behaviour:
        kept, fields = self.kept[request.endpoint], _fields(request)
        collection = next((each for each in MADE if each == request.route), None)
        if request.method == "POST" and collection is not None:
            return self._make(request.endpoint, collection, fields)
        ids = [each for each in request.route.split("/") if each in kept]
        if not ids and self.hosts_anything:
            made = {"id": request.route.split("/")[-1], "object": "thing", "created_at": 1}
            return answer(200, made | {"fine_tuned_model": "ft:made"} if "jobs" in request.route else made)
        if not ids:
            return _not_found(f"nothing here: {request.method} {request.route}")
        return self._of_one(request, kept, ids[0], fields)

    def _of_one(self, request: Received, kept: dict[str, Json], object_id: str, fields: Json) -> Behaviour:
        one, rest = kept[object_id], request.route.partition(object_id)[2]
        if request.method == "DELETE" and not rest:
            del kept[object_id]
            return answer(200, {"id": object_id, "object": f"{one['object']}.deleted", "deleted": True})
        if rest == "/content":
            return answer(200, b"what it holds", content_type="application/octet-stream")
        if rest in ("/cancel", "/complete"):
            one["status"] = {"/cancel": "cancelled", "/complete": "completed"}[rest]
            if one["object"] == "upload" and rest == "/complete":
                one["file"] = {"id": f"file_of_{object_id}", "object": "file", "created_at": 5, "purpose": "batch"}
                kept[one["file"]["id"]] = one["file"]
        elif rest:
            return answer(200, {"object": "list", "data": [], "has_more": False})
        elif "stream=true" in request.target:
            return events(*_response_events(one, since=1))
        one |= {key: value for key, value in fields.items() if key in ("metadata", "name")}
        return answer(200, one)

    def _make(self, endpoint: str, collection: str, fields: Json) -> Behaviour:
        for name in _REFERRING:
            value = fields.get(name)
            named = value.get("id") if isinstance(value, dict) else value
            if named is not None and named not in self.kept[endpoint]:
                return _refusal(f"{name} {named} not found")
        prefix, kind = MADE[collection]
        self._made += 1
        made: Json = {"id": f"{prefix}_{endpoint}_{self._made}", "object": kind, "created_at": self._made}
        made |= {key: value for key, value in fields.items() if key in ("metadata", "name", "purpose", "input_file_id")}
        made |= _particulars(kind, made["id"], fields)
        self.kept[endpoint][made["id"]] = made
        if kind == "response" and fields.get("stream"):
            return events(*_response_events(made))
        return answer(200, made)


def _particulars(kind: str, made: str, fields: Json) -> Json:
    if kind == "response":
        reasoning = {"id": f"rs_{made}", "type": "reasoning", "summary": [], "encrypted_content": f"sealed {made}"}
        message = {"id": f"msg_{made}", "type": "message", "role": "assistant", "status": "completed", "content": []}
        return {"status": "completed", "model": fields.get("model"), "output": [reasoning, message], "usage": _USAGE}
    if kind == "chat.completion":
        message = {"role": "assistant", "content": "Hi"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return {"created": 3, "model": fields.get("model"), "choices": choices}
    if kind in ("batch", "fine_tuning.job"):
        return {"status": "validating" if kind == "batch" else "queued", "output_file_id": None}
    return {"status": "completed"}


def _response_events(made: Json, since: int = 0) -> list[bytes]:
    item = made["output"][1]
    said: list[Json] = [
        {"type": "response.created", "response": made | {"output": [], "usage": None, "status": "in_progress"}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_text.delta", "item_id": item["id"], "delta": "Hi"},
        {"type": "response.completed", "response": made},
    ]
    numbered = [each | {"sequence_number": number} for number, each in enumerate(said)]
    return [event(each, name=str(each["type"])) for each in numbered[since:]]


def _fields(request: Received) -> Json:
    if (request.header("content-type") or "").startswith("multipart/"):
        return {field.name: field.content.decode() for field in fields_of(request) if field.filename is None}
    found = json.loads(request.body) if request.body.startswith(b"{") else {}
    return found if isinstance(found, dict) else {}


def _not_found(message: str) -> Behaviour:
    return answer(404, {"error": {"message": message, "type": "upstream", "param": None, "code": "upstream_404"}})


def _refusal(message: str) -> Behaviour:
    return answer(400, {"error": {"message": message, "type": "upstream", "param": None, "code": "upstream_400"}})
