"""The connection on which Redis tells of changes and cooldowns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from redis.exceptions import ResponseError
from structlog.typing import FilteringBoundLogger

from gateway.redis.connections import CONNECT_SECONDS, PATIENCE_SECONDS, RedisAddress, Upkeep, Wire
from gateway.redis.refusals import Reply

LISTENING_PING_SECONDS = 0.25
MOST_UNANSWERED_PINGS = 2


class Listening:
    """Channels, each with what is to be done with its messages. `on_begin` is called whenever listening begins (anew).

    Pings tell a quiet Redis from one that is gone: within a second of falling silent the connection is given up.
    """

    def __init__(
        self,
        address: RedisAddress,
        log: FilteringBoundLogger,
        channels: Mapping[str, Callable[[bytes], None]],
        on_begin: Callable[[], None],
    ) -> None:
        self.upkeep = Upkeep(address, log, "changes", self._serve)
        self._channels = {name.encode(): handle for name, handle in channels.items()}
        self._on_begin = on_begin

    async def start(self) -> None:
        await self.upkeep.start(PATIENCE_SECONDS)

    async def stop(self) -> None:
        await self.upkeep.stop()

    async def _serve(self, connection: Wire) -> None:
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.send_command("SUBSCRIBE", *self._channels)
            for _ in self._channels:
                await connection.read_response()
        self.upkeep.mark_up()
        self._on_begin()
        unanswered = 0
        while True:
            message = await _listened(connection)
            if message is not None:
                unanswered = 0
                self._hear(message)
            elif unanswered >= MOST_UNANSWERED_PINGS:
                raise TimeoutError("silent")
            else:
                unanswered += 1
                await connection.send_command("PING")

    def _hear(self, message: Reply) -> None:
        """Whatever it answers to a ping, a refusal too: it is there, and its subscribers hear what is published."""
        if isinstance(message, list) and len(message) == 3 and message[0] == b"message":
            self._channels[message[1]](message[2])


async def _listened(connection: Wire) -> Reply:
    try:
        return await connection.read_response(timeout=LISTENING_PING_SECONDS)
    except ResponseError as error:
        return error
