"""config/prometheus-rules.yaml speaks only of metrics, labels and values that the gateway exports."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from gateway import errors
from gateway.api import all_routes
from gateway.observability.metrics import FAMILIES
from gateway.pool import Cause
from gateway.pool.state import State as EndpointStateName
from gateway.types import Outcome

FILE = Path(__file__).parents[2] / "config" / "prometheus-rules.yaml"
RULES = [rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]]
# Prometheus' own: what it adds to each series, and the metric that it makes of each scrape.
ITS_LABELS = {"instance", "job"}
KNOWN_VALUES = {
    "code": {fault.code for fault in vars(errors).values() if isinstance(fault, type) and hasattr(fault, "code")},
    "route": {route.path for route in all_routes()},
    "outcome": {"", *get_args(Outcome)},
    "cause": {cause.value for cause in Cause},
    "result": {*(cause.value for cause in Cause), "refused", *get_args(Outcome)},
    "state": set(get_args(EndpointStateName)),
}

SELECTOR = re.compile(r"\b((?:gateway|process)_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')


def labels_of(metric: str) -> set[str]:
    """The labels of a metric as it is exported. Fails where nobody exports it."""
    if metric in FAMILIES and FAMILIES[metric].kind != "histogram":
        return set(FAMILIES[metric].labels) | ITS_LABELS
    name, _, part = metric.rpartition("_")
    assert part in ("bucket", "count", "sum"), f"{metric} is not exported"
    assert name in FAMILIES, f"{metric} is not exported"
    assert FAMILIES[name].kind == "histogram", f"{metric} is not exported"
    return set(FAMILIES[name].labels) | ITS_LABELS | ({"le"} if part == "bucket" else set())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_a_rule_names_what_is_exported(rule: dict[str, Any]) -> None:
    expression = rule["expr"]
    if expression == 'up{job="ecli-gateway"} == 0':
        return
    selectors = SELECTOR.findall(expression)
    assert selectors, "a rule about none of our metrics"
    for metric, matchers in selectors:
        known = labels_of(metric)
        for label, how, value in MATCHER.findall(matchers):
            assert label in known, f"{metric} has no label {label}"
            if label in KNOWN_VALUES:
                values = value.split("|") if "~" in how else [value]
                assert set(values) <= KNOWN_VALUES[label], f"{label} is never {value}"
    common = set.intersection(*(labels_of(metric) for metric, _ in selectors))
    for group in re.findall(r"by \(([^)]*)\)", expression):
        assert set(re.split(r", *", group)) <= common, f"not every metric has the labels {group}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_what_people_are_told_uses_labels_that_the_rule_keeps(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    texts = " ".join(rule["annotations"].values())
    used = set(re.findall(r"\$labels\.(\w+)", texts))
    groups = [set(re.split(r", *", group)) for group in re.findall(r"by \(([^)]*)\)", rule["expr"])]
    exported = [labels_of(metric) for metric, _ in SELECTOR.findall(rule["expr"])]
    assert used <= (set.intersection(*groups) if groups else ITS_LABELS.union(*exported))


def test_every_alert_has_a_name_of_its_own() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) > 10
