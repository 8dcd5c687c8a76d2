"""config/prometheus-rules.yaml by Prometheus' own promtool: it parses, and each rule fires on what it is for."""

from __future__ import annotations

from pathlib import Path

import yaml
from kit.prometheus import promtool

ROOT = Path(__file__).parents[2]
RULES, TRIED = ROOT / "config" / "prometheus-rules.yaml", Path(__file__).with_name("rules.test.yaml")


def alerts() -> set[str]:
    return {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}


async def test_promtool_takes_the_rules() -> None:
    code, said = await promtool("check", "rules", str(RULES), cwd=ROOT)
    assert code == 0, said
    assert f"{len(alerts())} rules found" in said


async def test_each_rule_fires_and_a_healthy_gateway_sets_off_none() -> None:
    code, said = await promtool("test", "rules", TRIED.name, cwd=TRIED.parent)
    assert code == 0, said


def test_every_rule_is_tried_in_both_ways() -> None:
    """One that nothing in the file makes fire would pass by never firing."""
    cases = yaml.safe_load(TRIED.read_text())["tests"]
    fired = {each["alertname"] for case in cases for each in case.get("alert_rule_test", ()) if each["exp_alerts"]}
    assert fired == alerts()


async def test_a_rule_that_is_wrong_would_be_found(tmp_path: Path) -> None:
    wrong = RULES.read_text().replace("gateway_config_problems > 0", "gateway_config_problems > 5")
    (tmp_path / "rules.yaml").write_text(wrong)
    tried = TRIED.read_text().replace("../../config/prometheus-rules.yaml", "rules.yaml")
    (tmp_path / TRIED.name).write_text(tried)
    code, said = await promtool("test", "rules", TRIED.name, cwd=tmp_path)
    assert code != 0
    assert "GatewayReloadFailed" in said
