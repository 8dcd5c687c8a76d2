"""Every table of `python -m bench` can be measured: the smallest run, with real processes; times are not judged."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from bench.processes import Census
from bench.report import Report
from bench.tables import TABLES

REPOSITORY = Path(__file__).parent.parent.parent
LIMIT_SECONDS = 100
GROUPS = (
    ("requests", "events", "latency", "tls"),
    ("streams", "bodies", "keys", "redis-keys"),
    ("workers", "soak", "redis", "heads"),
    ("stalls", "uploads", "ledger", "reports", "affinity"),
)


COMMAND = [sys.executable, "-m", "bench", "--size", "smoke", "--installed"]  # installs nothing


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Peers that are there take part."""
    command = [*COMMAND, *arguments]
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


def test_a_run_that_is_ended_takes_its_processes_along() -> None:
    command = [*COMMAND, "--only", "soak", "--peers", "none", "--soak-seconds", "60"]
    silent = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=silent, stderr=silent) as run:
        below = _until_it_has(run.pid, processes=4)  # upstream, gateway and two loads
        run.terminate()
        assert run.wait(LIMIT_SECONDS) == 128 + signal.SIGTERM
    assert [pid for pid in below if Path(f"/proc/{pid}").exists()] == []


def _until_it_has(pid: int, *, processes: int) -> set[int]:
    """Those below this one, once there are so many."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while len(below := Census().tree(pid) - {pid}) < processes:
        assert time.monotonic() < deadline, f"only {len(below)} processes"
        time.sleep(0.05)
    return below


def test_wrong_usage_is_told_apart_from_a_failed_measurement() -> None:
    done = bench("--only", "everything")
    assert done.returncode == 2
    assert "everything: not one of requests, events" in done.stderr


def test_another_revision_is_measured_beside_this_one(tmp_path: Path) -> None:
    done = bench("--only", "requests", "--peers", "none", "--against", "HEAD", "--json", str(tmp_path / "report.json"))
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=Report)
    assert {each.target for each in report.rows} == {"direct", "gateway", "gateway before"}
    assert {(each.table, each.field) for each in report.changes} >= {("requests", "cpu_us")}
    assert "## What changed" in done.stdout


def test_a_revision_that_git_does_not_know_is_wrong_usage() -> None:
    done = bench("--only", "requests", "--peers", "none", "--against", "no-such-revision")
    assert done.returncode == 2
    assert "no-such-revision" in done.stderr
