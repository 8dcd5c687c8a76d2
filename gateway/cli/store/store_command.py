"""gateway store copy, export, import"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections import Counter
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from gateway.cli.arguments import Commands, add_command, add_config, with_example
from gateway.cli.console import complain, print_line
from gateway.cli.store.places import WORDS, Place, base_settings, left_in_journal, needs_file, opened, place_of
from gateway.cli.store.progress_bar import ProgressBar
from gateway.config.private_files import open_private
from gateway.errors import StoreUnavailable
from gateway.transfer import json_lines
from gateway.transfer.copying import Mismatch, Mode, Outcome, TargetInUse, copy
from gateway.transfer.entries import Depot, counted
from gateway.transfer.left_behind import note_copied

_STANDARD = "-"
_MOST_PROBLEMS = 20
_HELD = (
    "API keys are held as hashes alone. Models that were made at run time bear the credentials of their upstreams: "
    "keep the file as you keep those."
)


def add_to(commands: Commands) -> None:
    text = "carry what was made at run time to another store, or to and from a file"
    store = with_example(commands.add_parser("store", help=text, description=text), "gateway store copy data redis")
    actions = store.add_subparsers(title="actions", required=True, metavar="ACTION")
    _add_copy(actions)
    _add_export(actions)
    _add_import(actions)


def _add_copy(actions: Commands) -> None:
    text = (
        "copy keys, users, organisations, plans, models, features, objects, unsettled work, alerts and the audit from "
        "one store to another, and compare both at the end. Sessions, cooldowns and the counts of limits are not "
        "copied: the first end, the last come from the ledger. A copy that was interrupted is run again"
    )
    example = (
        "gateway store copy embedded redis -c gateway.yaml\n"
        "  gateway store copy /var/lib/ecli-gateway 'redis://:${REDIS_PASSWORD}@redis.internal:6379/0'"
    )
    command = add_command(actions, "copy", _run_copy, text, example)
    command.add_argument("source", metavar="FROM", help=WORDS)
    command.add_argument("target", metavar="TO", help="likewise")
    command.add_argument("--from-prefix", metavar="TEXT", help="what FROM's keys in Redis begin with")
    command.add_argument("--to-prefix", metavar="TEXT", help="what TO's keys in Redis begin with")
    _add_mode(command)
    add_config(command)


def _add_export(actions: Commands) -> None:
    text = f"write what was made at run time as JSON lines, beside a running gateway. {_HELD}"
    command = add_command(actions, "export", _run_export, text, "gateway store export store.jsonl")
    command.add_argument("file", metavar="FILE", nargs="?", default=_STANDARD, help="default: standard output")
    command.add_argument("--from", dest="source", metavar="FROM", default="configured", help=WORDS)
    command.add_argument("--prefix", metavar="TEXT", help="what FROM's keys in Redis begin with")
    command.add_argument("--force", action="store_true", help="replace a file that is there")
    add_config(command)


def _add_import(actions: Commands) -> None:
    text = "read JSON lines of `gateway store export`; each line is taken as a whole or, with its number, refused"
    command = add_command(actions, "import", _run_import, text, "gateway store import store.jsonl --dry-run")
    command.add_argument("file", metavar="FILE", nargs="?", default=_STANDARD, help="default: standard input")
    command.add_argument("--to", dest="target", metavar="TO", default="configured", help=WORDS)
    command.add_argument("--prefix", metavar="TEXT", help="what TO's keys in Redis begin with")
    command.add_argument("--dry-run", action="store_true", help="validate and compare; write nothing")
    _add_mode(command)
    add_config(command)


def _add_mode(command: argparse.ArgumentParser) -> None:
    mode = command.add_mutually_exclusive_group()
    mode.add_argument("--merge", action="store_true", help="TO is not empty: add to it, and leave as it is what it has")
    mode.add_argument(
        "--replace", action="store_true", help="TO is not empty: make it alike, and delete what only TO has"
    )


def _mode_of(arguments: argparse.Namespace) -> Mode:
    return "merge" if arguments.merge else "replace" if arguments.replace else "fill"


# -- copy


def _run_copy(arguments: argparse.Namespace) -> int:
    is_needed = needs_file(arguments.source) or needs_file(arguments.target)
    settings = base_settings(arguments, is_needed=is_needed)
    source = place_of(arguments.source, arguments.from_prefix, settings)
    target = place_of(arguments.target, arguments.to_prefix, settings)
    if source.is_same(target):
        complain("gateway store copy: FROM and TO are the same store")
        return 2
    if waiting := left_in_journal(source):
        complain(f"gateway: {waiting}")
        return 1
    return asyncio.run(_copied(source, target, _mode_of(arguments)))


async def _copied(source: Place, target: Place, mode: Mode) -> int:
    async with AsyncExitStack() as held:
        from_depot = await opened(source, "alone")
        held.push_async_callback(from_depot.close)
        to_depot = await opened(target, "make")
        held.push_async_callback(to_depot.close)
        code = await _carried(from_depot, to_depot, mode, is_dry_run=False)
    if code == 0 and source.is_embedded and not target.is_embedded:
        note_copied(source.directory)
    return code


async def _carried(source: Depot, target: Depot, mode: Mode, *, is_dry_run: bool) -> int:
    """Copy, and say what was done."""
    bar = ProgressBar()
    try:
        outcome = await copy(source, target, mode, bar, is_dry_run=is_dry_run, of=await source.count())
    except TargetInUse as fault:
        bar.end()
        complain(
            f"gateway: {target.name} is not empty: it holds {_listed(fault.found)} that {source.name} does not have "
            "alike. `--merge` leaves them as they are and adds what is missing, `--replace` makes both alike."
        )
        return 1
    except Mismatch as fault:
        bar.end()
        complain(f"gateway: the check at the end found {fault.number:,} differences: {'; '.join(fault.named)}.")
        again = "again with `--replace`: TO had been empty" if mode == "fill" else "the same command again"
        complain(f"gateway: somebody wrote meanwhile; end who does, and run {again}.")
        return 1
    finally:
        bar.end()
    _tell(outcome, target, is_dry_run=is_dry_run)
    await _look_at_limits(target, mode, is_dry_run=is_dry_run)
    return 0


def _tell(outcome: Outcome, target: Depot, *, is_dry_run: bool) -> None:
    would = "would be " if is_dry_run else ""
    print_line(f"{_listed(outcome.written) or 'nothing'} {would}written to {target.name}.")
    if outcome.alike.total():
        print_line(f"{_listed(outcome.alike)} had been there alike.")
    if outcome.kept.total():
        print_line(f"{_listed(outcome.kept)} differ, and {would or 'were '}left as TO has them.")
    if outcome.deleted.total():
        print_line(f"{_listed(outcome.deleted)} that only TO had {would or 'were '}deleted.")
    if not is_dry_run:
        print_line("Both were read once more and compared: counts and contents agree.")


async def _look_at_limits(target: Depot, mode: Mode, *, is_dry_run: bool) -> None:
    """Drop, or warn of, totals that a Redis counted before."""
    from gateway.transfer.redis_depot import RedisDepot

    if is_dry_run or not isinstance(target, RedisDepot) or not await target.counts_limits():
        return
    if mode == "replace":
        await target.drop_limits()
        print_line("Counts of limits that were in TO are dropped: gateways ask the ledger anew.")
    else:
        complain(
            f"warning: {target.name} holds counts of limits. If a gateway that serves from it has counted them, all is "
            "well; if they are of an earlier use of it, `--replace` drops them, and the ledger is asked anew."
        )


def _listed(numbers: Counter[str]) -> str:
    return ", ".join(counted(kind, number) for kind, number in numbers.items() if number)


# -- export


def _run_export(arguments: argparse.Namespace) -> int:
    settings = base_settings(arguments, is_needed=needs_file(arguments.source))
    place = place_of(arguments.source, arguments.prefix, settings)
    if arguments.file == _STANDARD:
        exported = asyncio.run(_exported(place, sys.stdout.buffer))
        sys.stdout.buffer.flush()
    else:
        exported = _exported_to(Path(arguments.file), place, may_replace=arguments.force)
    complain(f"{_listed(exported.written) or 'nothing'} exported. API keys are in it as hashes alone.")
    if exported.with_credentials:
        complain(f"warning: {counted('model', exported.with_credentials)} in it may bear credentials of upstreams.")
    return 0


def _exported_to(path: Path, place: Place, *, may_replace: bool) -> json_lines.Exported:
    """Write a private file, as a whole or not at all."""
    if path.exists() and not may_replace:
        raise StoreUnavailable(f"{path} is there already, and is left as it is; `--force` replaces it.")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(open_private(unfinished, os.O_WRONLY | os.O_EXCL), "wb") as file:
            exported = asyncio.run(_exported(place, file))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        with suppress(OSError):
            unfinished.unlink()
    return exported


async def _exported(place: Place, file: BinaryIO) -> json_lines.Exported:
    depot, bar = await opened(place, "beside"), ProgressBar()
    try:
        return await json_lines.export(depot, file, bar, await depot.count())
    finally:
        bar.end()
        await depot.close()


# -- import


def _run_import(arguments: argparse.Namespace) -> int:
    settings = base_settings(arguments, is_needed=needs_file(arguments.target))
    place = place_of(arguments.target, arguments.prefix, settings)
    problems = _Problems()
    try:
        with _open_to_read(arguments.file) as file:
            staging = json_lines.staged(file, _name_of(arguments.file), problems.report)
    except json_lines.BadFile as bad:
        complain(f"gateway: {_name_of(arguments.file)}: {bad}")
        return 1
    code = asyncio.run(_imported(staging, place, _mode_of(arguments), is_dry_run=arguments.dry_run))
    problems.sum_up()
    return 1 if problems.number else code


async def _imported(staging: Depot, place: Place, mode: Mode, *, is_dry_run: bool) -> int:
    async with AsyncExitStack() as held:
        held.push_async_callback(staging.close)
        target = await _target(place, is_dry_run=is_dry_run)
        held.push_async_callback(target.close)
        return await _carried(staging, target, mode, is_dry_run=is_dry_run)


async def _target(place: Place, *, is_dry_run: bool) -> Depot:
    """Open TO; a dry run only reads it."""
    from gateway.transfer.staging import Staging

    if not is_dry_run:
        return await opened(place, "make")
    with suppress(StoreUnavailable):
        return await opened(place, "beside")
    if not place.is_embedded:
        return await opened(place, "beside")  # which says why it cannot be
    return Staging(f"a new embedded store in {place.directory}")


class _Problems:
    """Lines that cannot be used: the first are named, all are counted."""

    def __init__(self) -> None:
        self.number = 0

    def report(self, problem: json_lines.Problem) -> None:
        self.number += 1
        if self.number <= _MOST_PROBLEMS:
            complain(f"line {problem.line}: {problem.reason}")

    def sum_up(self) -> None:
        if self.number > _MOST_PROBLEMS:
            complain(f"… and {self.number - _MOST_PROBLEMS:,} more")
        if self.number:
            complain(f"{self.number:,} line{'s were' if self.number > 1 else ' was'} refused; the others were taken.")


def _open_to_read(name: str) -> BinaryIO:
    return sys.stdin.buffer if name == _STANDARD else open(name, "rb")


def _name_of(name: str) -> str:
    return "standard input" if name == _STANDARD else name
