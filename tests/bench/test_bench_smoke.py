"""Every table of `python -m bench` can be measured: the smallest run, with processes and sockets; times are not judged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from bench.pages import markdown
from bench.report import Report
from bench.tables import TABLES

REPOSITORY = Path(__file__).parent.parent.parent
LIMIT_SECONDS = 100
MEASURED = [name for name in TABLES if name != "install"]  # that one asks a registry


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Installs nothing: peers that are there take part."""
    command = [sys.executable, "-m", "bench", "--size", "smoke", "--installed", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Of one run with the gateway alone."""
    file = tmp_path_factory.mktemp("bench") / "report.json"
    done = bench("--only", ",".join(MEASURED), "--peers", "none", "--json", str(file))
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode(file.read_bytes(), type=Report)


def test_no_answer_is_wrong_and_nothing_is_left_out(report: Report) -> None:
    assert report.errors == 0
    assert report.absent == {}


@pytest.mark.parametrize("name", MEASURED)
def test_each_table_has_every_column(report: Report, name: str) -> None:
    rows = [row for row in report.rows if row.table == name]
    found = {field for row in rows for field in (*row.values, *row.added)}
    assert {column.field for column in TABLES[name].columns} <= found
    assert f"## {TABLES[name].title(report.plan)}" in markdown(report)


def test_every_goal_that_needs_no_peer_is_judged(report: Report) -> None:
    judged = {each.what for each in report.verdicts if each.is_met is not None}
    assert {"latency added, p50", "many streams: ended well", "resolution among all keys", "two workers, to one"} <= judged
    assert "CPU a request, to Caddy" not in judged


def test_a_page_a_json_file_and_charts_are_written(tmp_path: Path) -> None:
    done = bench("--only", "startup,install", "--peers", "caddy,nginx,bifrost", "--write", str(tmp_path))
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "benchmarks.md").read_text()
    report = msgspec.json.decode((tmp_path / "benchmarks.json").read_bytes(), type=Report)
    assert "- not measured: bifrost: " in page
    assert "| gateway |" in page
    assert all(f"| {row.target} |" in page for row in report.rows)
    for chart in (tmp_path / "benchmarks").glob("*.svg"):
        assert f"](benchmarks/{chart.name})" in page
        assert ElementTree.parse(chart).getroot().tag.endswith("svg")


def test_wrong_usage_is_told_apart_from_a_failed_measurement() -> None:
    done = bench("--only", "everything")
    assert done.returncode == 2
    assert "everything: not one of requests, events" in done.stderr
