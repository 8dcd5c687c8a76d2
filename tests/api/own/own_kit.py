"""A gateway with keys of several kinds, and callers of the routes of own keys."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kit import FakeUpstream, Reply, Stage, Wire, ask, request_bytes
from kit.gateway import KEYS
from kit.stage import Record, endpoint, model

MAKER = "sk-maker-0123456789abcdefghijk"
BOUND = "sk-bound-0123456789abcdefghijk"
ALL = "sk-all-0123456789abcdefghijklm"
ADMIN = "sk-admin-0123456789abcdefghijk"


def two_models(upstream: FakeUpstream) -> list[Record]:
    return [model(name, [endpoint(upstream, name)], **{"global": True}, aliases=[f"{name}-alias"]) for name in "ab"]


@asynccontextmanager
async def opened(directory: Path, **sections: Any) -> AsyncIterator[Stage]:
    keys = [
        {"id": "maker", "user": 42, "key": MAKER, "scopes": ["ai:use", "usage:read"]},
        {"id": "bound", "user": 42, "key": BOUND, "models": ["a-alias"], "limits": {"requests": 3, "period": "day"}},
        {"id": "admin", "user": "root", "key": ADMIN, "scopes": ["ai:use", "ai:manage"]},
        {"id": "all", "user": "root", "key": ALL, "scopes": ["ai:use", "ai:manage", "act:as"]},
        {"id": "stranger", "user": "stranger", "key": KEYS["stranger"]},
        {"id": "panel", "user": "panel", "key": KEYS["panel"], "scopes": ["ai:use", "act:as"]},
    ]
    async with Stage.open(directory, two_models, keys=keys, **sections) as stage:
        yield stage


async def call(stage: Stage, method: str, path: str, body: Any = None, *, key: str = MAKER, **headers: str) -> Reply:
    payload = None if body is None else json.dumps(body).encode()
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes(method, path, payload, key=key, headers=named))
        return await wire.reply()


async def made(stage: Stage, *, key: str = MAKER, **body: Any) -> dict[str, Any]:
    reply = await call(stage, "POST", "/api/ai/keys", body, key=key)
    assert reply.status == 201, reply
    assert reply.header("cache-control") == "no-store"
    answer: dict[str, Any] = reply.json()
    return answer


async def chat(stage: Stage, key: str, name: str = "a") -> tuple[int, str | None]:
    reply = await stage.post(ask(name), key=key)
    return reply.status, None if reply.status == 200 else str(reply.error()["code"])
