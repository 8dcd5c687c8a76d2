"""config/grafana-board.json: as Grafana's own types have it, and each query gives data from a gateway under load."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from kit import RESET, FakeUpstream, Received, Stage, answer, ask, events
from kit.answers import USAGE, delta, upstream_error
from kit.prometheus import Prometheus
from kit.stage import Record, endpoint, model
from observability.test_prometheus_rules import labels_of

from tools import board

ROOT = Path(__file__).parents[2]
BOARD: dict[str, Any] = json.loads(board.FILE.read_bytes())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
VARIABLES = {"$__rate_interval": "15s", "$instance": ".*", "$model": ".*"}
SELECTOR = re.compile(r"\b((?:gateway|process)_\w+)\{([^}]*)\}")
LOAD_SECONDS = 60.0  # within which every query must have given data; most do after three scrapes


def test_the_file_is_what_the_rows_say() -> None:
    assert board.FILE.read_bytes() == board.text(), "`make schema` writes it anew"


def test_grafana_knows_every_field_and_value() -> None:
    """Read by Grafana's types and written again, nothing is missing."""
    dashboards = pytest.importorskip(
        "grafana_foundation_sdk.models.dashboard", reason="NO GRAFANA TYPES: install grafana-foundation-sdk"
    )
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    read = dashboards.Dashboard.from_json(BOARD)
    assert list(missing(BOARD, json.loads(JSONEncoder().encode(read)), "")) == []


def missing(ours: Any, theirs: Any, path: str) -> Iterator[str]:
    if isinstance(ours, dict):
        for name, value in ours.items():
            if not isinstance(theirs, dict) or name not in theirs:
                yield f"{path}.{name}"
            else:
                yield from missing(value, theirs[name], f"{path}.{name}")
    elif isinstance(ours, list):
        if not isinstance(theirs, list) or len(ours) != len(theirs):
            yield path
        else:
            for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
                yield from missing(one, other, f"{path}[{place}]")
    elif ours != theirs:
        yield f"{path}: {ours!r} is read as {theirs!r}"


def test_ids_are_unique_and_no_panel_lies_on_another() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert len(set(titles)) == len(titles)
    places = [panel["gridPos"] for panel in BOARD["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= board.WIDTH for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


def test_the_source_of_the_data_is_chosen_by_a_variable() -> None:
    variables = {each["name"]: each for each in BOARD["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    sources = [each["datasource"] for panel in PANELS for each in (panel, *panel["targets"])]
    sources += [each["datasource"] for name, each in variables.items() if name != "datasource"]
    assert all(source == board.SOURCE for source in sources)
    used = set(re.findall(r"\$(?!__)(\w+)", json.dumps(PANELS)))
    assert used <= set(variables)


@pytest.mark.parametrize("expression", QUERIES)
def test_a_query_names_what_is_exported(expression: str) -> None:
    selectors = SELECTOR.findall(expression)
    assert selectors, "a query about none of our metrics"
    for metric, matchers in selectors:
        for label in re.findall(r'(\w+)(?:=~|!~|!=|=)"', matchers):
            assert label in labels_of(metric), f"{metric} has no label {label}"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_a_legend_names_labels_that_the_query_keeps(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        kept = set(re.split(r", *", ", ".join(re.findall(r"(?:by|group_left) \(([^)]*)\)", target["expr"]))))
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept


# -- against a real Prometheus


def models(upstream: FakeUpstream) -> list[Record]:
    price = {"input": 1, "output": 1}
    return [
        model("plain", [endpoint(upstream, "plain")], price=price),
        model("pair", [endpoint(upstream, "pair.a"), endpoint(upstream, "pair.b", priority=1)]),
        model("breaking", [endpoint(upstream, "breaking")]),
        model("refusing", [endpoint(upstream, "refusing"), endpoint(upstream, "refusing.b", priority=1)]),
        model("narrow", [endpoint(upstream, "narrow", max_in_flight=1)]),
    ]


async def slowly(request: Received) -> None:
    await asyncio.sleep(0.05)
    await answer(200, {"choices": [], "usage": USAGE})(request)


@asynccontextmanager
async def loaded(stage: Stage) -> AsyncIterator[None]:
    """Requests of every kind, one after another, while the block lasts."""
    upstream = stage.upstream
    unpriced = {"choices": [], "usage": USAGE | {"prompt_tokens_details": {"cached_tokens": 4}}, "service_tier": "flex"}
    upstream.endpoint("plain").always(answer(200, unpriced))
    upstream.endpoint("pair.a").always(upstream_error(429, retry_after="60"))
    upstream.endpoint("breaking").always(events(delta("one"), RESET))
    upstream.endpoint("refusing").always(upstream_error(401))

    upstream.endpoint("narrow").always(slowly)

    async def ask_on() -> None:
        while True:
            waiting = await asyncio.gather(stage.post(ask("narrow")), stage.post(ask("narrow")))
            assert [each.status for each in waiting] == [200, 200]
            for name in ("plain", "pair", "refusing"):
                assert (await stage.post(ask(name))).status == 200
            assert (await stage.post(ask("breaking", stream=True))).status == 200
            await asyncio.sleep(0.05)

    asking = asyncio.create_task(ask_on())
    try:
        yield
        assert not asking.done(), asking
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


def filled_in(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


async def test_every_query_of_the_board_gives_data_and_every_rule_can_be_evaluated(tmp_path: Path) -> None:
    def telemetry(upstream: FakeUpstream) -> dict[str, Any]:
        return {"otlp": upstream.endpoint("otlp").url}

    directory = tmp_path / "prometheus"
    directory.mkdir()
    rules = [ROOT / "config" / "prometheus-rules.yaml"]
    left = {filled_in(param.values[0]) for param in QUERIES}  # type: ignore[type-var]
    async with Stage.open(tmp_path, models, telemetry=telemetry, queue={"max": 10}) as stage:
        stage.upstream.endpoint("otlp").always(answer(200, b""))
        async with Prometheus.scraping(stage.gateway, directory, rules) as prometheus, loaded(stage):
            async with asyncio.timeout(LOAD_SECONDS):
                while left:
                    left = {each for each in sorted(left) if not has_data(await prometheus.query(each))}
                    await asyncio.sleep(0.3)
            for variable in BOARD["templating"]["list"][1:]:
                await has_values(prometheus, variable["query"])
            await rules_are_evaluated(prometheus)


def has_data(series: list[dict[str, Any]]) -> bool:
    return any(math.isfinite(float(each["value"][1])) for each in series)


async def has_values(prometheus: Prometheus, query: str) -> None:
    found = re.fullmatch(r"label_values\((\w+)(\{.*\})?, (\w+)\)", query)
    assert found is not None
    assert await prometheus.get(f"label/{found[3]}/values", **{"match[]": filled_in(found[1] + (found[2] or ""))})


async def rules_are_evaluated(prometheus: Prometheus) -> None:
    """None has an error; the one for refused credentials fires, for a credential is refused."""
    async with asyncio.timeout(LOAD_SECONDS):
        while True:
            groups = (await prometheus.get("rules"))["groups"]
            found = {rule["name"]: rule for group in groups for rule in group["rules"]}
            assert not [rule for rule in found.values() if rule.get("lastError")]
            assert found["GatewayBug"]["state"] != "firing"
            if all(rule["health"] == "ok" for rule in found.values()) and (
                found["GatewayCredentialRefused"]["state"] == "firing"
            ):
                return
            await asyncio.sleep(0.3)
