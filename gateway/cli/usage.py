"""gateway usage"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

from gateway.cli.arguments import Commands, add_command, add_config, settings_of
from gateway.cli.console import complain, print_json, print_line
from gateway.config import Settings
from gateway.errors import QueryFailed
from gateway.store.base import Catalogue
from gateway.types import Id, Organisation, User, id_text
from gateway.usage import Totals, UsageQuery, UsageReport
from gateway.usage.rebuild import rebuild
from gateway.usage.sql.drivers import check_driver
from gateway.usage.views import CSV_HEADER, UsageSummary, csv_line, days_asked, progress_text, summary_of, summary_text


def add_to(commands: Commands) -> None:
    example = "gateway usage --user 42 --from 2027-01-01 --to 2027-01-31"
    command = add_command(commands, "usage", _run, "show what was used, with bars", example)
    command.add_argument(
        "action",
        nargs="?",
        choices=["show", "rebuild"],
        default="show",
        help="show (default), or rebuild: make the sums that reports read anew from the rows, while gateways serve",
    )
    add_config(command)
    command.add_argument("--user", metavar="ID", help="of this user")
    command.add_argument("--org", metavar="ID", help="of this organisation")
    command.add_argument("--model", metavar="NAME", help="of this model: its id, name or alias")
    command.add_argument(
        "--from", dest="first", metavar="DATE", help="first day, UTC (default: the first of the last day's month)"
    )
    command.add_argument("--to", dest="last", metavar="DATE", help="last day, UTC (default: today)")
    shape = command.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON instead of text")
    shape.add_argument("--csv", action="store_true", help="print every request as a line of CSV instead")


def _run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    check_driver(settings.usage.url)
    if arguments.action == "rebuild":
        return _rebuild(settings)
    try:
        usage = _asked(arguments, settings)
    except ValueError as mistake:
        complain(f"gateway usage: {mistake}")
        return 2
    try:
        if arguments.csv:
            _print_csv(settings, usage)
            return 0
        summary = _summary(settings, usage)
    except QueryFailed as error:
        complain(f"gateway: the usage of {settings.source} cannot be read: {error}")
        return 1
    if arguments.json:
        print_json(summary)
        return 0
    print_line(
        summary_text(summary, _names(settings), unicode=(sys.stdout.encoding or "").lower().startswith("utf")), end=""
    )
    return 0


def _asked(arguments: argparse.Namespace, settings: Settings) -> UsageQuery:
    """Raise ValueError for days that are none."""
    first, last = days_asked(arguments.first, arguments.last, datetime.now(UTC).date())
    model = None if arguments.model is None else Catalogue(settings.models).find(arguments.model)
    return UsageQuery(
        first,
        last,
        user=_as_listed(arguments.user, settings.users),
        organisation=_as_listed(arguments.org, settings.organisations),
        model=arguments.model if model is None else model.id,
    )


def _as_listed(text: str | None, records: Iterable[User | Organisation]) -> Id | None:
    """The id as the file has it, number or string."""
    return next((record.id for record in records if id_text(record.id) == text), text)


def _names(settings: Settings) -> dict[str, str]:
    return {id_text(one.id): one.name for one in settings.models}


def _summary(settings: Settings, usage: UsageQuery) -> UsageSummary:
    """Query the database itself, whether or not the gateway runs."""
    if is_missing(settings):
        nothing = UsageReport(Totals())  # no gateway has run here yet
        return summary_of(usage, nothing, nothing, {})
    return asyncio.run(_read(settings, usage))


def is_missing(settings: Settings) -> bool:
    """Whether there is no file yet."""
    from sqlalchemy import make_url  # a quarter of a second that the other commands need not wait

    address = make_url(settings.usage.url.reveal())
    return address.get_backend_name() == "sqlite" and not Path(address.database or "").exists()


async def _read(settings: Settings, usage: UsageQuery) -> UsageSummary:
    from gateway.usage.sql.reader import Reader

    reader = Reader(settings.usage.url, may_be_fresh=True)
    try:
        days, models = await reader.report(usage, "day"), await reader.report(usage, "model")
        return summary_of(usage, days, models, _names(settings))
    finally:
        await reader.close()


def _print_csv(settings: Settings, usage: UsageQuery) -> None:
    sys.stdout.write(CSV_HEADER)
    if not is_missing(settings):
        asyncio.run(_export(settings, usage))


async def _export(settings: Settings, usage: UsageQuery) -> None:
    """Print a few requests at a time: memory stays bounded."""
    from gateway.usage.sql.reader import Reader

    reader = Reader(settings.usage.url, may_be_fresh=True)
    try:
        async with aclosing(reader.export(usage)) as records:
            async for record in records:
                sys.stdout.write(csv_line(record))
    finally:
        await reader.close()


def _rebuild(settings: Settings) -> int:
    if is_missing(settings):
        print_line("nothing is recorded")
        return 0
    rows = 0
    try:
        for done in rebuild(settings.usage.url):
            rows = done.rows
            if sys.stderr is not None and sys.stderr.isatty():
                sys.stderr.write("\r" + progress_text(done.done, done.rows))
                sys.stderr.flush()
    except QueryFailed as error:
        complain(f"gateway: the sums of {settings.source} cannot be made anew: {error}")
        return 1
    finally:
        if sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write("\n")
    print_line(f"the sums are made anew from {rows:,} rows")
    return 0
