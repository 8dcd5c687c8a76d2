"""The command line (contract §10). Exit codes: 0 done, 1 it failed and said why on stderr, 2 wrong usage."""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson
import uvloop
from structlog.typing import FilteringBoundLogger

from gateway import __version__
from gateway.app import listening_socket, serve
from gateway.auth import key_sha256
from gateway.config import Settings, key_yaml_line, load_settings, settings_schema
from gateway.demo import run_demo
from gateway.errors import ConfigError
from gateway.logs import LibraryLogs, LogFormat, make_logger
from gateway.types import SCOPES

DEFAULT_CONFIG = "gateway.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        print(error, file=sys.stderr)
        problems = len(error.problems)
        print(f"{problems} problem{'s' if problems != 1 else ''}; nothing was started.", file=sys.stderr)
    except OSError as error:
        print(f"gateway: {error.strerror or error}", file=sys.stderr)
    except BrokenPipeError:
        pass
    except KeyboardInterrupt:
        return 130
    return 1


def run_serve(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    unsupported = _not_yet(settings)
    if unsupported:
        print(f"gateway: {unsupported}", file=sys.stderr)
        return 1
    log = _log(arguments)
    server = settings.server
    sock = _listen(server.host, server.port, f"`server.port` in {settings.source}")
    if sock is None:
        return 1
    uvloop.run(serve(settings, log, sock))
    return 0


def run_demonstration(arguments: argparse.Namespace) -> int:
    sock = _listen(arguments.host, arguments.port, "--port")
    if sock is None:
        return 1
    uvloop.run(run_demo(sock, _log(arguments)))
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    counts = ", ".join(
        f"{len(records)} {name}"
        for name, records in (
            ("models", settings.models),
            ("organisations", settings.organisations),
            ("plans", settings.plans),
            ("users", settings.users),
            ("keys", settings.keys),
        )
    )
    print(f"{settings.source} is valid: {counts}.")
    return 0


def run_schema(_: argparse.Namespace) -> int:
    sys.stdout.buffer.write(orjson.dumps(settings_schema(), option=orjson.OPT_INDENT_2) + b"\n")
    return 0


def run_keys_new(arguments: argparse.Namespace) -> int:
    key = f"sk-ecli-{secrets.token_urlsafe(32)}"
    key_id = arguments.id or f"key-{secrets.token_hex(4)}"
    scopes = arguments.scope or ["ai:use"]
    user = int(arguments.user) if arguments.user.isdecimal() else arguments.user
    print(f"key:  {key}")
    print("      It is not stored anywhere: give it to its user now. The line below holds only its hash.")
    print()
    print("Under `keys:` in gateway.yaml:")
    print(key_yaml_line(key_id, user, key_sha256(key), scopes, arguments.expires))
    return 0


def _settings(arguments: argparse.Namespace) -> Settings:
    return load_settings(Path(arguments.config), os.environ)


def _listen(host: str, port: int, setting: str) -> socket.socket | None:
    try:
        return listening_socket(host, port)
    except OSError as error:
        print(f"gateway: cannot listen on {host}:{port}: {error.strerror}; {setting} sets the port.", file=sys.stderr)
        return None


def _not_yet(settings: Settings) -> str | None:
    """What the file asks for and this version does not do: said at the start, instead of half done."""
    if settings.store.kind == "redis":
        return "`store.kind: redis` is not supported by this version; use `embedded`."
    if settings.server.workers > 1:
        return "`server.workers` above 1 needs `store.kind: redis`, which this version does not support yet; use 1."
    return None


def _log(arguments: argparse.Namespace) -> FilteringBoundLogger:
    chosen: LogFormat = "json" if arguments.log_format == "json" else "console"
    if arguments.log_format == "auto" and not sys.stderr.isatty():
        chosen = "json"
    log = make_logger(chosen, level=logging.getLevelNamesMapping()[arguments.log_level.upper()])
    logging.getLogger().handlers = [LibraryLogs(log)]
    return log


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no ISO date, as 2027-01-31 or 2027-01-31T12:00:00Z") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _parser() -> argparse.ArgumentParser:
    parser = _command(
        argparse.ArgumentParser(prog="gateway", description="An OpenAI-compatible reverse-proxy gateway."),
        "gateway demo",
    )
    parser.add_argument("--version", action="version", version=f"ecli-gateway {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, run: object, text: str, example: str) -> argparse.ArgumentParser:
        command = _command(commands.add_parser(name, help=text, description=text), example)
        command.set_defaults(run=run)
        return command

    serving = add("serve", run_serve, "serve the gateway", "gateway serve -c /etc/ecli-gateway/gateway.yaml")
    _add_config(serving)
    _add_logging(serving)
    _add_config(
        add("check", run_check, "validate gateway.yaml", "gateway check -c gateway.yaml && systemctl reload gateway")
    )
    add(
        "schema",
        run_schema,
        "print the JSON Schema of gateway.yaml, for editors",
        "gateway schema > gateway.schema.json",
    )
    demo = add(
        "demo",
        run_demonstration,
        "run a gateway with a loopback upstream: no file, no key, no network",
        "gateway demo --port 8080",
    )
    demo.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    demo.add_argument(
        "--port", type=int, default=8080, help="port to listen on; 0 takes a free one (default: %(default)s)"
    )
    _add_logging(demo)
    _add_keys(commands)
    return parser


def _add_keys(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    keys = _command(
        commands.add_parser("keys", help="make API keys", description="make API keys"), "gateway keys new --user 42"
    )
    actions = keys.add_subparsers(title="actions", required=True, metavar="ACTION")
    new = _command(
        actions.add_parser(
            "new", help="print a new key and its YAML line", description="print a new key and its YAML line"
        ),
        "gateway keys new --user 42 --scope ai:use --expires 2027-01-01",
    )
    new.set_defaults(run=run_keys_new)
    new.add_argument("--user", required=True, metavar="ID", help="the user to whom the key belongs")
    new.add_argument("--id", help="a name for the key, as in `laptop` (default: one is made)")
    new.add_argument("--scope", action="append", choices=SCOPES, help="may be given several times (default: ai:use)")
    new.add_argument(
        "--expires", type=_moment, metavar="DATE", help="ISO date; without a zone it is UTC (default: never)"
    )


def _add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument("-c", "--config", default=DEFAULT_CONFIG, metavar="FILE", help="default: ./%(default)s")


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


def _command(command: argparse.ArgumentParser, example: str) -> argparse.ArgumentParser:
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = f"example:\n  {example}"
    return command
