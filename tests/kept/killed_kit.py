"""Clients that read ids until their gateway is killed, and who knows them afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kept_kit import models
from kit import KEYS, FakeUpstream, GatewayProcess
from kit.forms import Field, form_request
from kit.gateway import config
from kit.keeping import Keeping
from kit.wire import DEADLINE_SECONDS, Reply, Wire, request_bytes

_ID = re.compile(rb'"id":\s*"((resp|conv|vs|file)_[a-z]_[0-9]+)"')
_PATHS = {"resp": "responses", "conv": "conversations", "vs": "vector_stores", "file": "files"}
_GONE = (OSError, asyncio.IncompleteReadError, ValueError)  # what a client meets whose gateway has been killed


@dataclass
class Seen:
    """What clients have read off the wire: id and whose."""

    made: dict[str, str] = field(default_factory=dict)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, data: bytes, key: str) -> None:
        for found, _ in _ID.findall(data):
            self.made.setdefault(found.decode(), key)
        if self.made:
            self.came.set()


class Mortal:
    """A gateway that is killed and comes back on the same directory."""

    def __init__(self, settings: dict[str, Any], directory: Path, keeping: Keeping) -> None:
        self.keeping = keeping
        self._settings = settings
        self._directory = directory
        self._running = AsyncExitStack()

    async def start(self) -> None:
        self.gateway = await self._running.enter_async_context(GatewayProcess.start(self._settings, self._directory))

    async def kill(self) -> None:
        """SIGKILL to the process and each of its workers."""
        pid = self.gateway.process.pid
        for each in [pid, *self.workers()]:
            os.kill(each, signal.SIGKILL)
        await self.gateway.process.wait()
        await self._running.pop_all().aclose()

    def workers(self) -> list[int]:
        pid = self.gateway.process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    async def stop(self) -> None:
        await self._running.aclose()

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None, *, key: str = "user") -> Reply:
        async with Wire.open(self.gateway.port) as wire:
            await wire.send(request_bytes(method, f"/v1{path}", body, key=KEYS[key], headers=[("connection", "close")]))
            return await wire.reply()

    async def read_ids(self, seen: Seen, number: int) -> None:
        """Ask for one thing after another until the gateway has gone; what was read counts, also of half an answer."""
        while True:
            try:
                async with Wire.open(self.gateway.port) as wire:
                    while True:
                        key = ("user", "panel")[number % 2]
                        await wire.send(_request(number, KEYS[key]))
                        await self._read(wire, seen, key)
                        number += 1
            except _GONE:
                if self.gateway.process.returncode is not None:
                    return

    async def _read(self, wire: Wire, seen: Seen, key: str) -> None:
        head, data = await wire.head(), b""
        while piece := await wire.piece():
            data += piece
            seen.note(data, key)
        if head.status not in (200, 503):
            raise AssertionError((head.status, data))

    async def assert_known(self, object_id: str, key: str) -> None:
        """It is its owner's, at the endpoint that keeps it, and nobody else's."""
        prefix, at, _ = object_id.split("_")
        path = f"/{_PATHS[prefix]}/{object_id}"
        answer = await self.settled(path, key)
        assert answer.status == 200, (object_id, answer.status, answer.body)
        assert self.keeping.asked[-1] == (at, "GET", path[1:])
        assert (await self.settled(path, "stranger")).error()["code"] == "object_not_found"

    async def settled(self, path: str, key: str) -> Reply:
        """The answer once the index can tell: 503 while it is brought up to date."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (answer := await self.ask("GET", path, key=key)).status == 503:  # noqa: ASYNC110 - another process acts
                await asyncio.sleep(0.02)
        return answer


def _request(number: int, key: str) -> bytes:
    answers = {"model": "pair", "input": "Hi"}
    match number % 5:
        case 0:
            return request_bytes("POST", "/v1/responses", answers, key=key)
        case 1:
            return request_bytes("POST", "/v1/responses", answers | {"stream": True}, key=key)
        case 2:
            return request_bytes("POST", "/v1/conversations", {}, key=key)
        case 3:
            return request_bytes("POST", "/v1/vector_stores", {"name": "x"}, key=key)
    form = [Field("purpose", b"user_data"), Field("file", b"what it holds", "a.txt", "text/plain")]
    return form_request("/v1/files", form, key=key)


@asynccontextmanager
async def mortal(directory: Path, **sections: Any) -> AsyncIterator[Mortal]:
    keeping = Keeping()
    upstream = await FakeUpstream.start(keeping)
    one = Mortal(json.loads(json.dumps(config(list(models(upstream)), **sections))), directory, keeping)
    try:
        yield one
    finally:
        await one.stop()
        await upstream.close()
