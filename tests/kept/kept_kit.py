"""A gateway over accounts that each keep their own objects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit import KEYS, FakeUpstream, GatewayProcess
from kit.gateway import config
from kit.keeping import Keeping
from kit.stage import Record, endpoint, model
from kit.wire import Reply, Wire, request_bytes
from openai import AsyncOpenAI

EXTRA = ["videos", "containers", "evals", "fine_tuning", "skills"]


@dataclass
class KeepingGateway:
    """A gateway, and what its upstreams keep."""

    gateway: GatewayProcess
    upstream: FakeUpstream
    keeping: Keeping

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.port}/v1"

    def client(self, key: str = "user", **more: Any) -> AsyncOpenAI:
        """The official client, with the key of this name."""
        return AsyncOpenAI(base_url=self.url, api_key=KEYS[key], max_retries=0, **more)

    async def ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | bytes | None = None,
        *,
        key: str = "user",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Reply:
        """One request below /v1, and its whole answer."""
        async with Wire.open(self.gateway.port) as wire:
            close = [("connection", "close"), *headers]
            await wire.send(request_bytes(method, f"/v1{path}", body, key=KEYS[key], headers=close))
            return await wire.reply()

    async def input_file(self, *, key: str = "user") -> str:
        """The input of a batch, uploaded."""
        content = b'{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"model":"pair"}}'
        async with self.client(key) as client:
            return (await client.files.create(file=("in.jsonl", content), purpose="batch")).id


def models(upstream: FakeUpstream) -> Iterator[Record]:
    """`pair` has two accounts, `near` the first of them, `poor` none that keeps anything, `far` one of its own."""
    first, second = endpoint(upstream, "a"), endpoint(upstream, "b")
    yield model("pair", [first, second])
    yield model("near", [first])
    yield model("far", [endpoint(upstream, "c")])
    yield model("poor", [endpoint(upstream, "d", objects=False)])


@asynccontextmanager
async def started(directory: Path, **sections: Any) -> AsyncIterator[KeepingGateway]:
    keeping = Keeping()
    upstream = await FakeUpstream.start(keeping)
    try:
        settings = config(list(models(upstream)), **sections)
        async with GatewayProcess.start(settings, directory) as gateway:
            yield KeepingGateway(gateway, upstream, keeping)
            assert gateway.is_running, gateway.output()
        assert [line for line in gateway.logs if "exception" in line] == []
        assert not gateway.noise, gateway.noise
    finally:
        await upstream.close()
    assert upstream.faults == []
