"""Run one gateway process: socket, signals, reloads, drain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from gateway.access.diff import differences
from gateway.api.ops.gauges import own_samples
from gateway.api.runtime import Current
from gateway.app import configured, make_server, running
from gateway.config import Settings
from gateway.config.reload import Reloader, Watched
from gateway.http.memory_budget import give_back_freed_memory
from gateway.observability.calls import Calls
from gateway.observability.log_stream import LogStream
from gateway.observability.metrics import MetricsAggregation
from gateway.process.systemd import notify_service_manager
from gateway.process.upgrade import Successor

# The kernel cuts it to its own limit (somaxconn); aiohttp's 128 would drop connections under a burst.
LISTEN_BACKLOG = 4096
# After the drain, how long finished answers may take to leave for slow clients.
LAST_BYTES_SECONDS = 5.0

# Objects that come and do not go before a collection looks at them; Python's own 700 are a few requests' worth.
GARBAGE_AT_A_TIME = 20_000

# A thread that reads a large body lets the loop have its turn after so long.
SWITCH_SECONDS = 0.001

Ready = Callable[[str], None]
Upgrade = Callable[[], Successor]


def listening_socket(host: str, port: int) -> socket.socket:
    """Bind a TCP socket. Raises OSError.

    Where the address is taken or is none of ours.
    """
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


async def serve(
    settings: Settings,
    log: FilteringBoundLogger,
    sock: socket.socket,
    *,
    watched: Watched | None = None,
    aggregation: Path | None = None,
    ready: Ready | None = None,
    upgrade: Upgrade | None = None,
    log_stream: LogStream | None = None,
) -> None:
    """Serve on `sock` until SIGTERM or SIGINT, then drain.

    `watched`: the file that `settings` came from, reloaded when it changes and on SIGHUP. `aggregation`: a directory
    that the workers of one gateway share, where there are several. `ready` is called once with the base URL. On SIGUSR2
    a successor is started by `upgrade` and takes over when it is ready; without `upgrade` the caller sees to that.
    `log_stream`: what `log` writes to, whose lost lines are counted in /metrics.
    Raises ConfigError where the store cannot be used as it is configured.
    """
    loop = asyncio.get_running_loop()
    stop, hurry, replaced = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def on_stop() -> None:
        # The second signal says: do not wait any longer.
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_stop)
    async with running(settings, log, log_stream=log_stream) as current:
        server = make_server(current)
        async with beside_others(current, aggregation), reloading(current, watched), upgrading(upgrade, replaced, log):
            listener = await loop.create_server(server, sock=sock, backlog=LISTEN_BACKLOG)
            url, port = base_url(sock)
            settle_the_collector()
            log.info("listening", url=url, port=port, models=len(settings.models), config=settings.source)
            if ready is not None:
                ready(url)
            try:
                await first_of(stop, replaced)
                drain_seconds, calls = current.runtime.settings.server.drain_seconds, current.runtime.calls
                deadline = loop.time() + drain_seconds
                if not stop.is_set():
                    listener.close()
                    calls.begin_to_end()
                    log.info("retiring", connections=len(server.connections), in_flight=len(calls))
                    await server.retire(stop, drain_seconds)
                await drain(calls, hurry, max(0.0, deadline - loop.time()), log)
            finally:
                listener.close()
                await server.finish(LAST_BYTES_SECONDS)
    log.info("stopped")


def settle_the_collector() -> None:
    """Freeze what lives long, and collect garbage rarely.

    What a request leaves behind goes with its last reference: collections are for the rare cycle.
    """
    # Not collected before: of what modules and settings leave, some 3,000 small objects are in cycles, and finding
    # them means to touch every record once more.
    gc.freeze()
    gc.set_threshold(GARBAGE_AT_A_TIME, 20, 50)
    gc.enable()
    give_back_freed_memory()
    sys.setswitchinterval(SWITCH_SECONDS)


def base_url(sock: socket.socket) -> tuple[str, int]:
    host, port = sock.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}", port


@contextlib.asynccontextmanager
async def reloading(current: Current, watched: Watched | None) -> AsyncIterator[None]:
    """While it lasts, the file is watched and SIGHUP reads it again.

    The next runtime is built in a thread; one assignment makes it the one that new requests are served from.
    """
    if watched is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def prepare(fresh: Settings) -> Callable[[], None]:
        following = configured(current.runtime, fresh)

        def swap() -> None:
            current.runtime = following
            following.queue.wake()
            following.telemetry.apply(fresh.telemetry)

        return swap

    runtime = current.runtime
    reloader = Reloader(watched, os.environ, runtime.settings, prepare, differences, runtime.log)
    current.runtime = replace(runtime, reloader=reloader)
    running: set[asyncio.Task[bool]] = set()

    def on_hangup() -> None:
        task = reloader.reload_soon()
        running.add(task)
        task.add_done_callback(running.discard)

    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    watching = loop.create_task(reloader.watch())
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        # Its default would end the process while the ledger is still being brought in.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        watching.cancel()
        await asyncio.gather(watching, *running, return_exceptions=True)


@contextlib.asynccontextmanager
async def upgrading(upgrade: Upgrade | None, replaced: asyncio.Event, log: FilteringBoundLogger) -> AsyncIterator[None]:
    """Start a successor on SIGUSR2 within the block.

    `replaced` is set once that is ready.
    """
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()

    def on_signal() -> None:
        if upgrade is None:
            replaced.set()
        elif not running and not replaced.is_set():
            running.add(task := loop.create_task(hand_over(upgrade, replaced, log)))
            task.add_done_callback(running.discard)

    loop.add_signal_handler(signal.SIGUSR2, on_signal)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGUSR2)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def hand_over(upgrade: Upgrade, replaced: asyncio.Event, log: FilteringBoundLogger) -> None:
    """Start a successor; set `replaced` when it is ready.

    One that fails is ended, and nothing has changed.
    """
    try:
        successor = upgrade()
    except OSError as error:
        log.error("no successor could be started", because=error.strerror)
        return
    log.info("successor started", successor=successor.pid)
    is_ready = False
    try:
        is_ready = await successor.is_ready_in_time()
    finally:
        if not is_ready:
            code = successor.dismiss()
            log.error("successor failed, this process serves on", successor=successor.pid, exit_code=code)
    if is_ready:
        notify_service_manager(os.environ, MAINPID=successor.pid)
        replaced.set()


async def first_of(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


@contextlib.asynccontextmanager
async def beside_others(current: Current, directory: Path | None) -> AsyncIterator[None]:
    """Share this worker's metrics with the others within the block."""
    async with contextlib.AsyncExitStack() as held:
        if directory is not None:
            try:
                aggregation = await held.enter_async_context(
                    MetricsAggregation.join(directory, lambda: own_samples(current.runtime))
                )
                current.runtime = replace(current.runtime, aggregation=aggregation)
            except OSError as error:
                current.runtime.log.error("/metrics of this worker will not tell of the others", error=str(error))
        yield


async def drain(calls: Calls, hurry: asyncio.Event, seconds: float, log: FilteringBoundLogger) -> None:
    """Wait `seconds` for running calls, then end the streams left.

    They end as incomplete. `hurry` cuts that short.
    """
    log.info("draining", in_flight=len(calls), seconds=round(seconds, 1))
    hurried = asyncio.create_task(_interrupt_when(hurry, calls))
    try:
        left = await calls.drain(seconds)
    finally:
        hurried.cancel()
    if left:
        log.warning("calls interrupted at the end of the drain", calls=left)


async def _interrupt_when(hurry: asyncio.Event, calls: Calls) -> None:
    await hurry.wait()
    calls.interrupt_all()
