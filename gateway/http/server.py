"""The HTTP server: fast lane, aiohttp application, one bound for both."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Container
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from structlog.typing import FilteringBoundLogger

from gateway.errors import GatewayError
from gateway.http.bounds import ClientBounds
from gateway.http.connection_limit import ConnectionLimit
from gateway.http.fast_lane import LaneConnection
from gateway.http.memory_budget import Memory
from gateway.http.message import Head, Request
from gateway.http.reply import Answer, Reply

if TYPE_CHECKING:
    from gateway.http.app_server.application import ApplicationServer

Handler = Callable[[Request], Awaitable[Reply]]
# After an upgrade, how long a connection may say nothing before it is closed: long enough for a busy client's next
# request, which moves it over; short, because with the embedded store new connections wait for it.
IDLE_SECONDS = 1.0
LOOK_SECONDS = 0.05


class Server:
    """Makes a protocol for each connection; implements the fast lane's `LaneServer`.

    `relayed`: the paths that the lane serves; `probed`: those that it answers besides, so that load balancers and
    scrapers alone do not have aiohttp loaded; `upgrades`: those that may be answered by an `Upgrade`. `bounds` gives
    those that hold now; a reload changes them. `render_error` turns a fault found in parsing into an
    answer, by the path that was asked for as far as it is known.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        render_error: Callable[[GatewayError, str], Answer],
        limit: ConnectionLimit,
        memory: Memory,
        relayed: Container[str],
        fast_lane: bool,
        bounds: Callable[[], ClientBounds],
        log: FilteringBoundLogger,
        upgrades: Container[str] = frozenset(),
        probed: Container[str] = frozenset(),
    ) -> None:
        self.handler = handler
        self.render_error = render_error
        self.limit = limit
        self.memory = memory
        self.relayed = relayed
        self.upgrades = upgrades
        self.probed = probed
        self.retiring = False
        self.connections: set[LaneConnection] = set()
        self.fast_lane = fast_lane
        self.bounds = bounds
        self._finishing = False
        self._log = log
        self._application: ApplicationServer | None = None  # 10 MB and 0.1 s: loaded by the first who needs it
        self._loading: asyncio.Task[None] | None = None
        self._awaiting: list[LaneConnection] = []  # the application

    def __call__(self) -> asyncio.Protocol:
        """The protocol of a connection that was accepted."""
        most = self.bounds().connections
        if len(self.connections) >= most:
            return self.limit.turned_away(most)
        return LaneConnection(self, asyncio.get_running_loop())

    async def retire(self, stop: asyncio.Event, seconds: float) -> None:
        """Wait until clients have moved over to a successor.

        `seconds` at most, or until `stop` is set.

        Each request on a connection that was kept alive is served, and answered with `connection: close`. A connection
        on which nothing comes is closed after a moment, unless the kernel holds bytes of it that nobody has seen yet.
        """
        self.retiring = True
        if self._application is not None:
            self._application.retiring = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        idle_since: dict[LaneConnection, float] = {}
        while self.connections and not stop.is_set() and (now := loop.time()) < deadline:
            idle_since = {each: idle_since.get(each, now) for each in self.connections if each.is_idle}
            for each, since in idle_since.items():
                if now - since >= IDLE_SECONDS and not each.has_unread_bytes():
                    each.close()
            await asyncio.sleep(LOOK_SECONDS)

    async def finish(self, seconds: float) -> None:
        """Close every connection within `seconds`.

        Answers that are written but not yet sent have so long to leave.
        """
        self._finishing = True
        self.limit.close()
        deadline = asyncio.get_running_loop().time() + seconds
        left = list(self.connections)
        for each in left:
            each.close()
        loading = self._loading
        if loading is not None:
            if self._awaiting:  # requests that came just before the end are answered, too
                await asyncio.wait({loading}, timeout=seconds)
            loading.cancel()
        if self._application is not None:
            await self._application.close(seconds)
        for each in left:
            each.force_close()
        # A transport offers nothing to await for its last byte.
        while any(each.unsent_bytes for each in left) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for each in left:
            each.abort()

    # -- what a lane asks

    def serves(self, head: Head) -> bool:
        """Whether the lane serves this request; else the application server does."""
        if not self.fast_lane:
            return False
        return (head.method == "POST" and head.path in self.relayed) or head.path in self.probed

    def may_upgrade(self, head: Head) -> bool:
        """Whether what this request asks for may upgrade its connection."""
        return head.http11 and head.method == "GET" and head.path in self.upgrades

    def when_application_is_there(self, connection: LaneConnection) -> None:
        """Call `begin_passage` once the application server is loaded."""
        if self._application is not None:
            connection.begin_passage(partial(self._application.protocol, connection))
            return
        self._awaiting.append(connection)
        if self._loading is None and not self._finishing:
            self._loading = asyncio.get_running_loop().create_task(self._load())

    def joined(self, connection: LaneConnection) -> None:
        self.connections.add(connection)
        if self._finishing:  # it was accepted in the listener's last turn
            connection.force_close()

    def left(self, connection: LaneConnection) -> None:
        self.connections.discard(connection)
        if self._application is not None and connection.transport is not None:
            self._application.left(connection.transport)

    def made_a_mistake(self) -> None:
        self._log.exception("a request ended with a mistake of the gateway")

    async def _load(self) -> None:
        """Load the application server on a thread; serve who waits."""
        try:
            is_new = "aiohttp" not in sys.modules
            module = await asyncio.to_thread(import_module, "gateway.http.app_server.application")
            if is_new:
                gc.freeze()  # it stays: no look for garbage need pass over its 16,000 objects
            application: ApplicationServer = module.ApplicationServer(
                self.handler, self.render_error, self.made_a_mistake
            )
            await application.start()
        except Exception:  # an installation that is not whole: the lane serves on
            self.made_a_mistake()
            self._loading = None
            for each in self._taken():
                each.abort()
            return
        application.retiring = self.retiring
        self._application, self._loading = application, None
        for each in self._taken():
            each.begin_passage(partial(application.protocol, each))

    def _taken(self) -> list[LaneConnection]:
        taken, self._awaiting = self._awaiting, []
        return taken
