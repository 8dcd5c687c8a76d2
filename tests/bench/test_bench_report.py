"""What the tables make of samples: pairs within a round, medians, verdicts, charts. No process is started."""

from __future__ import annotations

import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.__main__ import parse, why_unfit_for_docs
from bench.chart import Bar, bars
from bench.goals import GOALS, Goal, judge
from bench.pages import noise
from bench.proxies import PEERS
from bench.report import make_rows
from bench.revisions import BEFORE, changes
from bench.rows import Row, Spread
from bench.samples import Sample
from bench.tables import TABLES
from bench.wire import DONE, Expected, stream_events


def sample(target: str, number: int, case: str = "", **values: float) -> Sample:
    return Sample(table="requests", case=case, target=target, round=number, values=values)


def rows_of(*samples: Sample) -> dict[str, Row]:
    return {row.target: row for row in make_rows(samples)}


def test_a_ratio_is_taken_within_a_round_and_only_then_its_median() -> None:
    drifting = [sample("gateway", 1, cpu_us=100), sample("caddy", 1, cpu_us=200)]
    drifting += [sample("gateway", 2, cpu_us=300), sample("caddy", 2, cpu_us=600)]
    ratio = rows_of(*drifting)["caddy"].ratios["cpu_us"]
    assert (ratio.low, ratio.median, ratio.high) == (0.5, 0.5, 0.5)


def test_a_target_with_fewer_rounds_is_compared_in_those_that_it_has() -> None:
    rows = rows_of(sample("gateway", 1, cpu_us=100), sample("gateway", 2, cpu_us=900), sample("slow", 1, cpu_us=1000))
    assert rows["slow"].ratios["cpu_us"].median == 0.1
    assert rows["gateway"].ratios == {}


def test_what_is_added_is_over_direct() -> None:
    rows = rows_of(sample("direct", 1, p50_ms=0.1), sample("gateway", 1, p50_ms=0.4))
    assert rows["gateway"].added["p50_ms"].median == pytest.approx(0.3)
    assert rows["direct"].added == {}


def test_a_target_that_used_no_time_that_could_be_counted_has_no_ratio() -> None:
    rows = rows_of(sample("gateway", 1, cpu_us=100), sample("nginx", 1, cpu_us=0))
    assert rows["nginx"].ratios == {}


def test_a_goal_is_met_at_its_bound_and_unknown_where_nothing_was_measured() -> None:
    goal = Goal(what="CPU", table="requests", field="cpu_us", most=100)
    rows = make_rows([sample("gateway", 1, cpu_us=100)])
    assert judge(goal, rows).is_met is True
    assert judge(Goal(what="CPU", table="requests", field="cpu_us", most=99), rows).is_met is False
    assert judge(Goal(what="CPU", table="events", field="cpu_us", most=99), rows).is_met is None


def test_a_goal_of_all_cases_is_judged_by_the_worst() -> None:
    rows = make_rows([sample("gateway", 1, case=case, cpu_us=cpu) for case, cpu in (("a", 5), ("b", 9), ("c", 7))])
    found = judge(Goal(what="CPU", table="requests", field="cpu_us", most=8, is_of_all=True), rows)
    assert (found.case, found.measured.median if found.measured else None, found.is_met) == ("b", 9, False)
    found = judge(Goal(what="CPU", table="requests", field="cpu_us", least=6, is_of_all=True), rows)
    assert (found.case, found.is_met) == ("a", False)


def test_every_goal_is_about_a_field_that_its_table_shows() -> None:
    for goal in GOALS:
        assert goal.field in {column.field for column in TABLES[goal.table].columns}, goal


def test_every_table_draws_a_field_that_it_shows_and_every_peer_is_in_tables_that_exist() -> None:
    assert all(table.chart in {column.field for column in table.columns} for table in TABLES.values())
    assert all(peer.tables <= TABLES.keys() for peer in PEERS.values())


def test_a_bar_that_would_dwarf_the_others_is_cut() -> None:
    svg = bars("CPU", "µs", [Bar("gateway", 10, "10"), Bar("a < b", 20, "20"), Bar("huge", 5000, "5,000")], "gateway")
    root = ElementTree.fromstring(svg)
    widths = [float(each.get("width", 0)) for each in root.findall("{*}rect")[1:]]
    assert widths == sorted(widths)
    assert widths[0] > widths[2] / 5
    assert len(root.findall("{*}path")) == 1
    assert "5,000  (500 ×)" in svg


