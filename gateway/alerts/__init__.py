"""Alerts by webhook (contract §14), each once.

event.py       what an alert says                        signing.py    Standard Webhooks: headers of a try
thresholds.py  which percents a total has passed         episodes.py   what begins and ends
watch.py       totals that may have passed one           dispatch.py   tries, until a 2xx is on record
queue.py       the contract of a queue                   sender.py     one POST
sqlite_queue.py, redis_queue.py with queue.lua           alerts.py     all of it, as a process holds it
"""

from gateway.alerts.alerts import Alerts, Surroundings
from gateway.alerts.queue import AlertQueue
from gateway.alerts.sqlite_queue import SqliteQueue
from gateway.alerts.watch import Counted, Describe

__all__ = ["AlertQueue", "Alerts", "Counted", "Describe", "SqliteQueue", "Surroundings"]
