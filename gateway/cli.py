"""The command line (contract §10). Exit codes: 0 done, 1 it failed and said why on stderr, 2 wrong usage."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import orjson
import uvloop
from structlog.typing import FilteringBoundLogger

from gateway import __version__
from gateway.auth import key_sha256
from gateway.config import Settings, key_yaml_line, load_settings, settings_schema
from gateway.demo import run_demo
from gateway.errors import ConfigError
from gateway.grants.base import Catalogue
from gateway.ledger import LedgerUnusable, QueryFailed, Totals, Usage, UsageReport
from gateway.logs import LibraryLogs, LogFormat, make_logger
from gateway.serving import LISTEN_BACKLOG, listening_socket, serve
from gateway.types import SCOPES, Id, Organisation, Secret, User, id_text
from gateway.usage import UsageSummary, days_asked, summary_of, summary_text
from gateway.workers import Supervisor

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
    log = _log(arguments)
    server = settings.server
    sock = _listen(server.host, server.port, f"`server.port` in {settings.source}")
    if sock is None:
        return 1
    path = Path(arguments.config)
    if server.workers == 1:
        uvloop.run(serve(settings, log, sock, watched=path))
        return 0
    # The backlog is set before the forks, so that a worker that is slow to start costs nobody a connection.
    sock.listen(LISTEN_BACKLOG)
    return Supervisor(server.workers, lambda: _work(settings, log, sock, path), log).run()


def _work(settings: Settings, log: FilteringBoundLogger, sock: socket.socket, path: Path) -> int:
    """One worker's life. A worker that replaces another begins with the file as it is by then, if that is valid."""
    with contextlib.suppress(ConfigError):
        settings = load_settings(path, os.environ)
    uvloop.run(serve(settings, log, sock, watched=path))
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


def run_usage(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    try:
        first, last = days_asked(arguments.first, arguments.last, datetime.now(UTC).date())
    except ValueError as mistake:
        print(f"gateway usage: {mistake}", file=sys.stderr)
        return 2
    model = None if arguments.model is None else Catalogue(settings.models).find(arguments.model)
    usage = Usage(
        first,
        last,
        user=_as_listed(arguments.user, settings.users),
        organisation=_as_listed(arguments.org, settings.organisations),
        model=arguments.model if model is None else model.id,
    )
    try:
        summary = _usage_summary(settings.usage.url, usage)
    except (QueryFailed, LedgerUnusable) as error:
        print(f"gateway: the usage of {settings.source} cannot be read: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(summary)).decode())
        return 0
    names = {id_text(one.id): one.name for one in settings.models}
    print(summary_text(summary, names, unicode=(sys.stdout.encoding or "").lower().startswith("utf")), end="")
    return 0


def _usage_summary(url: Secret, usage: Usage) -> UsageSummary:
    """Asks the database itself, so that it does not matter whether the gateway runs."""
    from sqlalchemy import make_url  # a quarter of a second that the other commands need not wait

    address = make_url(url.reveal())
    if address.get_backend_name() == "sqlite" and not Path(address.database or "").exists():
        return summary_of(usage, UsageReport(Totals()), UsageReport(Totals()))  # no gateway has run here yet
    return asyncio.run(_read_usage(url, usage))


async def _read_usage(url: Secret, usage: Usage) -> UsageSummary:
    from gateway.ledger.reader import Reader

    reader = Reader(url)
    try:
        return summary_of(usage, await reader.report(usage, "day"), await reader.report(usage, "model"))
    finally:
        await reader.close()


def _as_listed(text: str | None, records: Iterable[User | Organisation]) -> Id | None:
    """The id as the file has it, number or string."""
    return next((record.id for record in records if id_text(record.id) == text), text)


def _settings(arguments: argparse.Namespace) -> Settings:
    return load_settings(Path(arguments.config), os.environ)


def _listen(host: str, port: int, setting: str) -> socket.socket | None:
    try:
        return listening_socket(host, port)
    except OSError as error:
        print(f"gateway: cannot listen on {host}:{port}: {error.strerror}; {setting} sets the port.", file=sys.stderr)
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
    _add_usage(
        add(
            "usage",
            run_usage,
            "show what was used, with bars",
            "gateway usage --user 42 --from 2027-01-01 --to 2027-01-31",
        )
    )
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


def _add_usage(command: argparse.ArgumentParser) -> None:
    _add_config(command)
    command.add_argument("--user", metavar="ID", help="of this user")
    command.add_argument("--org", metavar="ID", help="of this organisation")
    command.add_argument("--model", metavar="NAME", help="of this model: its id, name or alias")
    command.add_argument(
        "--from", dest="first", metavar="DATE", help="first day, UTC (default: the first of the last day's month)"
    )
    command.add_argument("--to", dest="last", metavar="DATE", help="last day, UTC (default: today)")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")


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
