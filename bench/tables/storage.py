"""The ledger: what storing a row costs, and how long reports take over many of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from bench.arena import Arena, output_of
from bench.ledger import Stored
from bench.reports import Answered, Answers
from bench.samples import Column, Sample, Table
from bench.targets import REPOSITORY

KEPT_REPORTS = tuple(REPOSITORY / "bench" / "kept" / f"reports-{name}.json" for name in ("sqlite", "postgresql"))
KEEP = "python -m bench.reports --folder DIR --database sqlite --json bench/kept/reports-sqlite.json"
GOAL_MS = 100
LEDGER_SECONDS = 240
REPORTS_SECONDS = 600


def measure_ledger(arena: Arena) -> Iterator[Sample]:
    for number in range(1, arena.plan.side_rounds + 1):
        output = output_of("bench.ledger", None, LEDGER_SECONDS, "--json", "--rows", str(arena.plan.ledger_rows))
        stored = msgspec.json.decode(output, type=Stored)
        values = {"threads_us": stored.threads_us, "loop_us": stored.loop_us}
        yield Sample(table="ledger", target="SQLite", round=number, values=values)


def measure_reports(arena: Arena) -> Iterator[Sample]:
    """Over ten million rows this takes longer than everything else: what it found once is kept in a file."""
    if arena.plan.report_rows is not None:
        yield from _summed_up(_asked(arena, arena.plan.report_rows))
        return
    for kept in KEPT_REPORTS:
        if kept.exists():
            yield from _summed_up(msgspec.json.decode(kept.read_bytes(), type=Answers))
        else:
            arena.leave_out("reports", f"nobody has measured {kept.stem} yet: {KEEP}")


def _asked(arena: Arena, rows: int) -> Answers:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "answers.json"
        asked = ("--rows", str(rows), "--sums", "--only", arena.plan.reports_asked, "--json", str(file))
        output_of("bench.reports", None, REPORTS_SECONDS, *asked)
        return msgspec.json.decode(file.read_bytes(), type=Answers)


def _summed_up(answers: Answers) -> Iterator[Sample]:
    """A row for each kind of question, which is the beginning of its name, and one for all."""
    case = f"{answers.database}, {answers.rows:,} rows, {answers.when}, {answers.version}"
    kinds: dict[str, list[Answered]] = {}
    for each in answers.answered:
        kinds.setdefault(each.name.partition(", by ")[0], []).append(each)
    for name, some in [*kinds.items(), ("all of them", answers.answered)]:
        yield Sample(table="reports", case=case, target=name, values=_values(some))


def _values(answered: Sequence[Answered]) -> dict[str, float]:
    within = sum(each.clock_p95 <= GOAL_MS for each in answered)
    return {
        "questions": float(len(answered)),
        "within": within / len(answered) * 100,
        "cpu_p95_ms": max(each.cpu_p95 for each in answered),
        "p95_ms": max(each.clock_p95 for each in answered),
        "first_ms": max(each.first for each in answered),
    }


LEDGER = Table(
    name="ledger",
    title=lambda plan: f"A row of usage in the ledger: {plan.ledger_rows:,} rows, 3,000 a second, 10,000 users",
    about="In a process that does nothing else: CPU of the ledger's threads, sums included, and of the event loop that "
    "writes each request's two records to the journal.",
    columns=(
        Column("threads_us", "CPU µs of the threads", 1),
        Column("loop_us", "of the event loop", 1),
    ),
    chart="threads_us",
    run=measure_ledger,
    first_column="database",
)
REPORTS = Table(
    name="reports",
    title=lambda _: "Reports of usage over many rows, a page of 1,000 rows as JSON",
    about="A year of 10,000 users, 500 organisations, 50 models of 8 endpoints; the month up to a day that goes on by "
    "each group and each two, by name and the dearest first, while another process records 500 requests a second. "
    f"*Within {GOAL_MS} ms*: the share of questions whose 95th percentile is, each asked as often as 0.6 s allow; "
    "*first time*: before what takes long is kept; the others are the slowest question's. A run of its own, named with "
    "the rows: it takes longer than all other tables.",
    columns=(
        Column("questions", "questions", 0),
        Column("within", f"within {GOAL_MS} ms, %", 1),
        Column("p95_ms", "slowest p95 ms", 0),
        Column("cpu_p95_ms", "slowest p95, CPU ms", 0),
        Column("first_ms", "slowest first time ms", 0),
    ),
    chart="p95_ms",
    run=measure_reports,
    first_column="asked for",
)
