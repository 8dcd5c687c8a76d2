"""What the gateway counts of itself, for Prometheus.

families.py   every metric by name: its kind, labels and meaning, and how the numbers of several workers become one
counters.py   what is counted besides requests (these by `observability.ended`), and the samples of all of it
aggregation.py  the workers of one gateway: a scrape of any one counts all
process.py    CPU, memory and descriptors
exposition.py the text that Prometheus reads
"""

from gateway.observability.metrics.aggregation import MetricsAggregation
from gateway.observability.metrics.counters import Counters
from gateway.observability.metrics.families import FAMILIES, Family, Samples, joined

__all__ = ["FAMILIES", "Counters", "Family", "MetricsAggregation", "Samples", "joined"]
