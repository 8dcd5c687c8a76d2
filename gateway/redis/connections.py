"""Connections to Redis that look after themselves, and the one for commands; `redis_listening` has the other.

redis-py brings the protocol (TLS, passwords, hiredis). Its client and pool are left aside: they retry unseen, fail
where a pool is used up, and their pub/sub reads wait for ever on a connection that is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from structlog.typing import FilteringBoundLogger

from gateway.errors import ConfigError, StoreUnavailable
from gateway.redis.refusals import Command, Refusals, Reply, told
from gateway.types import Secret

# So long a request waits for a Redis that has fallen silent. Commands that waited for those before them have a last
# moment of their own; and what has come is read even where our own loop was late to look. All of it is below 250 ms.
PATIENCE_SECONDS = 0.16
LEAST_PATIENCE_SECONDS = 0.04
LATENESS_SECONDS = 0.02
CONNECT_SECONDS = 2.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 1.0
MOST_WAITING = 4096
MOST_IN_A_BATCH = 256

AWAY = (RedisError, OSError, TimeoutError)
_NOT_YET = "not connected yet"


class Wire(Protocol):
    """What is used of redis-py's connections."""

    async def connect(self) -> object: ...
    async def disconnect(self, nowait: bool = ...) -> None: ...
    def pack_commands(self, commands: Iterable[Command]) -> list[bytes]: ...
    async def send_packed_command(self, command: list[bytes], check_health: bool = ...) -> None: ...
    async def send_command(self, *command: str | bytes) -> None: ...
    async def read_response(self, *, timeout: float | None = ...) -> Reply: ...


class RedisAddress:
    """Where Redis is, from a URL `redis://`, `rediss://` or `unix://` with credentials and redis-py's options."""

    def __init__(self, url: Secret) -> None:
        """Raises ConfigError for what is not supported."""
        text = url.reveal()
        _refuse_several_nodes(text)
        try:
            options: dict[str, Any] = dict(parse_url(text))
            self._type = options.pop("connection_class", Connection)
            self._options = options | {
                "socket_timeout": None,
                "socket_connect_timeout": CONNECT_SECONDS,
                "health_check_interval": 0,
                "retry": Retry(NoBackoff(), 0),
                "protocol": 2,
                "decode_responses": False,
            }
            self.connection()
        except (TypeError, ValueError, RedisError):
            raise ConfigError(["store.url: not a Redis URL, or with an option that is not known"]) from None
        self._shown = str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")

    def connection(self) -> Wire:
        """A new connection, not yet opened."""
        made: Wire = self._type(**self._options)
        return made

    def __str__(self) -> str:
        return self._shown


def _refuse_several_nodes(url: str) -> None:
    scheme = url.partition("://")[0].lower()
    is_listed = scheme != "unix" and "," in urlsplit(url).netloc.rpartition("@")[2]
    if scheme not in ("redis", "rediss", "unix") or is_listed:
        told = "Redis Cluster and Sentinel are not supported; give one server as redis://, rediss:// or unix://"
        raise ConfigError([f"store.url: {told}"])


class Upkeep:
    """Keeps one connection open: opens it, hands it to `serve`, and begins anew with a pause when that fails."""

    def __init__(
        self,
        address: RedisAddress,
        log: FilteringBoundLogger,
        name: str,
        serve: Callable[[Wire], Awaitable[None]],
    ) -> None:
        self._address = address
        self._log = log
        self._name = name
        self._serve = serve
        self._task: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self.is_up = False
        self.fault: str | None = _NOT_YET

    async def start(self, wait_seconds: float) -> None:
        """Returns when the first try has ended, one way or the other, or after `wait_seconds`."""
        self._task = asyncio.create_task(self._run())
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_seconds):
                await self._tried.wait()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self.is_up = False

    def mark_up(self) -> None:
        """To be called by `serve` once the connection does its work."""
        if self.fault is not None and self._tried.is_set():
            self._log.info("redis is back", connection=self._name, address=str(self._address))
        self.is_up, self.fault = True, None
        self._tried.set()

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            was_up = await self._live()
            pause = FIRST_PAUSE_SECONDS if was_up else min(pause * 2, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)

    async def _live(self) -> bool:
        """One connection's life. Whether it came up at all."""
        connection = self._address.connection()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.connect()
                await _refuse_cluster(connection)
            await self._serve(connection)
        except AWAY as error:
            return self._mark_down(error)
        except Exception as error:  # a bug: it must not leave the gateway without its store for ever
            self._log.exception("redis connection given up", connection=self._name)
            return self._mark_down(error)
        finally:
            self.is_up = False
            with suppress(*AWAY):
                await connection.disconnect(nowait=True)
        return True

    def _mark_down(self, error: BaseException) -> bool:
        """Whether the connection had come up."""
        known = self.fault
        self.is_up, self.fault = False, told(error)
        self._tried.set()
        if known is None or known == _NOT_YET:
            self._log.warning("redis is away", connection=self._name, address=str(self._address), because=self.fault)
        return known is None


async def _refuse_cluster(connection: Wire) -> None:
    """Raises RedisError for a server that would answer with redirections; one that will not tell is believed."""
    await connection.send_command("INFO", "server")
    try:
        info: bytes = await connection.read_response()
    except ResponseError:
        return
    if b"redis_mode:cluster" in info or b"redis_mode:sentinel" in info:
        raise RedisError("this is a Redis Cluster or Sentinel node, which is not supported")


