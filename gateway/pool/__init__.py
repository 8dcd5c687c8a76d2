"""One model's endpoints: rotation, cooldowns, leases (contract §5).

    pool.py       Pool: take an endpoint; Lease: a request's hold on it, which says how it went and gives it back
    cooling.py    what follows from a failure
    rotation.py   whose turn it is among those that are free
    state.py      what is remembered of an endpoint, and the frozen shapes shown to others
    retry_after.py  how long an upstream asks to be left alone
    blame.py      whether failures are the request's own fault
    verdict.py    from what stood in the way of a request to its error

Everything here decides and nothing waits: `now` is handed in (seconds of one monotonic clock), randomness too.
"""

from gateway.pool.blame import Blame
from gateway.pool.pool import Lease, Pool
from gateway.pool.retry_after import LONGEST_WAIT_SECONDS, retry_after_seconds
from gateway.pool.state import Blocked, Cause, Cooldown, EndpointState, Obstacle
from gateway.pool.verdict import no_answer

__all__ = [
    "LONGEST_WAIT_SECONDS",
    "Blame",
    "Blocked",
    "Cause",
    "Cooldown",
    "EndpointState",
    "Lease",
    "Obstacle",
    "Pool",
    "no_answer",
    "retry_after_seconds",
]
