"""What the tests of grants are made with: real Redis servers, a panel in a process of its own, clocks and documents."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import redis
from structlog.typing import FilteringBoundLogger

from bench.processes import free_port, redis_program
from gateway.access.authenticate import key_sha256
from gateway.observability.logging import make_logger
from gateway.redis.link import RedisLink
from gateway.redis.link_forms import address_of
from gateway.store.base import Kind
from gateway.store.embedded import EmbeddedStore
from gateway.store.redis import RedisStore
from gateway.types import Secret

KEY = "gw-test-key-of-forty-two-0123456789"
KEY_SHA256 = key_sha256(KEY)
SECRET = "sk-very-secret-credential"


def document(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def model(name: str, **fields: Any) -> bytes:
    endpoints = [{"id": "a", "url": "https://upstream.example", "api_key": SECRET}]
    return document(**{"name": name, "endpoints": endpoints, **fields})


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """For what nothing can be awaited on: another process's doing."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - it is another process that changes it
            await asyncio.sleep(0.005)


async def eventually(answer: Callable[[], Awaitable[object]], expected: object, seconds: float = 1.0) -> None:
    """Until `answer` gives what is expected, which comes about by way of another process."""
    async with asyncio.timeout(seconds):
        while await answer() != expected:  # noqa: ASYNC110 - it is another process that changes it
            await asyncio.sleep(0.005)


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Log:
    """A real logger whose lines can be read."""

    def __init__(self) -> None:
        self._written = io.BytesIO()
        self._stream = io.TextIOWrapper(self._written, write_through=True)
        self.logger: FilteringBoundLogger = make_logger("json", stream=self._stream)

    @property
    def text(self) -> str:
        return self._written.getvalue().decode()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def events(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]


class MoodyStore(EmbeddedStore):
    """The embedded store, which counts what it is asked for, and can be away, deaf or slow at will."""

    asked: int = 0
    is_away: bool = False
    is_deaf: bool = False
    at_gate: int = 0
    gate: asyncio.Event | None = None  # while set to an event, answers wait for it

    @property
    def available(self) -> bool:
        return super().available and not self.is_away

    @property
    def receives_changes(self) -> bool:
        return not self.is_deaf

    def surely_lacks(self, kind: Kind, record_id: str) -> bool:
        """As a store that others write to: it has to be asked."""
        return False

    async def get(self, kind: Kind, record_id: str) -> bytes | None:
        self.asked += 1
        found = await super().get(kind, record_id)
        await self._pass_gate()
        return found

    async def get_many(self, kind: Kind, record_ids: Sequence[str]) -> list[bytes | None]:
        found = await super().get_many(kind, record_ids)
        await self._pass_gate()
        return found

    async def _pass_gate(self) -> None:
        if self.gate is not None:
            self.at_gate += 1
            await self.gate.wait()

    def tell_that_changes_were_missed(self) -> None:
        for listener in self._listeners:
            listener(None, None)

    async def write_unheard(self, kind: Kind, record_id: str, written: bytes | None) -> None:
        """As a panel does that publishes nothing."""
        listeners, self._listeners = self._listeners, []
        await self.update(kind, record_id, lambda _: written)
        self._listeners = listeners


class RedisServer:
    """A server of our own on a free port of 127.0.0.1. It keeps nothing, unless it is told to save."""

    def __init__(self, directory: Path, *arguments: str, password: str = "") -> None:
        self._directory = directory
        self._arguments = arguments + (("--requirepass", password) if password else ())
        self.password = password
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        binary = redis_program()
        assert binary is not None
        fixed = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self._directory))
        command = [binary, "--port", str(self.port), *fixed, *self._arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if b"eady to accept connections" in line:
                return
        self.stop()
        raise AssertionError("redis-server did not start")

    def take_time_to_load(self) -> None:
        """From the next start on: two seconds, in which it answers LOADING. Saves now."""
        with self.client() as client:
            client.config_set("rdbcompression", "no")
            for number in range(24):  # of a size after each of which it looks at its clients
                client.set(f"filler:{number}", b"x" * 2_200_000)
            client.save()
        self._arguments += ("--key-load-delay", "80000")

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, password=self.password or None)

    def tell(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


def link(url: str, log: Log) -> RedisLink:
    """A link that is not started yet. Raises ConfigError."""
    return RedisLink(address_of(Secret(url)), log.logger)


async def opened(url: str, stores: AsyncExitStack, log: Log, *, prefix: str = "gw:") -> RedisStore:
    """A started store that has found its Redis."""
    store = RedisStore(link(url, log), log.logger, prefix=prefix, cooldown_list=f"{prefix}list")
    stores.push_async_callback(store.close)
    await store.start()
    await until(lambda: store.available and store.receives_changes)
    return store


class Panel:
    """A process beside the gateway that knows nothing but Redis and the contract's page on it."""

    def __init__(self, url: str) -> None:
        script = Path(__file__).with_name("grants_panel.py")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [sys.executable, str(script), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def do(self, *commands: list[Any]) -> list[Any]:
        """Runs Redis commands, one after the other; returns their replies."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(commands).encode() + b"\n")
        stdin.flush()
        replies: list[Any] = json.loads(stdout.readline())
        return replies

    def close(self) -> None:
        self._process.communicate()


class Valve:
    """Connections through it can be told to go on without passing anything."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._links: list[tuple[bytearray, asyncio.Event]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def swallow(self, containing: bytes) -> None:
        for seen, is_open in self._links:
            if containing in seen:
                is_open.clear()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._target)
        link = bytearray(), asyncio.Event()
        link[1].set()
        self._links.append(link)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, upstream_writer, link))
                both.create_task(self._pump(upstream_reader, writer, link))
        finally:
            for each in (writer, upstream_writer):
                each.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: tuple[bytearray, asyncio.Event]
    ) -> None:
        while data := await reader.read(65536):
            link[0].extend(data[:1000])
            if link[1].is_set():
                writer.write(data)
        writer.close()


@asynccontextmanager
async def swallowing(target: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Valve]:
    valve = Valve(target)
    server = await asyncio.start_server(valve.handle, "127.0.0.1", 0, ssl=tls)
    valve.port = server.sockets[0].getsockname()[1]
    try:
        yield valve
    finally:
        server.close()