class _Call(NamedTuple):
    command: Command
    answer: asyncio.Future[Reply] | None  # None: nobody waits for it
    since: float


class CommandLine:
    """Commands over one connection: all that are issued while others are under way go out together, in one write.

    `on_begin` is called whenever the connection has come up. While Redis is away a call fails at once; whether it is
    back is found out in the background, at no request's cost. `probes` tell besides whether it does what it is asked.
    """

    def __init__(
        self,
        address: RedisAddress,
        log: FilteringBoundLogger,
        on_begin: Callable[[], None],
        probes: Mapping[str, Command],
    ) -> None:
        self._log = log
        self._on_begin = on_begin
        self.refusals = Refusals(log, probes)
        self.upkeep = Upkeep(address, log, "commands", self._serve)
        self._waiting: list[_Call] = []
        self._wake = asyncio.Event()

    async def start(self) -> None:
        await self.upkeep.start(PATIENCE_SECONDS)

    async def stop(self) -> None:
        await self._flush()
        await self.upkeep.stop()
        self._fail_waiting()

    async def call(self, *command: str | bytes | int) -> Reply:
        """The reply. Raises StoreUnavailable in time, also for errors that Redis answers with."""
        loop = asyncio.get_running_loop()
        if not self.upkeep.is_up or len(self._waiting) >= MOST_WAITING:
            raise _unavailable()
        answer: asyncio.Future[Reply] = loop.create_future()
        self._issue(_Call(_encoded(command), answer, loop.time()))
        reply = await answer
        if isinstance(reply, ResponseError):
            self.refusals.heard(_encoded(command), reply)
            raise _unavailable()
        return reply

    def send(self, *command: str | bytes | int) -> None:
        """Issues a command whose reply nobody needs. Lost where Redis is away."""
        if self.upkeep.is_up and len(self._waiting) < MOST_WAITING:
            self._issue(_Call(_encoded(command), None, asyncio.get_running_loop().time()))

    def _issue(self, call: _Call) -> None:
        self._waiting.append(call)
        self._wake.set()

    async def _flush(self) -> None:
        """What was sent before has gone out once a call behind it is answered."""
        with suppress(StoreUnavailable):
            await self.call("PING")

    async def _serve(self, connection: Wire) -> None:
        async with asyncio.timeout(CONNECT_SECONDS):
            await self._prove(connection)
        self.upkeep.mark_up()
        try:
            self._on_begin()
            while True:
                await self._work()
                self._probe()
                if self._waiting:
                    await self._exchange(connection)
        finally:
            self.upkeep.is_up = False
            self._fail_waiting()

    async def _prove(self, connection: Wire) -> None:
        """Probes before anybody relies on the connection, lest it seem well for as long as it takes to find out."""
        self._issue_probes()
        probes, self._waiting = self._waiting, []
        self._wake.clear()
        try:
            await _exchanged(connection, probes)
            await asyncio.sleep(0)  # what was found out is noted by callbacks
        finally:
            _fail(probes)

    async def _work(self) -> None:
        """Waits for calls, and no longer than until the next probe."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.refusals.seconds_left()):
                await self._wake.wait()

    def _probe(self) -> None:
        """Finds out whether the connection is still good, and Redis willing, before a request does."""
        if self.refusals.seconds_left() <= 0:
            self._issue_probes()

    def _issue_probes(self) -> None:
        loop = asyncio.get_running_loop()
        for name, command in self.refusals.due():
            answer: asyncio.Future[Reply] = loop.create_future()
            answer.add_done_callback(partial(self.refusals.conclude, name, command))
            self._issue(_Call(command, answer, loop.time()))

    async def _exchange(self, connection: Wire) -> None:
        batch, self._waiting = self._waiting[:MOST_IN_A_BATCH], self._waiting[MOST_IN_A_BATCH:]
        if not self._waiting:
            self._wake.clear()
        exchange = asyncio.create_task(_exchanged(connection, batch))
        try:
            spent = asyncio.get_running_loop().time() - min(call.since for call in batch)
            for seconds in (max(PATIENCE_SECONDS - spent, LEAST_PATIENCE_SECONDS), LATENESS_SECONDS):
                done, _ = await asyncio.wait([exchange], timeout=seconds)
                if done:
                    return exchange.result()
            raise TimeoutError("no answer")
        finally:
            exchange.cancel()
            await asyncio.wait([exchange])
            _fail(batch)

    def _fail_waiting(self) -> None:
        left, self._waiting = self._waiting, []
        self._wake.clear()
        _fail(left)


def _encoded(command: tuple[str | bytes | int, ...]) -> Command:
    """Here, where a mistake is the caller's. Headers may hold what UTF-8 cannot: no such thing is in Redis either."""
    return tuple([part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part for part in command])


async def _exchanged(connection: Wire, batch: list[_Call]) -> None:
    packed = connection.pack_commands([call.command for call in batch])
    await connection.send_packed_command(packed, check_health=False)
    for call in batch:
        _answer(call, await _reply(connection))


async def _reply(connection: Wire) -> Reply:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _answer(call: _Call, reply: Reply) -> None:
    if call.answer is not None and not call.answer.done():
        call.answer.set_result(reply)


def _fail(calls: list[_Call]) -> None:
    """Those that have no answer yet."""
    for call in calls:
        if call.answer is not None and not call.answer.done():
            call.answer.set_exception(_unavailable())


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable("The store of run-time records cannot be asked at the moment; ask again.")
