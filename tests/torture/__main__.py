"""`python -m torture`: each mode for its share of the time, one after the other, then the table."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from torture.options import MODES, Options
from torture.report import complaints, table
from torture.run import Result, tortured


def main() -> int:
    """0 where everything held; 1 where something did not, and then the directories stay."""
    arguments = _arguments()
    seed = arguments.seed if arguments.seed is not None else random.randrange(1_000_000)
    say(f"seed {seed}: run it again with SEED={seed}")
    results = []
    for mode in arguments.modes:
        options = Options(mode, arguments.seconds / len(arguments.modes), seed, arguments.clients)
        results.append(_run(options))
    report = table(results)
    say(report)
    if arguments.report is not None:
        arguments.report.write_text(report)
    if complained := complaints(results):
        say(complained)
    return 0 if all(result.holds for result in results) else 1


def _run(options: Options) -> Result:
    directory = Path(tempfile.mkdtemp(prefix=f"torture-{options.mode}-"))
    result = asyncio.run(tortured(options, directory, say))
    if result.holds:
        shutil.rmtree(directory)
    else:
        say(f"{options.mode}: something does not hold; what it left is in {directory}")
    return result


def say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="torture", description="A gateway under every fault at once.")
    parser.add_argument("--seconds", type=float, default=1800.0, help="of load, over all modes (default: %(default)g)")
    parser.add_argument("--seed", type=int, help="what is asked and what goes wrong (default: another each time)")
    parser.add_argument("--modes", type=_modes, default=list(MODES), help=f"default: all ({','.join(MODES)})")
    parser.add_argument("--clients", type=int, default=16, help="at a time (default: %(default)s)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the table there, in Markdown")
    return parser.parse_args()


def _modes(text: str) -> list[str]:
    modes = text.split(",")
    if unknown := set(modes) - set(MODES):
        raise argparse.ArgumentTypeError(f"no such mode: {', '.join(sorted(unknown))}; there are {', '.join(MODES)}")
    return modes


if __name__ == "__main__":
    sys.exit(main())
