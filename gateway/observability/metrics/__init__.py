"""What the gateway counts of itself, for Prometheus.

families.py   every metric by name: its kind, labels and meaning, and how the numbers of several workers become one
tallies.py    the counting, once for each request that has ended
crew.py       the workers of one gateway: each tells its numbers to whichever of them is asked
process.py    CPU, memory and descriptors
exposition.py the text that Prometheus reads
"""

from gateway.observability.metrics.crew import Crew
from gateway.observability.metrics.families import FAMILIES, Family, Samples, joined
from gateway.observability.metrics.tallies import Tallies

__all__ = ["FAMILIES", "Crew", "Family", "Samples", "Tallies", "joined"]
