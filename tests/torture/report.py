"""What a run found, as text."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from torture.run import Result

_MOST_TOLD = 20


def table(results: list[Result]) -> str:
    """Markdown: what was done to each mode, and what held."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: list[Result]) -> Iterator[str]:
    names = [result.options.mode for result in results]
    yield _row("", *names)
    yield _row("---", *["---"] * len(names))
    yield _row("seconds of load", *(f"{result.options.seconds:.0f}" for result in results))
    yield _row("seed", *(str(result.options.seed) for result in results))
    yield _row("workers", *(str(result.options.workers) for result in results))
    yield _row("requests", *(str(len(result.book.heard)) for result in results))
    yield _row("faults met", *(str(_faults(result)) for result in results))
    for name in sorted({name for result in results for name in result.troubles}):
        yield _row(name, *(str(result.troubles.get(name, 0)) for result in results))
    for name in sorted({name for result in results for name in result.book.answers}):
        yield _row(f"answered: {name}", *(str(result.book.answers[name]) for result in results))
    for number, check in enumerate(results[0].checks):
        told = [result.checks[number] for result in results]
        yield _row(f"**{check.name}**", *(f"{'yes' if each.holds else 'NO'} ({each.told})" for each in told))
    yield ""
    yield f"Python {platform.python_version()}, {platform.system()} {platform.machine()}."


def _faults(result: Result) -> int:
    return sum(count for (name, _), count in result.book.faults.items() if name != "good")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def complaints(results: list[Result]) -> str:
    """What did not hold, as much of it as people read."""
    lines = []
    for result in results:
        for check in result.checks:
            lines += [f"{result.options.mode}: {check.name}: {wrong}" for wrong in check.wrongs[:_MOST_TOLD]]
            if len(check.wrongs) > _MOST_TOLD:
                lines.append(f"{result.options.mode}: {check.name}: … {len(check.wrongs)} in all")
    return "\n".join(lines)
