"""What the panel's tests share: how its routes are asked, and how its streams are read."""

from __future__ import annotations

import json
from typing import Any

from kit import KEYS, FreshModel, Reply, Stage, Wire, request_bytes

ACTING_KEY = "sk-acting-0123456789abcdefghij"  # acts for users, and may itself only use models
BOSS_KEY = "sk-boss-0123456789abcdefghijkl"  # of user `boss`: manages and reads usage
CHAT, STUDIO = "/api/ai/chat", "/api/ai/studio"
UNAVAILABLE = "AI service temporarily unavailable. Please try again shortly."


def talk(model: FreshModel | None = None, **fields: Any) -> dict[str, Any]:
    """A body of either route; without a model the assigned one is asked."""
    named = {} if model is None else {"modelId": f"id-{model.name}"}
    return {"message": "Hi"} | named | fields


async def post(stage: Stage, path: str, body: Any, *, key: str | None = KEYS["user"], user: str | None = None) -> Reply:
    """One request; `user`: whom the panel's key acts for."""
    headers = [] if user is None else [("x-gateway-user", user)]
    return await stage.post(body, path, prefix="", key=key if user is None else KEYS["panel"], headers=headers)


async def open_stream(wire: Wire, path: str, body: dict[str, Any]) -> Reply:
    """Asks for a stream and reads its head."""
    await wire.send(request_bytes("POST", path, body | {"stream": True}, key=KEYS["user"]))
    return await wire.head()


def told(body: bytes) -> list[Any]:
    """The events' data in order, JSON read; comments left out."""
    events = [each for each in body.decode().split("\n\n") if each and not each.startswith(":")]
    assert all(each.startswith("data: ") for each in events), events
    return [each[6:] if each == "data: [DONE]" else json.loads(each[6:]) for each in events]


def flat(reply: Reply) -> tuple[int, str]:
    """Status and code of one of the gateway's own errors, once its shape is seen to be the panel's."""
    document = reply.json()
    assert isinstance(document["error"], str), document
    assert document["message"], document
    assert reply.header("x-request-id") is not None
    assert reply.header("content-type") == "application/json"
    return reply.status, document["error"]
