"""Answer operators: is it alive, is it ready, how much.

health.py    /healthz, /readyz
metrics.py   /metrics; gauges.py: what is read off when it is asked for
alerting.py  what alerts look at, and where they are queued
"""

from gateway.api.ops import health, metrics

__all__ = ["PROBED", "ROUTES"]

ROUTES = [*health.ROUTES, *metrics.ROUTES]
PROBED = frozenset(route.path for route in ROUTES)
