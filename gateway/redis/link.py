"""The link to Redis, shared by all in a process.

One connection for commands and scripts, and subscriptions beside it.

While Redis is away, calls fail at once: whether it is back is found out in the background, at no request's cost. One
link for all also means that a silent Redis delays a request once, whatever it asks first.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from gateway.redis.address import CONNECT_SECONDS, Address, Connection
from gateway.redis.connection import PersistentConnection
from gateway.redis.outage import Outage
from gateway.redis.pipelining import Call, Pipeline
from gateway.redis.refusals import RedisUnavailable, Refusals, Reply, is_refusal
from gateway.redis.script import Part, Script, packed_command
from gateway.redis.subscription import Subscription

_SCANNED_AT_A_TIME = 1000
_GLOB_SPECIAL = re.compile(r"([*?\[\]\\^-])")


class Link(Protocol):
    """What stores ask of Redis, of one server as of a Cluster."""

    @property
    def address(self) -> object:
        """Its text is for logs and holds no credential."""

    @property
    def is_spread(self) -> bool:
        """Whether two keys may be on two servers, unless tagged."""

    @property
    def tagged(self) -> RedisLink:
        """The link to tagged keys, which keeps commands in order."""

    def tagged_prefix(self, prefix: str) -> str:
        """What stands in place of `prefix` before tagged keys."""

    @property
    def is_up(self) -> bool:
        """Whether it is of any use to ask."""

    @property
    def fault(self) -> str | None:
        """What is down, and why; None while all is up."""

    @property
    def refused(self) -> str | None:
        """What is refused, in Redis's words; None where nothing is."""

    def probe(self, prefix: str) -> None:
        """Find out by keys with this prefix whether Redis obeys."""

    def on_up(self, listener: Callable[[], None]) -> None: ...
    def on_down(self, listener: Callable[[], None]) -> None: ...
    async def wait_up(self) -> None: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def subscription(
        self, channels: Mapping[str, Callable[[bytes], None]], on_begin: Callable[[], None]
    ) -> Subscription: ...
    async def call(self, *command: Part) -> Reply: ...
    async def call_script(self, script: Script, keys: Sequence[Part], *arguments: Part) -> Reply: ...
    async def texts(self, keys: Sequence[str]) -> list[bytes | None]: ...
    def scan(self, beginning: str) -> AsyncIterator[list[bytes]]: ...
    def send(self, *command: Part) -> None: ...


