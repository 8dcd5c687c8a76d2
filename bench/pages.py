"""A report for people: markdown, and charts beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from bench.arena import GATEWAY
from bench.chart import Bar, bars
from bench.goals import Verdict
from bench.report import Report
from bench.revisions import Change
from bench.rows import Row, Spread
from bench.samples import Column, Table
from bench.tables import TABLES

PAGE = "benchmarks"
CHARTS = "benchmarks"  # the folder beside the page
MOST_DISTURBED = 0.05  # share of the machine that others, or the hypervisor, may take


def write(report: Report, folder: Path) -> None:
    """FOLDER/benchmarks.md, benchmarks.json with every sample, and the charts in FOLDER/benchmarks/."""
    charts = folder / CHARTS
    charts.mkdir(parents=True, exist_ok=True)
    for old in charts.glob("*.svg"):
        old.unlink()
    for name, text in draw(report).items():
        (charts / name).write_text(text)
    (folder / f"{PAGE}.md").write_text(f"# Measured beside other proxies\n\n{markdown(report, with_charts=True)}\n")
    write_json(report, folder / f"{PAGE}.json")


def write_json(report: Report, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def markdown(report: Report, *, with_charts: bool = False) -> str:
    """Which machine, what was to be reached, the tables, who was measured, and how far to trust it."""
    parts = [
        _how(report),
        noise(report.others_share, report.stolen_share),
        *_changes(report.changes),
        *_goals(report.verdicts),
    ]
    for table, cases in _grouped(report):
        parts += [f"## {table.title(report.plan)}", table.about]
        for case, rows in cases.items():
            parts += [f"### {case}" if case else "", _table(table, rows)]
            if with_charts and (name := _chart_name(table, case, rows)):
                parts.append(f"![{table.title(report.plan)}]({CHARTS}/{name})")
    parts += ["## Who was measured, and what each does not do", _notes(report)]
    return "\n\n".join(part for part in parts if part)


def _grouped(report: Report) -> Iterable[tuple[Table, dict[str, list[Row]]]]:
    for name, table in TABLES.items():
        rows = [row for row in report.rows if row.table == name]
        if rows:
            yield (
                table,
                {case: [row for row in rows if row.case == case] for case in dict.fromkeys(r.case for r in rows)},
            )


def _how(report: Report) -> str:
    machine = report.machine
    libraries = ", ".join(f"{name} {number}" for name, number in machine.libraries.items())
    ours = "".join(f"gateway {each.version}, " for each in report.targets if each.name == GATEWAY)
    return (
        f"`{report.command}`, {report.when}: {ours}{machine.cores} cores of {machine.processor}, "
        f"{machine.memory_gb:g} GB, "
        f"Linux {machine.kernel}, Python {machine.python}, {libraries}. Upstream, load and proxies on loopback. "
        "Medians over interleaved rounds, lowest and highest in brackets. CPU: user + system time of the proxy's "
        "whole process tree, divided by what it served. *gateway ÷ this*: below 1 the gateway needs less; "
        "taken within each round."
    )


def noise(others: Spread | None, stolen: Spread | None) -> str:
    """What of the machine others and the hypervisor took; first of all where that was too much."""
    if others is None or stolen is None:
        return ""
    disturbed = max(others.median, stolen.median) > MOST_DISTURBED
    warning = "**The machine was not quiet: these figures are not to be compared with others'.** " if disturbed else ""
    return (
        f"{warning}Of the machine's CPU, processes that are no part of this took {others.median:.0%} "
        f"(at most {others.high:.0%}), the hypervisor {stolen.median:.0%} (at most {stolen.high:.0%}). "
        "Above a few per cent the times say little, and CPU and ratios shift too: measure again when it is quiet."
    )


def _goals(verdicts: Sequence[Verdict]) -> list[str]:
    measured = [each for each in verdicts if each.measured is not None]
    if not measured:
        return []
    lines = [["to reach", "goal", "measured", ""], ["---"] * 4]
    for each in measured:
        what = f"{each.what} ({each.case})" if each.case else each.what
        lines.append([what, each.bound, _show(each.measured, 3) + each.unit, "met" if each.is_met else "**not met**"])
    return ["## To reach", _lines(lines)]


def _changes(changes: Sequence[Change]) -> list[str]:
    if not changes:
        return []
    lines = [["table", "figure", "this ÷ before", ""], ["---"] * 4]
    for each in changes:
        verdict = each.verdict if each.verdict == "within the noise" else f"**{each.verdict}**"
        lines.append([f"{each.table} {each.case}".strip(), each.field, _show(each.ratio, 3), verdict])
    return ["## What changed", _lines(lines)]


def _table(table: Table, rows: Sequence[Row]) -> str:
    columns = [each for each in table.columns if any(_spread_of(row, each) for row in rows)]
    lines = [[table.first_column, *(each.title for each in columns)], ["---"] * (len(columns) + 1)]
    with_errors = any(row.errors for row in rows)
    for row in rows:
        lines.append([row.target, *(_show(_spread_of(row, each), each.digits) for each in columns)])
    if with_errors:
        for line, cell in zip(lines, ["errors", "---", *(str(row.errors) for row in rows)], strict=True):
            line.append(cell)
    return _lines(lines)


def _lines(lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread_of(row: Row, column: Column) -> Spread | None:
    return {"value": row.values, "added": row.added, "ratio": row.ratios}[column.kind].get(column.field)


def _show(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return ""
    median = f"{spread.median:,.{digits}f}"
    if spread.low == spread.high:
        return median
    return f"{median} ({spread.low:,.{digits}f}–{spread.high:,.{digits}f})"


def draw(report: Report) -> dict[str, str]:
    """SVG by file name."""
    drawn = {}
    for table, cases in _grouped(report):
        for case, rows in cases.items():
            if name := _chart_name(table, case, rows):
                drawn[name] = _drawn(report, table, case, rows)
    return drawn


def _chart_name(table: Table, case: str, rows: Sequence[Row]) -> str:
    """ "" where there is nothing to compare."""
    if sum(table.chart in row.values for row in rows) < 2:
        return ""
    words = [table.name, *"".join(each if each.isalnum() or each == " " else "" for each in case).split()]
    return "-".join(words) + ".svg"


def _drawn(report: Report, table: Table, case: str, rows: Sequence[Row]) -> str:
    column = next(each for each in table.columns if each.field == table.chart)
    values = [(row.target, row.values[table.chart].median) for row in rows if table.chart in row.values]
    title = table.title(report.plan).partition(":")[0] + (f", {case}" if case else "")
    rows_drawn = [Bar(name, value, f"{value:,.{column.digits}f}") for name, value in values]
    return bars(title, column.title, rows_drawn, GATEWAY)


def _notes(report: Report) -> str:
    present = [f"- {' '.join(f'{each.name} {each.version}'.split())}: {each.note}." for each in report.targets]
    return "\n".join(present + [f"- not measured: {name}: {reason}" for name, reason in report.absent.items()])