def test_long_names_and_titles_lie_within_the_picture() -> None:
    name, title = "a limit, an odd minute, beside 2 exports", "Reports of usage over many rows, " * 4
    root = ElementTree.fromstring(bars(title, "ms", [Bar(name, 3, "3"), Bar("all", 9, "9")], "gateway"))
    heading, *texts = root.findall("{*}text")
    names = [float(each.get("x", 0)) for each in texts if each.get("text-anchor") == "end"]
    assert min(names) > 6 * len(name)
    assert float(root.get("width", 0)) > 7 * len(heading.text or "")
    assert all(float(each.get("x", 0)) > max(names) for each in root.findall("{*}rect")[1:])


def test_an_exact_answer_is_compared_to_the_byte_and_another_by_its_words() -> None:
    events = stream_events(4)
    reworded = b"".join(event.replace(b'"id":"chatcmpl-bench"', b'"id":"another"') for event in events)
    assert Expected("stream", 4, byte_exact=True).is_met_by(200, b"".join(events))
    assert not Expected("stream", 4, byte_exact=True).is_met_by(200, reworded)
    assert Expected("stream", 4, byte_exact=False).is_met_by(200, reworded)
    assert not Expected("stream", 4, byte_exact=False).is_met_by(200, events[0] + DONE)
    assert not Expected("stream", 4, byte_exact=False).is_met_by(200, b"<html>")
    assert not Expected("stream", 4, byte_exact=False).is_met_by(502, reworded)


def change(*pairs: tuple[float, float]) -> str:
    """The verdict on CPU a request, from (this revision's, the older one's) of each round."""
    rounds = list(enumerate(pairs, 1))
    samples = [sample("gateway", number, cpu_us=now) for number, (now, _) in rounds]
    samples += [sample(BEFORE, number, cpu_us=before) for number, (_, before) in rounds]
    (found,) = changes(make_rows(samples))
    return found.verdict


def test_a_revision_has_changed_where_every_round_says_so() -> None:
    assert change((90, 100), (80, 100), (99, 100)) == "better"
    assert change((110, 100), (220, 200), (101, 100)) == "worse"
    assert change((90, 100), (80, 100), (101, 100)) == "within the noise"
    assert change((90, 100), (100, 100), (90, 100)) == "within the noise"
    assert change((90, 100), (80, 100)) == "within the noise", "two rounds are too few to tell"


def test_figures_of_which_more_is_better_are_not_judged() -> None:
    rows = make_rows([sample("gateway", 1, per_second=2), sample(BEFORE, 1, per_second=1)])
    assert changes(rows) == []


def clone(folder: Path) -> Path:
    """A repository with one commit."""
    who = ("-c", "user.name=a", "-c", "user.email=a@b.test")
    for command in (("init", "-q"), (*who, "commit", "-q", "--allow-empty", "-m", "begin")):
        subprocess.run(["git", *command], check=True, cwd=folder, timeout=30)
    return folder


def unfit(repository: Path, *arguments: str) -> str:
    return why_unfit_for_docs(parse(arguments), repository)


def test_only_a_full_run_of_a_clean_commit_may_write_into_the_repository(tmp_path: Path) -> None:
    docs = str(clone(tmp_path) / "docs")
    assert unfit(tmp_path, "--write", docs) == ""
    assert "quick" in unfit(tmp_path, "--quick", "--write", docs)
    assert "smoke" in unfit(tmp_path, "--size", "smoke", "--write", docs)
    (tmp_path / "new.py").touch()
    assert "new.py" in unfit(tmp_path, "--write", docs)


def test_figures_of_no_commit_are_none_for_the_docs(tmp_path: Path) -> None:
    assert "no clone" in unfit(tmp_path, "--write", str(tmp_path / "docs"))


def test_whatever_run_may_write_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    assert unfit(tmp_path / "repository", "--quick", "--write", str(tmp_path / "elsewhere")) == ""


def test_what_a_busy_machine_measured_says_so_first() -> None:
    quiet, busy = Spread(0.01, 0, 0.3), Spread(0.06, 0, 0.07)
    assert "not quiet" not in noise(quiet, quiet)
    assert noise(quiet, busy).startswith("**The machine was not quiet")
    assert noise(busy, quiet).startswith("**The machine was not quiet")
