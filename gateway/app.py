"""The composition root: from settings to a running gateway. Nothing else knows everything."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from gateway.auth import Authenticator
from gateway.calls import Calls
from gateway.config import Settings
from gateway.cooldowns import MemoryCooldownLog
from gateway.errors import StoreUnavailable
from gateway.grants.yaml import YamlStore
from gateway.ledger import Ledger, QueryFailed
from gateway.limits import MemoryLimiter, Rebuild, Totals, key_of
from gateway.middleware import Dispatcher, rendered
from gateway.relay.accounts import Accounts
from gateway.relay.story import Relay
from gateway.relay.upstreams import Upstreams
from gateway.routes import Router, all_routes
from gateway.server import Server
from gateway.state import State
from gateway.transport import Proxy, Transport

# The kernel cuts it to its own limit (somaxconn); aiohttp's 128 would drop connections under a burst.
LISTEN_BACKLOG = 4096
# After the drain, how long finished answers may take to leave for slow clients.
LAST_BYTES_SECONDS = 5.0
# How long a first request under a limit may wait for what the ledger knows.
REBUILD_SECONDS = 5.0

Ready = Callable[[str], None]


def yaml_store(settings: Settings) -> YamlStore:
    return YamlStore(
        models=settings.models,
        organisations=settings.organisations,
        plans=settings.plans,
        users=settings.users,
        keys=settings.keys,
        features=settings.features,
        lowest_tier=settings.tiers[0],
    )


@asynccontextmanager
async def running_state(settings: Settings, log: FilteringBoundLogger) -> AsyncIterator[State]:
    """Everything that a gateway process holds, closed at the end."""
    store = yaml_store(settings)
    proxy_url = settings.proxy.https_proxy
    proxy = Proxy.from_url(proxy_url.reveal(), settings.proxy.no_proxy) if proxy_url is not None else None
    transport = Transport(proxy=proxy)
    cooldowns = MemoryCooldownLog()
    ledger = Ledger.open(
        settings.usage.url, Path(settings.usage.journal), log=log, retention_days=settings.usage.retention_days
    )
    limiter = MemoryLimiter(totals_from(ledger))
    relay = Relay(
        transport,
        Upstreams(),
        Accounts(ledger, limiter),
        cooldowns,
        log,
        heartbeat_seconds=settings.server.stream_heartbeat_seconds,
    )

    def clock() -> datetime:
        return datetime.now(UTC)

    state = State(
        settings=settings,
        store=store,
        ledger=ledger,
        limiter=limiter,
        authenticator=Authenticator(store, clock),
        calls=Calls(settings.server.max_in_flight),
        transport=transport,
        cooldowns=cooldowns,
        relay=relay,
        log=log,
        clock=clock,
    )
    try:
        yield state
    finally:
        await transport.close()
        await limiter.close()
        await ledger.close()


def totals_from(ledger: Ledger) -> Rebuild:
    """What a limiter asks for when it has lost its counts, or never had them: the ledger remembers."""

    async def rebuild(scope: str, since: float) -> Totals:
        key = key_of(scope)
        try:
            await ledger.flushed(REBUILD_SECONDS)
            found = await (
                ledger.reader.counted_on(scope, since) if key is None else ledger.reader.used_by_key(key, since)
            )
        except (QueryFailed, TimeoutError):
            raise StoreUnavailable("What was used of this limit cannot be told at the moment.") from None
        return Totals(found.requests, found.tokens, found.cost)

    return rebuild


def make_server(state: State) -> Server:
    timeouts = state.settings.server.timeouts
    return Server(
        Dispatcher(state, Router(all_routes())),
        render_error=rendered,
        head=timeouts.head,
        write=timeouts.write,
        keepalive=timeouts.keepalive,
    )


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound TCP socket. Raises OSError where the address is taken or is none of ours."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


async def serve(settings: Settings, log: FilteringBoundLogger, sock: socket.socket, ready: Ready | None = None) -> None:
    """Serves on `sock` until SIGTERM or SIGINT, then drains. `ready` is called once with the base URL."""
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        # The second signal says: do not wait any longer.
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    async with running_state(settings, log) as state:
        server = make_server(state)
        listener = await loop.create_server(server, sock=sock, backlog=LISTEN_BACKLOG)
        host, port = sock.getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        # What lives from here to the end need not be looked at by each collection.
        gc.collect()
        gc.freeze()
        log.info("listening", url=url, port=port, models=len(settings.models), config=settings.source)
        if ready is not None:
            ready(url)
        try:
            await stop.wait()
            await drain(state, hurry)
        finally:
            listener.close()
            await server.finish(LAST_BYTES_SECONDS)
    log.info("stopped")


async def drain(state: State, hurry: asyncio.Event) -> None:
    """Running calls have `drain_seconds` to end; streams left then end as incomplete. `hurry` cuts that short."""
    seconds = state.settings.server.drain_seconds
    state.log.info("draining", in_flight=len(state.calls), seconds=seconds)
    hurried = asyncio.create_task(_interrupt_when(hurry, state.calls))
    try:
        left = await state.calls.drain(seconds)
    finally:
        hurried.cancel()
    if left:
        state.log.warning("calls interrupted at the end of the drain", calls=left)


async def _interrupt_when(hurry: asyncio.Event, calls: Calls) -> None:
    await hurry.wait()
    calls.interrupt_all()
