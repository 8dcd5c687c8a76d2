"""Reading what /metrics says with Prometheus' own parser."""

from __future__ import annotations

from kit import KEYS, GatewayProcess
from prometheus_client.parser import text_string_to_metric_families


class Scrape:
    """One answer of /metrics."""

    def __init__(self, text: str) -> None:
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """The sum of every series of this name with at least these labels. There must be one."""
        found = [each.value for each in self._samples if each.name == name and labels.items() <= each.labels.items()]
        assert found, f"no {name} with {labels}"
        return sum(found)

    def has(self, name: str, **labels: str) -> bool:
        return any(each.name == name and labels.items() <= each.labels.items() for each in self._samples)

    def names(self) -> set[str]:
        return {each.name for each in self._samples}

    def label_values(self) -> set[str]:
        return {value for each in self._samples for value in each.labels.values()}

    def series(self) -> list[tuple[str, frozenset[tuple[str, str]]]]:
        return [(each.name, frozenset(each.labels.items())) for each in self._samples]


async def scrape(gateway: GatewayProcess, key: str = KEYS["reader"]) -> Scrape:
    reply = await gateway.get("/metrics", key=key)
    assert reply.status == 200, reply
    return Scrape(reply.body.decode())
