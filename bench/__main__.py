"""The command line: `python -m bench --help`."""

from __future__ import annotations

import argparse
import secrets
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import msgspec

from bench import pages, peers
from bench.arena import Arena
from bench.peers import Installed, UnavailableError
from bench.processes import StartError, most_connections
from bench.proxies import PEERS
from bench.report import make_report
from bench.revisions import UnknownRevisionError, changed_files, checked_out
from bench.samples import FULL, PLANS, Sample
from bench.tables import TABLES
from bench.targets import REPOSITORY

EXAMPLES = """\
examples:
  python -m bench                                   everything: some twenty-five minutes
  python -m bench --quick                           the same in a few minutes, with wider spreads
  python -m bench --only requests --peers caddy     one table, one peer
  python -m bench --only soak --soak-seconds 3600   memory under an hour of load
  python -m bench --against HEAD~5 --peers none     two revisions in one run: what changed beyond the noise
  python -m bench --write docs                      docs/benchmarks.md, .json and charts: of a clean commit alone

The first run installs the peers into bench/.peers/. Exit codes: 0 measured, 1 the gateway did not start, or one of its
answers was wrong, 2 wrong usage.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.write and (reason := why_unfit_for_docs(options, REPOSITORY)):
        print(f"bench: --write {options.write}: {reason}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _exit_on_signal)
    most_connections()  # raises the limit of open files for every process to come
    key = "sk-bench-" + secrets.token_urlsafe(24)
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-")))
        arena = Arena(options.plan, key, folder, {}, with_gateway=not options.no_gateway)
        if options.against:
            try:
                arena.against = held.enter_context(checked_out(options.against, REPOSITORY, folder))
            except UnknownRevisionError as error:
                print(f"bench: --against {options.against}: {error}", file=sys.stderr)
                return 2
        install(arena, options)
        samples = list(measure(arena, options.only))
        report = make_report(arena, samples, _command(arguments))
    print(pages.markdown(report))
    if options.write:
        pages.write(report, options.write)
    if options.json:
        pages.write_json(report, options.json)
    return _verdict(arena, report.errors)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """`plan`, `only`, `peers`, `json`, `write`, … checked; exits with 2 on wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="The gateway beside other proxies: CPU, memory, latency over loopback, as markdown tables.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_what(parser)
    _add_where(parser)
    options = parser.parse_args(arguments)
    plan = PLANS["quick" if options.quick else options.size]
    changes = {"rounds": options.rounds, "side_rounds": options.rounds, "soak_seconds": options.soak_seconds}
    options.plan = msgspec.structs.replace(plan, **{name: each for name, each in changes.items() if each})
    return options


def why_unfit_for_docs(options: argparse.Namespace, repository: Path) -> str:
    """Why this run may not write into the repository; "" where it may, or writes elsewhere."""
    if not options.write.resolve().is_relative_to(repository):
        return ""
    if options.plan.size != FULL.size:
        return f"figures of a {options.plan.size} run are no figures for the docs"
    changed = changed_files(repository)
    if changed is None:
        return "this is no clone: its figures would be of no commit"
    return f"files differ from the commit: {', '.join(changed[:3])}" if changed else ""


def _add_what(parser: argparse.ArgumentParser) -> None:
    tables, names = tuple(TABLES), tuple(PEERS)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: a few minutes")
    parser.add_argument("--size", choices=tuple(PLANS), default=FULL.size, help="smoke: does it work at all?")
    parser.add_argument(
        "--only", type=_some_of(tables), default=tables, metavar="TABLES", help=f"some of {','.join(tables)}"
    )
    parser.add_argument(
        "--peers", type=_some_of(names), default=names, metavar="NAMES", help=f"some of {','.join(names)}, or none"
    )
    parser.add_argument("--installed", action="store_true", help="only peers that are there: install nothing")
    parser.add_argument("--against", metavar="REV", help="measure that revision of the gateway beside this one")
    parser.add_argument("--no-gateway", action="store_true", help="only the peers: what does this machine give?")
    parser.add_argument("--rounds", type=_number(100), metavar="N", help="of requests, events, latency, bodies, TLS")
    parser.add_argument("--soak-seconds", type=_number(86_400), metavar="N", help=f"default {FULL.soak_seconds:.0f}")


def _add_where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there as well")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write page, JSON and charts there")


def _some_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A reader of comma-separated lists that keeps the order of `known`; `none` is an empty one."""

    def read(text: str) -> list[str]:
        asked = {name.strip() for name in text.split(",")} - {"none"}
        if unknown := asked - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not one of {', '.join(known)}")
        return [name for name in known if name in asked]

    return read


def _number(most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdigit() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text}: not a number from 1 to {most:,}")
        return int(text)

    return read


def install(arena: Arena, options: argparse.Namespace) -> None:
    """The peers that were asked for; who cannot be had is noted with the reason."""
    for name in options.peers:
        try:
            arena.peers[name] = _installed(name, only_if_there=options.installed)
        except (UnavailableError, OSError, subprocess.SubprocessError) as reason:
            arena.leave_out(name, reason)


def _installed(name: str, *, only_if_there: bool) -> Installed:
    if only_if_there and not peers.is_installed(name):
        raise UnavailableError("not installed, and nothing was to be installed")
    return PEERS[name].install()


def measure(arena: Arena, names: Sequence[str]) -> Iterator[Sample]:
    """Table after table. One that cannot be measured is noted with the reason, and the rest goes on."""
    for name in names:
        try:
            for sample in TABLES[name].run(arena):
                _tell(sample)
                yield sample
        except (StartError, OSError, subprocess.SubprocessError) as error:
            traceback.print_exc(file=sys.stderr)
            arena.leave_out(f"{BROKEN}{name}", error)


BROKEN = "table "


def _tell(sample: Sample) -> None:
    """Progress goes to stderr, so that stdout holds nothing but the tables."""
    figures = ", ".join(f"{name} {value:,.2f}" for name, value in sample.values.items())
    where = " ".join(part for part in (sample.table, sample.case, str(sample.round), sample.target) if part)
    print(f"{where}: {figures}" + (f", {sample.errors} ERRORS" if sample.errors else ""), file=sys.stderr)


def _command(arguments: Sequence[str] | None) -> str:
    return " ".join(["python -m bench", *(sys.argv[1:] if arguments is None else arguments)])


def _verdict(arena: Arena, errors: int) -> int:
    broken = [name for name in arena.absent if name.startswith(BROKEN)]
    if errors:
        print(f"bench: {errors} answers were missing or wrong: the figures do not count", file=sys.stderr)
    if broken:
        print(f"bench: could not be measured: {', '.join(broken)}", file=sys.stderr)
    return 1 if errors or broken else 0


def _exit_on_signal(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
