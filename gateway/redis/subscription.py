"""Channels on a connection of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from redis.exceptions import BusyLoadingError, ResponseError
from structlog.typing import FilteringBoundLogger

from gateway.redis.address import CONNECT_SECONDS, Address, Connection
from gateway.redis.connection import PersistentConnection
from gateway.redis.outage import Outage
from gateway.redis.refusals import Reply

# Messages come as pushes where the protocol is RESP3, hence `push_request`.
PING_SECONDS = 0.25
MOST_UNANSWERED_PINGS = 2


class Subscription:
    """Subscribe to channels, each with its handler.

    `on_begin` is called whenever it begins (anew).

    Pings tell a quiet Redis from one that is gone: within a second of falling silent the connection is given up.
    """

    def __init__(
        self,
        address: Address,
        log: FilteringBoundLogger,
        channels: Mapping[str, Callable[[bytes], None]],
        on_begin: Callable[[], None],
        outage: Outage | None = None,
    ) -> None:
        self._connection = PersistentConnection(address, log, "changes", self._serve, outage=outage)
        self._channels = {name.encode(): handle for name, handle in channels.items()}
        self._on_begin = on_begin

    @property
    def is_up(self) -> bool:
        return self._connection.is_up

    @property
    def fault(self) -> str | None:
        """Why it is down; None while it is up."""
        return self._connection.fault

    async def start(self) -> None:
        await self._connection.start()

    async def stop(self) -> None:
        await self._connection.stop()

    async def _serve(self, connection: Connection) -> None:
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.send_command("SUBSCRIBE", *self._channels)
            for _ in self._channels:
                await connection.read_response(push_request=True)
        self._connection.mark_up()
        self._on_begin()
        unanswered = 0
        while True:
            message = await _read_message(connection)
            if message is not None:
                unanswered = 0
                self._handle(message)
            elif unanswered >= MOST_UNANSWERED_PINGS:
                raise TimeoutError("silent")
            else:
                unanswered += 1
                await connection.send_command("PING")

    def _handle(self, message: Reply) -> None:
        """Handle a message; any reply to a ping is fine.

        A refusal too: it is there, and its subscribers get what is published.
        """
        if isinstance(message, list) and len(message) == 3 and message[0] == b"message":
            self._channels[message[1]](message[2])


async def _read_message(connection: Connection) -> Reply:
    """A message, or None after PING_SECONDS of silence."""
    try:
        return await connection.read_response(timeout=PING_SECONDS, disconnect_on_error=False, push_request=True)
    except (ResponseError, BusyLoadingError) as refusal:
        return refusal
