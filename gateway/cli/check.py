"""gateway check, gateway schema"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from gateway.access.diff import differences
from gateway.api.messages_routes import is_picked
from gateway.cli.arguments import Commands, add_command, add_config, settings_of
from gateway.cli.console import complain, print_line
from gateway.cli.stored_records import quiet_log
from gateway.config import Settings, load_settings, settings_schema
from gateway.transfer.left_behind import warning_of as left_behind
from gateway.types import Model, has_expired, id_text
from gateway.usage.sql.drivers import check_driver

_MOST_NAMED = 20
_PICKED = "it shows ids that begin with claude or anthropic, such aliases among them"


def add_to(commands: Commands) -> None:
    example = "gateway check -c gateway.yaml --against /etc/ecli-gateway/gateway.yaml && systemctl reload gateway"
    command = add_command(commands, "check", _run, "validate gateway.yaml", example)
    add_config(command)
    command.add_argument("--against", metavar="OLD", help="another file: tell who gains or loses what, compared to it")
    command.add_argument(
        "--probe", action="store_true", help="ask each endpoint for its models: is it there, is its credential alive?"
    )
    command.add_argument(
        "--connect", action="store_true", help="reach store, ledger and endpoints, as a gateway of this file would"
    )
    text = "print the JSON Schema of gateway.yaml, for editors"
    add_command(commands, "schema", _run_schema, text, "gateway schema > gateway.schema.json")


def _run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    check_driver(settings.usage.url)
    if settings.store.kind == "redis":
        from gateway.redis.link_forms import link_to  # only who uses it pays for loading redis-py

        link_to(settings.store.url, quiet_log())  # refuses what redis-py does not take
    print_line(f"{settings.source} is valid: {_counts(settings)}.")
    for line in _notes(settings):
        print_line(line)
    if arguments.against is not None:
        _print_differences(load_settings(Path(arguments.against), os.environ), settings)
    if arguments.connect:
        from gateway.cli.connections import connect  # who serves does not load what only this needs

        return _failed(asyncio.run(connect(settings)), "connection")
    if not arguments.probe:
        return 0
    from gateway.cli.trials.probe import probe

    return _failed(asyncio.run(probe(settings)), "endpoint")


def _failed(count: int, noun: str) -> int:
    """Return the exit code."""
    if count:
        complain(f"{count} {noun}{'s' if count != 1 else ''} failed; the lines that begin with FAIL say what is wrong.")
    return 1 if count else 0


def _notes(settings: Settings) -> Iterator[str]:
    """Yield what else there is to know of a valid file."""
    yield from (f"warning: {warning}" for warning in _warnings(settings))
    hidden = [model.name for model in settings.models if _chats(model) and not _is_shown(model)]
    if hidden:
        yield f"Claude Code's picker does not show {_named(hidden)}: {_PICKED}."
    yield from settings.overridden
    yield from (f"price: auto, {found}" for found in settings.looked_up)


def _warnings(settings: Settings) -> Iterator[str]:
    """Yield what is valid, and yet hardly meant."""
    if not settings.keys and not settings.auth.jwt:
        yield "there is no key: whoever asks needs one that was made at run time (`gateway keys new --store`)"
    yield from _warnings_of_issuers(settings)
    if (left := left_behind(settings)) is not None:
        yield left
    now = datetime.now(UTC)
    expired = [key for key in settings.keys if key.expires is not None and has_expired(key.expires, now)]
    for key in expired[:_MOST_NAMED]:
        place = settings.lines.where("key", id_text(key.id))
        yield f"{place}: the key `{id_text(key.id)}` has expired"
    if len(expired) > _MOST_NAMED:
        yield f"{len(expired) - _MOST_NAMED} more keys have expired"


def _warnings_of_issuers(settings: Settings) -> Iterator[str]:
    known = {id_text(each.id) for each in settings.organisations}
    for number, issuer in enumerate(settings.auth.jwt):
        at = f"auth.jwt[{number}]"
        if not issuer.user_prefix:
            yield f"{at}.user_prefix is empty: a token of {issuer.issuer} can be any user, of this file too"
        if issuer.jwks_url is not None and is_in_the_clear(issuer.jwks_url):
            yield f"{at}.jwks_url is http: whoever is on the way can put keys of their own in"
        if unknown := sorted(issuer.organisations_max - known):
            yield f"{at}.organisations_max: this file has no organisation {_named(unknown)}"


def is_in_the_clear(url: str) -> bool:
    """Whether others on the way could change what this URL gives."""
    parts = urlsplit(url)
    return parts.scheme.lower() == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1")


def _chats(model: Model) -> bool:
    return model.operations is None or "chat" in model.operations


def _is_shown(model: Model) -> bool:
    return any(map(is_picked, (model.name, *model.aliases)))


def _named(names: list[str]) -> str:
    """List names, the first of many."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _counts(settings: Settings) -> str:
    numbers = {
        "model": len(settings.models),
        "organisation": len(settings.organisations),
        "plan": len(settings.plans),
        "user": len(settings.users),
        "key": len(settings.keys),
    }
    if settings.auth.jwt:
        numbers["issuer of tokens"] = len(settings.auth.jwt)
    return ", ".join(f"{number} {_plural(noun, number)}" for noun, number in numbers.items())


def _plural(noun: str, number: int) -> str:
    first, _, rest = noun.partition(" ")
    return noun if number == 1 else f"{first}s {rest}".rstrip()


def _print_differences(old: Settings, new: Settings) -> None:
    changes = differences(old, new)
    if not changes:
        print_line(f"Nothing changes compared to {old.source}.")
        return
    print_line(f"Compared to {old.source}:")
    for change in changes:
        print_line(f"  {change}")


def _run_schema(_: argparse.Namespace) -> int:
    sys.stdout.buffer.write(orjson.dumps(settings_schema(), option=orjson.OPT_INDENT_2) + b"\n")
    return 0
