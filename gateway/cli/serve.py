"""gateway serve, gateway demo"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import socket
import sys
from pathlib import Path

import uvloop
from structlog.typing import FilteringBoundLogger

from gateway.cli.arguments import Commands, add_command, add_config, settings_of
from gateway.cli.console import complain
from gateway.config import Settings, load_settings
from gateway.demo import run_demo
from gateway.errors import ConfigError
from gateway.logs import LibraryLogs, LogFormat, make_logger
from gateway.reload import Watched
from gateway.serving import LISTEN_BACKLOG, listening_socket, serve
from gateway.workers import Supervisor


def add_to(commands: Commands) -> None:
    example = "gateway serve -c /etc/ecli-gateway/gateway.yaml"
    serving = add_command(commands, "serve", _run_serve, "serve the gateway", example)
    add_config(serving)
    _add_logging(serving)
    text = "run a gateway with a loopback upstream: no file, no key, no network"
    demo = add_command(commands, "demo", _run_demo, text, "gateway demo --port 8080")
    demo.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    demo.add_argument(
        "--port", type=int, default=8080, help="port to listen on; 0 takes a free one (default: %(default)s)"
    )
    _add_logging(demo)


def _run_serve(arguments: argparse.Namespace) -> int:
    watched = Watched.now(Path(arguments.config))
    settings = settings_of(arguments)
    log = _log(arguments)
    server = settings.server
    sock = _listen(server.host, server.port, f"`server.port` in {settings.source}")
    if sock is None:
        return 1
    if server.workers == 1:
        uvloop.run(serve(settings, log, sock, watched=watched))
        return 0
    # The backlog is set before the forks, so that a worker that is slow to start costs nobody a connection.
    sock.listen(LISTEN_BACKLOG)
    return Supervisor(server.workers, lambda: _work(settings, log, sock, watched), log).run()


def _work(settings: Settings, log: FilteringBoundLogger, sock: socket.socket, watched: Watched) -> int:
    """One worker's life. A worker that replaces another begins with the file as it is by then, if that is valid."""
    found = Watched.now(watched.path)
    if found != watched:
        with contextlib.suppress(ConfigError):
            settings, watched = load_settings(watched.path, os.environ), found
    uvloop.run(serve(settings, log, sock, watched=watched))
    return 0


def _run_demo(arguments: argparse.Namespace) -> int:
    sock = _listen(arguments.host, arguments.port, "--port")
    if sock is None:
        return 1
    uvloop.run(run_demo(sock, _log(arguments)))
    return 0


def _listen(host: str, port: int, setting: str) -> socket.socket | None:
    try:
        return listening_socket(host, port)
    except OSError as error:
        complain(f"gateway: cannot listen on {host}:{port}: {error.strerror}; {setting} sets the port.")
        return None


def _log(arguments: argparse.Namespace) -> FilteringBoundLogger:
    chosen: LogFormat = "json" if arguments.log_format == "json" else "console"
    if arguments.log_format == "auto" and not sys.stderr.isatty():
        chosen = "json"
    log = make_logger(chosen, level=logging.getLevelNamesMapping()[arguments.log_level.upper()])
    logging.getLogger().handlers = [LibraryLogs(log)]
    return log


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
