"""Every table of `python -m bench` can be measured: the smallest run, with real processes; times are not judged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from bench.report import Report
from bench.tables import TABLES

REPOSITORY = Path(__file__).parent.parent.parent
LIMIT_SECONDS = 100
GROUPS = (
    ("requests", "events", "latency", "tls"),
    ("streams", "bodies", "keys", "redis-keys"),
    ("workers", "soak"),
)


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Installs nothing: peers that are there take part."""
    command = [sys.executable, "-m", "bench", "--size", "smoke", "--installed", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)


@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0])
def test_each_table_is_measured_without_an_error_and_has_every_column(names: tuple[str, ...], tmp_path: Path) -> None:
    done = bench("--only", ",".join(names), "--peers", "none", "--json", str(tmp_path / "report.json"))
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=Report)
    assert report.errors == 0
    assert report.absent == {}
    for name in names:
        rows = [row for row in report.rows if row.table == name]
        found = {field for row in rows for field in (*row.values, *row.added)}
        assert {column.field for column in TABLES[name].columns} - found == set(), name
        assert f"## {TABLES[name].title(report.plan)}" in done.stdout


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
