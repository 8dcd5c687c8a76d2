"""Render the text that Prometheus reads.

By its own library. Not for the event loop: loading that library takes a while.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gateway.observability.metrics.families import FAMILIES, Family, Labels, Samples, Value


def exposition(samples: Samples, accept: str) -> tuple[bytes, str]:
    """Return the body and its content type.

    OpenMetrics where `accept` (the request's header) asks for it.
    """
    encode, content_type = choose_encoder(accept)
    return encode(_Told(samples)), content_type


class _Told(Collector):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        for name, family in FAMILIES.items():
            yield _metric(family, self._samples.get(name, []))


def _metric(family: Family, samples: list[tuple[Labels, Value]]) -> Metric:
    if family.kind == "histogram":
        return _histogram(family, samples)
    make = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = make(family.name, family.help, labels=family.labels)
    for labels, value in samples:
        if not isinstance(value, list):
            metric.add_metric(labels, value)
    return metric


def _histogram(family: Family, samples: list[tuple[Labels, Value]]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    bounds = [*map(str, family.buckets), "+Inf"]
    for labels, value in samples:
        if isinstance(value, list):
            *counts, total = value
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            metric.add_metric(labels, buckets=buckets, sum_value=total)
    return metric
