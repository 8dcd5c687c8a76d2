"""Render usage for a terminal: days with bars, then models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import NamedTuple

from gateway.types import Id, id_text
from gateway.usage import exact_cost
from gateway.usage.views.json_shapes import AmountsAnswer, UsageRowAnswer, UsageSummary

BAR_CELLS = 24
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█")
_NOTHING = AmountsAnswer(0, 0, 0, 0, exact_cost(0))
_TITLES = ("requests", "tokens", "cost")
_WITH_CACHED = ("requests", "tokens", "cached", "cost")


class _Line(NamedTuple):
    label: str
    amounts: AmountsAnswer | UsageRowAnswer


def summary_text(summary: UsageSummary, names: Mapping[str, str], *, unicode: bool) -> str:
    """Render the whole summary, with a line's end.

    `names`: models' public names by id as text.

    `unicode`: whether bars may be drawn in eighths of a character; `#` otherwise.
    """
    title = f"Usage of {_whose(summary, names)}, {summary.from_day} to {summary.to_day} (UTC)"
    if summary.totals.requests == 0:
        return f"{title}: nothing is recorded.\n"
    models = [_Line(_model(row.model, names), row) for row in summary.models]
    titles = _WITH_CACHED if summary.totals.cached_tokens else _TITLES
    sections = (
        [title],
        _section(("day", *titles), list(_days(summary.days)), summary.totals, unicode=unicode),
        _section(("model", *titles), models, None, unicode=unicode),
    )
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _whose(summary: UsageSummary, names: Mapping[str, str]) -> str:
    parts = []
    if isinstance(summary.user, Id):
        parts.append(f"user {_printable(summary.user)}")
    if isinstance(summary.organisation, Id):
        parts.append(f"organisation {_printable(summary.organisation)}")
    if isinstance(summary.model, Id):
        parts.append(f"model {_model(summary.model, names)}")
    return ", ".join(parts) or "everyone"


def _days(rows: tuple[UsageRowAnswer, ...]) -> Iterator[_Line]:
    """Yield every day between the first and the last.

    A chart that leaves out quiet days misleads.
    """
    found = {str(row.day): row for row in rows}
    day, last = date.fromisoformat(min(found)), date.fromisoformat(max(found))
    while day <= last:
        yield _Line(day.isoformat(), found.get(day.isoformat(), _NOTHING))
        day += timedelta(days=1)


def _section(titles: tuple[str, ...], lines: list[_Line], totals: AmountsAnswer | None, *, unicode: bool) -> list[str]:
    """Columns as wide as what is in them, the bar behind them."""
    rows = [(line.label, *_figures(line.amounts, titles)) for line in lines]
    total = [] if totals is None else [("total", *_figures(totals, titles))]
    widths = [max(map(len, column)) for column in zip(titles, *rows, *total, strict=True)]
    bars = _bars([_height(line.amounts, lines) for line in lines], unicode=unicode)
    return [
        _row(titles, widths),
        *(_row(cells, widths, bar) for cells, bar in zip(rows, bars, strict=True)),
        *(_row(cells, widths) for cells in total),
    ]


def _row(cells: tuple[str, ...], widths: list[int], bar: str = "") -> str:
    label, *figures = cells
    aligned = [label.ljust(widths[0]), *(text.rjust(width) for text, width in zip(figures, widths[1:], strict=True))]
    return "  ".join([*aligned, bar]).rstrip()


def _figures(amounts: AmountsAnswer | UsageRowAnswer, titles: tuple[str, ...]) -> tuple[str, ...]:
    cached = (amounts.cached_tokens or 0,) if "cached" in titles else ()
    counts = (amounts.requests, amounts.tokens, *cached)
    return *(f"{count:,}" for count in counts), f"{Decimal(bytes(amounts.cost).decode()):,.4f}"


def _height(amounts: AmountsAnswer | UsageRowAnswer, lines: list[_Line]) -> int:
    """Bars show tokens; requests where no tokens were counted at all."""
    return amounts.tokens if any(line.amounts.tokens for line in lines) else amounts.requests


def _bars(heights: list[int], *, unicode: bool) -> list[str]:
    highest = max(heights, default=0)
    draw: Callable[[int, int], str] = _in_eighths if unicode else _in_hashes
    return [draw(height, highest) if height else "" for height in heights]


def progress_text(done: int, rows: int) -> str:
    """Render how far something has come."""
    filled = BAR_CELLS if rows == 0 else BAR_CELLS * done // rows
    return f"[{'#' * filled}{' ' * (BAR_CELLS - filled)}] {done:,} of {rows:,} rows"


def _in_eighths(height: int, highest: int) -> str:
    whole, eighths = divmod(max(1, round(height / highest * BAR_CELLS * 8)), 8)
    return _EIGHTHS[8] * whole + _EIGHTHS[eighths]


def _in_hashes(height: int, highest: int) -> str:
    return "#" * max(1, round(height / highest * BAR_CELLS))


def _model(value: object, names: Mapping[str, str]) -> str:
    text = id_text(value) if isinstance(value, Id) else ""
    return _printable(names.get(text, text))


def _printable(value: Id) -> str:
    """Escape an id for a terminal.

    Ids come from records and headers: it must not take them for commands.
    """
    return "".join(character if character.isprintable() else "?" for character in id_text(value))
