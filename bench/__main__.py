"""The command line: `python -m bench --help`."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import msgspec

from bench.measure import FULL, KINDS, QUICK, Measured, Plan, measure, started
from bench.processes import StartError
from bench.report import Report, make_report, markdown
from bench.targets import PEERS

EXAMPLES = """\
examples:
  python -m bench                                   everything: some five minutes
  python -m bench --quick                           the same in less than a minute, with wider spreads
  python -m bench --only requests --peers caddy     one table, one peer
  python -m bench --json bench/results/today.json   the tables, and every round's figures beside them

The first run installs Caddy from PyPI into bench/.peers/. Exit codes: 0 measured, 1 something did not start or
an answer was wrong, 2 wrong usage.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        with started(options.peers, with_gateway=not options.no_gateway) as bench:
            measured = [_told(each) for each in measure(bench, options.plan, options.only)]
            report = make_report(bench, options.plan, measured)
    except (StartError, subprocess.SubprocessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(markdown(report))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    return _verdict(report)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """`plan`, `only`, `peers`, `json` and `no_gateway`, checked; exits with 2 on wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="The gateway beside other proxies: CPU, throughput and latency over loopback, as markdown tables.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: less than a minute")
    parser.add_argument(
        "--only", type=_some_of(KINDS), default=KINDS, metavar="KINDS", help=f"some of {','.join(KINDS)}"
    )
    parser.add_argument(
        "--peers", type=_some_of(tuple(PEERS)), default=tuple(PEERS), metavar="NAMES", help=f"some of {','.join(PEERS)}"
    )
    parser.add_argument("--rounds", type=_rounds, metavar="N", help=f"default {FULL.rounds}, quick {QUICK.rounds}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there as well")
    parser.add_argument("--no-gateway", action="store_true", help="only the peers: what does this machine give?")
    options = parser.parse_args(arguments)
    plan: Plan = QUICK if options.quick else FULL
    options.plan = msgspec.structs.replace(plan, rounds=options.rounds) if options.rounds else plan
    return options


def _some_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A reader of comma-separated lists that keeps the order of `known`."""

    def read(text: str) -> list[str]:
        asked = {name.strip() for name in text.split(",")}
        if unknown := asked - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not one of {', '.join(known)}")
        return [name for name in known if name in asked]

    return read


def _rounds(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text}: not a number from 1 to 100")
    return int(text)


def _told(each: Measured) -> Measured:
    """Progress goes to stderr, so that stdout holds nothing but the tables."""
    cost = f"{each.cpu_us:.1f} CPU µs each, " if each.cpu_us else ""
    print(
        f"{each.kind} {each.round}: {each.target}: {cost}{each.served:,} served, {each.errors} errors", file=sys.stderr
    )
    return each


def _verdict(report: Report) -> int:
    if report.errors == 0:
        return 0
    print(f"bench: {report.errors} answers were missing or wrong: the figures do not count", file=sys.stderr)
    return 1


def _exit_on_signal(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
