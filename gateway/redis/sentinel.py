"""The primary of a service, by the word of its Sentinels."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from redis.exceptions import RedisError

from gateway.config.sources.redis_urls import RedisUrl
from gateway.redis.address import Connection, Dialer, Latest, part_of, place_of
from gateway.redis.connection import AWAY
from gateway.redis.refusals import Refusal, Reply, is_demoted, is_refusal, read_reply, shown_error

ASK_SECONDS = 0.5  # in which a Sentinel has to answer
WATCH_SECONDS = 1.0  # between two looks at whether the primary is still the same


class Word(NamedTuple):
    """What one Sentinel says of the primary.

    `epoch`: grows with each failover; the highest is the latest.
    """

    epoch: int
    is_up: bool
    host: str
    port: int

    @property
    def place(self) -> tuple[str, int]:
        return self.host, self.port


class SentinelAddress:
    """Ask all Sentinels who the primary is; the latest word counts.

    One that is cut off from the others may say what was true before a failover: hence not the first who answers.
    """

    def __init__(self, url: RedisUrl, ca_file: str | None = None, latest: Latest | None = None) -> None:
        """Raise ConfigError for what redis-py does not know."""
        self._servers = Dialer(url.single, ca_file, part_of(latest, "single"))
        self._sentinels = Dialer(url.sentinel, ca_file, part_of(latest, "sentinel"))
        self._places = url.places
        self._service = url.service
        self._asking: asyncio.Task[tuple[str, int]] | None = None
        self._asked_at = float("-inf")

    async def connect(self) -> Connection:
        place = await self._primary(0.0)
        connection = await self._servers.open(*place)
        try:
            await _refuse_replica(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def watch(self, connection: Connection) -> None:
        """Return once Sentinels name another primary."""
        place = place_of(connection)
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            with suppress(*AWAY):  # Sentinels that are away change nothing
                if await self._primary(WATCH_SECONDS / 2) != place:
                    return

    def is_misplaced(self, refusal: Refusal) -> bool:
        return is_demoted(refusal)

    async def _primary(self, may_be_old_seconds: float) -> tuple[str, int]:
        """Ask who is primary, once for all who want to know.

        Raises RedisError where nobody can tell, or all say that it is down.
        """
        loop = asyncio.get_running_loop()
        task = self._asking
        if task is None or (task.done() and loop.time() - self._asked_at >= may_be_old_seconds):
            self._asked_at = loop.time()
            task = self._asking = asyncio.create_task(self._ask_all())
            task.add_done_callback(_look)
        return await asyncio.shield(task)

    async def _ask_all(self) -> tuple[str, int]:
        asked = await asyncio.gather(*(self._ask(*place) for place in self._places), return_exceptions=True)
        words = [each for each in asked if isinstance(each, Word)]
        if not words:
            raise RedisError(f"no Sentinel can tell: {_reasons(asked)}")
        latest = max(word.epoch for word in words)
        named = [word for word in words if word.epoch == latest]
        if not any(word.is_up for word in named):
            raise RedisError("the primary is down, say its Sentinels")
        return named[0].place

    async def _ask(self, host: str, port: int) -> Word:
        """Ask one Sentinel. Raises RedisError, OSError or TimeoutError."""
        async with asyncio.timeout(ASK_SECONDS):
            connection = await self._sentinels.open(host, port)
            try:
                await connection.send_command("SENTINEL", "MASTER", self._service)
                return _word(await read_reply(connection))
            finally:
                with suppress(*AWAY):
                    await connection.disconnect(nowait=True)

    def __str__(self) -> str:
        return f"{self._service} of Sentinel " + ",".join(f"{host}:{port}" for host, port in self._places)


def _look(task: asyncio.Task[tuple[str, int]]) -> None:
    """Retrieve a failure, lest asyncio warns of it."""
    if not task.cancelled():
        task.exception()


def _word(reply: Reply) -> Word:
    """Read a Sentinel's word. Raises RedisError."""
    if is_refusal(reply):
        raise RedisError(shown_error(reply))
    try:
        about = dict(zip(reply[::2], reply[1::2], strict=True))
        flags = about[b"flags"].split(b",")
        is_up = b"s_down" not in flags and b"o_down" not in flags
        return Word(int(about[b"config-epoch"]), is_up, about[b"ip"].decode(), int(about[b"port"]))
    except (KeyError, TypeError, ValueError):
        raise RedisError("a Sentinel's answer cannot be read") from None


def _reasons(asked: Iterable[object]) -> str:
    """One of each."""
    return "; ".join(dict.fromkeys(shown_error(each) for each in asked if isinstance(each, BaseException)))


async def _refuse_replica(connection: Connection) -> None:
    """Raise RedisError for a replica; a refused question passes."""
    await connection.send_command("ROLE")
    role = await read_reply(connection)
    if not is_refusal(role) and role[0] != b"master":
        raise RedisError("this server is a replica; its Sentinels have not made up their minds")
