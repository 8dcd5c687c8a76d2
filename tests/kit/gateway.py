"""The gateway as operators run it: a process of its own, started from a file, spoken to by signals, read by its log."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kit.forked import Forked, start_gateway
from kit.wire import DEADLINE_SECONDS, Reply, Wire, request_bytes

OURS = ("-m", "gateway")
LONGEST_LINE_BYTES = 1 << 20
# User 42 is a paying one; `panel` may act for others; `reader` lacks ai:use; `expired` was good once;
# `stranger` belongs to a user of whom nothing is written down.
KEYS = {
    "user": "sk-user-0123456789abcdefghijkl",
    "panel": "sk-panel-0123456789abcdefghijk",
    "reader": "sk-reader-0123456789abcdefghij",
    "expired": "sk-expired-0123456789abcdefghi",
    "stranger": "sk-stranger-0123456789abcdefgh",
}


def config(models: Sequence[dict[str, Any]], **sections: Any) -> dict[str, Any]:
    """A gateway.yaml as a dict: these models, `KEYS`, user 42; `sections` replace or add top-level sections.

    A section that is a mapping is merged into the one that is there: `server={"drain_seconds": 1}` keeps the port.
    With GATEWAY_TEST_FAST_LANE=false in the environment, aiohttp's application serves the relayed routes as well.
    """
    base: dict[str, Any] = {
        "server": {"host": "127.0.0.1", "port": 0, "drain_seconds": 2, "fast_lane": fast_lane()},
        "tiers": ["free", "paid", "enterprise"],
        "models": list(models),
        "users": [{"id": 42, "tier": "paid"}],
        "keys": [
            {"id": "user", "user": 42, "hash": _hash("user"), "scopes": ["ai:use"]},
            {"id": "panel", "user": "panel", "key": KEYS["panel"], "scopes": ["ai:use", "usage:read", "act:as"]},
            {"id": "reader", "user": 42, "hash": _hash("reader"), "scopes": ["usage:read"]},
            {"id": "expired", "user": 42, "hash": _hash("expired"), "expires": "2020-01-01T00:00:00Z"},
            {"id": "stranger", "user": "stranger", "hash": _hash("stranger")},
        ],
    }
    for name, value in sections.items():
        base[name] = {**base.get(name, {}), **value} if isinstance(value, dict) else value
    return base


def fast_lane() -> bool:
    """Whether gateways under test serve relayed routes by the fast lane."""
    return os.environ.get("GATEWAY_TEST_FAST_LANE", "true") != "false"


def _hash(key: str) -> str:
    return "sha256:" + hashlib.sha256(KEYS[key].encode()).hexdigest()


class GatewayProcess:
    """A running `python -m gateway serve`. `logs` holds its JSON lines, `noise` every line that was not JSON."""

    def __init__(self, process: Forked | Process) -> None:
        self.process = process
        self.port = 0
        self.logs: list[dict[str, Any]] = []
        self.noise: list[str] = []
        self._line = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    @asynccontextmanager
    async def start(
        cls, settings: dict[str, Any], directory: Path, program: Sequence[str] = OURS
    ) -> AsyncIterator[GatewayProcess]:
        """Runs until the end of the block, and is killed there if it still stands."""
        file = directory / "gateway.yaml"
        file.write_text(json.dumps(settings, indent=1))  # JSON is YAML, and quicker to write
        environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        arguments = ("serve", "-c", str(file), "--log-format", "json")
        process: Forked | Process
        if program == OURS:
            process = await start_gateway(*arguments, environ=environ, stderr=STDOUT, limit=LONGEST_LINE_BYTES)
        else:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *program, *arguments),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                limit=LONGEST_LINE_BYTES,
                env=environ,
            )
        gateway = cls(process)
        try:
            await gateway._ready()
            yield gateway
        finally:
            await gateway.stop()

    async def log(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Waits for a log line of which `wanted` is true (those already written count)."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                self._line.clear()
                if found := next(filter(wanted, self.logs), None):
                    return found
                assert not self._reading.done(), f"the gateway ended: {self.output()}"
                await self._line.wait()

    async def get(self, target: str, *, key: str | None = None, headers: Iterable[tuple[str, str]] = ()) -> Reply:
        async with Wire.open(self.port) as wire:
            await wire.send(request_bytes("GET", target, key=key, headers=[("connection", "close"), *headers]))
            return await wire.reply()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def wait(self, seconds: float = DEADLINE_SECONDS) -> int:
        """Waits for its end; the exit code."""
        async with asyncio.timeout(seconds):
            code = await self.process.wait()
            await self._reading
        return code

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not listen."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
        try:
            await self.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            await self._reading
            raise AssertionError(f"the gateway did not stop within {DEADLINE_SECONDS} s: {self.output()}") from None

    @property
    def is_running(self) -> bool:
        return self.process.returncode is None

    def output(self) -> str:
        """Everything it wrote, for failure messages and for looking for what must not be there."""
        return "\n".join([*self.noise, *map(json.dumps, self.logs)])

    async def _ready(self) -> None:
        line = await self.log(lambda each: each.get("event") == "listening")
        self.port = int(line["port"])
        reply = await self.get("/healthz")
        assert reply.status == 200, reply

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self._take(line.decode(errors="replace").rstrip("\n"))
            self._line.set()
        self._line.set()

    def _take(self, line: str) -> None:
        try:
            self.logs.append(json.loads(line))
        except ValueError:
            self.noise.append(line)
