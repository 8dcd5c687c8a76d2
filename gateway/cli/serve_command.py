"""gateway serve, gateway demo"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import faulthandler
import gc
import logging
import os
import random
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop
from structlog.typing import FilteringBoundLogger, Processor

from gateway.cli.arguments import Commands, add_command, add_config, settings_of
from gateway.cli.console import complain
from gateway.config import Settings, load_settings
from gateway.config.reload import Watched
from gateway.errors import ConfigError, JournalUnavailable, LedgerUnusable
from gateway.observability.chorus import Chorus
from gateway.observability.log_stream import LogStream
from gateway.observability.logging import LibraryLogs, LogFormat, make_logger
from gateway.process.serve import LISTEN_BACKLOG, listening_socket, serve, settle_the_collector
from gateway.process.supervisor import Supervisor
from gateway.process.systemd import notify_service_manager
from gateway.process.upgrade import Predecessor, Successor
from gateway.transfer.left_behind import warning_of as left_behind
from gateway.usage.sql.drivers import check_driver

STANDARD_ERROR = 2
EXIT_SECONDS = 10.0  # that the interpreter has to end once everything is closed


def add_to(commands: Commands) -> None:
    example = "gateway serve -c /etc/ecli-gateway/gateway.yaml"
    serving = add_command(commands, "serve", _run_serve, "serve the gateway", example)
    add_config(serving)
    _add_logging(serving)
    text = "run a gateway with a loopback upstream: no file, no key, no network"
    demo = add_command(commands, "demo", _run_demo, text, "gateway demo --port 8080\n  gateway demo --faults --seed 7")
    demo.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    demo.add_argument(
        "--port", type=int, default=8080, help="port to listen on; 0 takes a free one (default: %(default)s)"
    )
    demo.add_argument(
        "--faults",
        action="store_true",
        help="an upstream that breaks HTTP in many ways; the log says which one each request met",
    )
    demo.add_argument(
        "--seed", type=int, help="with --faults: the order in which they come (default: another each time)"
    )
    demo.add_argument(
        "--pages", action="store_true", help="only a gallery: every state of every page, with made-up answers"
    )
    _add_logging(demo)


def _run_serve(arguments: argparse.Namespace) -> int:
    predecessor = Predecessor.of(os.environ)
    gc.disable()  # until `serve` settles it: what is made by then stays
    # Until somebody listens to them they must not end the process: the file is about to be read anyway.
    for number in (signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    watched = Watched.now(Path(arguments.config))
    settings = settings_of(arguments)
    check_driver(settings.usage.url)
    chorus = Chorus()
    log, log_stream = _log(arguments, chorus)
    if (left := left_behind(settings)) is not None:
        log.warning("keys are left in the store that is not in use", what=left)
    server = settings.server
    sock = _listen(server.host, server.port, f"`server.port` in {settings.source}", predecessor)
    if sock is None:
        return 1
    if predecessor is not None and settings.store.kind == "embedded":
        # One process at a time holds the records and the limits' counts. Who connects by then waits in the queue.
        predecessor.notify_ready()
        predecessor.wait_for_its_end()
    serving = _Serving(settings, log, log_stream, sock, watched, predecessor)
    if server.workers == 1:
        serving.run(upgrade=serving.successor)
        return 0
    # The backlog is set before the forks, so that a worker that is slow to start costs nobody a connection.
    sock.listen(LISTEN_BACKLOG)
    chorus.workers = server.workers
    settle_the_collector()  # workers share what is there now, as long as nobody writes to it
    with contextlib.ExitStack() as held:
        serving.aggregation = _metrics_directory(held, log)
        code = Supervisor(server.workers, serving.run_worker, log, serving.successor).run()
    log.info("stopped")
    return code


def _metrics_directory(held: contextlib.ExitStack, log: FilteringBoundLogger) -> Path | None:
    """Return the directory of the workers' metrics, or None.

    A worker never comes back to here, so it is the supervisor alone that takes the directory away.
    """
    try:
        return Path(held.enter_context(tempfile.TemporaryDirectory(prefix="ecli-gateway-")))
    except OSError as error:
        log.error("no temporary directory: /metrics tells of one worker at a time", error=str(error))
        return None


async def ending_in_time(serving: Coroutine[Any, Any, None]) -> None:
    """Serve; a process that then does not end says why and ends.

    All is written by then: what may still hold it up is a thread that never returns.
    """
    await serving
    # The descriptor, not `sys.stderr`: that one is None where the gateway was started without, and this one /dev/null.
    faulthandler.dump_traceback_later(EXIT_SECONDS, exit=True, file=STANDARD_ERROR)


class _Serving:
    """What one process, or each of several workers, serves."""

    def __init__(
        self,
        settings: Settings,
        log: FilteringBoundLogger,
        log_stream: LogStream,
        sock: socket.socket,
        watched: Watched,
        predecessor: Predecessor | None,
    ) -> None:
        self._settings = settings
        self._log = log
        self._log_stream = log_stream
        self._sock = sock
        self._watched = watched
        self._predecessor = predecessor
        self.aggregation: Path | None = None

    def run(self, upgrade: Callable[[], Successor] | None = None) -> None:
        serving = serve(
            self._settings,
            self._log,
            self._sock,
            watched=self._watched,
            aggregation=self.aggregation,
            ready=self._ready,
            upgrade=upgrade,
            log_stream=self._log_stream,
        )
        uvloop.run(ending_in_time(serving))

    def run_worker(self) -> int:
        """Run one worker; return its exit code.

        One that replaces another begins with the file as it is by then, if that is valid.
        """
        found = Watched.now(self._watched.path)
        if found != self._watched:
            with contextlib.suppress(ConfigError):
                self._settings, self._watched = load_settings(found.path, os.environ), found
        try:
            self.run()
        except ConfigError as error:
            self._log.error("worker cannot be started", problems=error.problems)
            return 1
        except (LedgerUnusable, JournalUnavailable) as error:
            self._log.error("worker cannot be started", problems=[str(error)])
            return 1
        return 0

    def successor(self) -> Successor:
        return Successor.start(self._sock)

    def _ready(self, url: str) -> None:
        notify_service_manager(os.environ, READY=1)
        if self._predecessor is not None:
            self._predecessor.notify_ready()


def _run_demo(arguments: argparse.Namespace) -> int:
    seed = arguments.seed
    if seed is not None and not arguments.faults:
        complain("gateway demo: --seed is for --faults")
        return 2
    if arguments.pages and arguments.faults:
        complain("gateway demo: --pages has no upstream; leave out --faults")
        return 2
    if arguments.faults and seed is None:
        seed = random.randrange(1_000_000)
    sock = _listen(arguments.host, arguments.port, "--port")
    if sock is None:
        return 1
    if arguments.pages:
        from gateway.demo.gallery import run_gallery  # what serves does not load what only the demo needs

        uvloop.run(run_gallery(sock))
        return 0
    from gateway.demo import run_demo

    log, _ = _log(arguments)
    uvloop.run(run_demo(sock, log, faults_by_seed=seed))
    return 0


def _listen(host: str, port: int, setting: str, predecessor: Predecessor | None = None) -> socket.socket | None:
    if predecessor is not None:
        return predecessor.listener
    try:
        return listening_socket(host, port)
    except OSError as error:
        complain(f"gateway: cannot listen on {host}:{port}: {error.strerror}; {setting} sets the port.")
        return None


def _log(arguments: argparse.Namespace, *first: Processor) -> tuple[FilteringBoundLogger, LogStream]:
    """Open the log and the stream behind standard error.

    Tracebacks of Python go there too.
    """
    sys.stderr = stream = LogStream.over(sys.stderr)
    atexit.register(stream.end)
    chosen: LogFormat = "json" if arguments.log_format == "json" else "console"
    if arguments.log_format == "auto" and not stream.isatty():
        chosen = "json"
    level = logging.getLevelNamesMapping()[arguments.log_level.upper()]
    log = make_logger(chosen, level=level, stream=stream, first=first)
    logging.getLogger().handlers = [LibraryLogs(log)]
    return log, stream


def _add_logging(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--log-format",
        choices=("auto", "console", "json"),
        default="auto",
        help="auto: console on a terminal, else json",
    )
    command.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="default: %(default)s"
    )