class RedisLink:
    """Link to one server of Redis.

    Started by each of its users, and closed when the last of them stops it.
    """

    is_spread = False

    def __init__(self, address: Address, log: FilteringBoundLogger) -> None:
        self.address = address
        self.refusals = Refusals(log)
        self._log = log
        self._pipeline = Pipeline(address.is_misplaced)
        self._outage = Outage(address, log)
        self._connection = PersistentConnection(address, log, "commands", self._serve, self._went_down, self._outage)
        self._up = asyncio.Event()
        self._users = 0
        self._on_up: list[Callable[[], None]] = []
        self._on_down: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<RedisLink to {self.address}: {'up' if self.is_up else 'down'}, {len(self._pipeline)} waiting>"

    @property
    def is_up(self) -> bool:
        return self._connection.is_up

    @property
    def fault(self) -> str | None:
        """Why it is down; None while it is up."""
        return self._connection.fault

    @property
    def tagged(self) -> RedisLink:
        return self

    @property
    def refused(self) -> str | None:
        return self.refusals.fault

    def tagged_prefix(self, prefix: str) -> str:
        return prefix

    def probe(self, prefix: str) -> None:
        """Find out by keys with this prefix whether Redis obeys.

        Neither probe changes anything: one key is asked for in each request's path, the other is set if it is there.
        """
        self.probe_by(f"{prefix}feature:ai", f"{prefix}probe")

    def probe_by(self, read: str, written: str) -> None:
        """Find out by these two keys whether Redis obeys."""
        self.refusals.probe(
            read=("GET", packed_command(("GET", read))), write=("SET", packed_command(("SET", written, "1", "XX")))
        )

    @property
    def is_silent(self) -> bool:
        """Whether it is down because it gave no answer."""
        return not self.is_up and self._connection.is_silent

    def hurry(self) -> None:
        """Another server is silent: find out at once whether this is.

        So that a request which asks one after the other waits for one alone.
        """
        if self.is_up and self._pipeline.hurry():
            for call in self._probes():
                self._pipeline.issue(call)

    @property
    def round_trips(self) -> int:
        """Count batches exchanged, probes apart."""
        return self._pipeline.round_trips

    def on_up(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the connection has come up.

        Before anything is asked over it.
        """
        self._on_up.append(listener)

    def on_down(self, listener: Callable[[], None]) -> None:
        self._on_down.append(listener)

    async def start(self) -> None:
        """Connect; where that fails, go on trying in the background."""
        self._users += 1
        await self._connection.start()

    async def stop(self) -> None:
        self._users -= 1
        if self._users > 0:
            return
        with suppress(RedisUnavailable):
            await self.call("PING")  # what was sent before has gone out once this is answered
        await self._connection.stop()
        self._pipeline.fail_waiting()

    async def wait_up(self) -> None:
        await self._up.wait()

    def subscription(
        self, channels: Mapping[str, Callable[[bytes], None]], on_begin: Callable[[], None]
    ) -> Subscription:
        """Return a subscription on a connection of its own."""
        return Subscription(self.address, self._log, channels, on_begin, self._outage)

    # -- asking

    async def call(self, *command: Part) -> Reply:
        """Send a command. Raises RedisUnavailable within 250 ms.

        Also for what Redis refuses.
        """
        packed = packed_command(command)
        return await self._called(str(command[0]), packed, None)

    async def call_script(self, script: Script, keys: Sequence[Part], *arguments: Part) -> Reply:
        """Run a script. Raises as `call` does."""
        return await self._called("EVALSHA", script.packed(keys, arguments), script)

    async def texts(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read texts. Raises as `call` does.

        Not by GET: what has another type than text is missing, instead of an error.
        """
        found: list[bytes | None] = await self.call("MGET", *keys)
        return found

    async def scan(self, beginning: str) -> AsyncIterator[list[bytes]]:
        """Yield keys with this beginning; one may come twice.

        Raises as `call` does.
        """
        pattern = _GLOB_SPECIAL.sub(r"\\\1", beginning) + "*"
        cursor: bytes = b"0"
        while True:
            cursor, keys = await self.call("SCAN", cursor, "MATCH", pattern, "COUNT", _SCANNED_AT_A_TIME)
            yield keys
            if cursor == b"0":
                return

    def send(self, *command: Part) -> None:
        """Send a command without a reply. Lost where Redis is away."""
        if self.is_up and not self._pipeline.is_full:
            self._pipeline.issue(Call(packed_command(command), None))

    def issue(self, call: Call) -> None:
        """Send a call whose refusals come as its reply."""
        if self.is_up:
            self._pipeline.issue(call)
        else:
            call.fail(sent=False)

    def ask(self, packed: bytes, script: Script | None, since: float | None = None) -> asyncio.Future[Reply]:
        """Send a call as `issue`, and wait for its reply.

        `since`: where it was asked elsewhere before, on the loop's clock.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Reply] = loop.create_future()
        call = Call(packed, answer, loop.time() if since is None else since, script)
        if self._pipeline.is_full:
            call.fail(sent=False)
        else:
            self.issue(call)
        return answer

    async def _called(self, name: str, packed: bytes, script: Script | None) -> Reply:
        reply = await self.ask(packed, script)
        if is_refusal(reply):
            self.refusals.note(name, packed, reply)
            raise RedisUnavailable(sent=True)
        return reply

    # -- the connection's life

    async def _serve(self, connection: Connection) -> None:
        await self._prove(connection)
        self._connection.mark_up()
        self._up.set()
        try:
            for listener in self._on_up:
                listener()
            while True:
                await self._pipeline.wait(self.refusals.seconds_left())
                if self.refusals.seconds_left() <= 0:
                    for call in self._probes():
                        self._pipeline.issue(call)
                await self._pipeline.exchange(connection)
        finally:
            self._up.clear()
            self._connection.is_up = False
            self._pipeline.fail_waiting()

    async def _prove(self, connection: Connection) -> None:
        """Probe before the connection is used.

        Lest it seem well for as long as it takes to find out.
        """
        await self._pipeline.exchange_batch(connection, self._probes(), CONNECT_SECONDS)
        await asyncio.sleep(0)  # what was found out is noted by callbacks

    def _probes(self) -> list[Call]:
        """Return commands that probe the connection and Redis."""
        loop = asyncio.get_running_loop()
        calls: list[Call] = []
        for kind, name, packed in self.refusals.due():
            answer: asyncio.Future[Reply] = loop.create_future()
            answer.add_done_callback(partial(self.refusals.conclude, kind, name))
            calls.append(Call(packed, answer, loop.time(), is_probe=True))
        return calls

    def _went_down(self) -> None:
        for listener in self._on_down:
            listener()
