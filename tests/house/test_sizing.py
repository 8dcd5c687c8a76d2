"""The page that sizes a gateway: its figures are measured ones, and its multiplications are right."""

from __future__ import annotations

import operator
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sizing.md").read_text(encoding="utf-8")
BENCHMARKS = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
NOTES = (ROOT / "bench" / "NOTES.md").read_text(encoding="utf-8")
_NUMBER = r"(\d[\d,]*(?:\.\d+)?)"
_UNIT = r"(?: (µs|s|KB|MB|rows?|requests?))?"
_SUM = re.compile(rf"{_NUMBER}{_UNIT} ([×÷]) {_NUMBER}{_UNIT} = {_NUMBER}{_UNIT}")
_IN_SECONDS = {"µs": 1e-6, "s": 1.0}
SUMS = _SUM.findall(PAGE)


@pytest.mark.parametrize("row", re.findall(r"^\| .*\[Benchmarks\].*$", PAGE, re.M))
def test_figures_of_benchmarks_are_those_of_that_page(row: str) -> None:
    """A page of another revision comes with other figures here."""
    _, _, figure, revision, *_ = (cell.strip() for cell in row.split("|"))
    assert figure.split()[0] in re.findall(r"[\d,.]+", line_of_the_gateway())
    assert revision.split(",")[0] in BENCHMARKS


def line_of_the_gateway() -> str:
    return "\n".join(line for line in BENCHMARKS.splitlines() if line.startswith("| gateway |"))


@pytest.mark.parametrize("row", re.findall(r"^\| .*`bench/NOTES.md` \|$", PAGE, re.M))
def test_figures_of_the_notes_are_in_the_notes(row: str) -> None:
    (figure,) = re.findall(r"\| ([\d.–]+) µs", row)
    assert figure in NOTES


def test_there_are_sums() -> None:
    assert len(SUMS) >= 14


@pytest.mark.parametrize("found", SUMS, ids=" ".join)
def test_a_sum_is_right(found: tuple[str, ...]) -> None:
    """As precisely as its result is written."""
    left, left_unit, sign, right, right_unit, result, unit = found
    by = {"×": operator.mul, "÷": operator.truediv}[sign]
    value = by(of(left, left_unit), of(right, right_unit)) / _IN_SECONDS.get(unit, 1.0)
    decimals = len(result.partition(".")[2])
    assert abs(value - of(result, "")) < 10**-decimals, value


def of(number: str, unit: str) -> float:
    return float(number.replace(",", "")) * _IN_SECONDS.get(unit, 1.0)
