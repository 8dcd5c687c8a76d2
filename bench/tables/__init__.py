"""The tables, in the order in which they are measured and printed; each can be measured alone.

traffic        requests, events, latency, and requests over TLS
itself         the gateway beside itself: limits in Redis, heads that differ
streams        many streams at once
bodies         large bodies
hostile        what hostile input holds others up for; an upload of a gigabyte
keys           many keys, users and grants: in YAML, and in Redis
storage        a row in the ledger; reports over many of them
conversations  where they go when endpoints are chosen by them
starting       from nothing to the first answer; what is to be installed before
lasting        two workers beside one; memory under load that goes on
"""

from bench.samples import Table
from bench.tables.bodies import BODIES
from bench.tables.conversations import AFFINITY
from bench.tables.hostile import STALLS, UPLOADS
from bench.tables.itself import HEADS, REDIS_LIMITS
from bench.tables.keys import KEYS, REDIS_KEYS
from bench.tables.lasting import SOAK, WORKERS
from bench.tables.starting import INSTALL, STARTUP
from bench.tables.storage import LEDGER, REPORTS
from bench.tables.streams import STREAMS
from bench.tables.traffic import EVENTS, LATENCY, REQUESTS, TLS

ALL = (
    *(REQUESTS, EVENTS, LATENCY, TLS, REDIS_LIMITS, HEADS, STREAMS, BODIES, STALLS, UPLOADS, KEYS, REDIS_KEYS),
    *(LEDGER, REPORTS, AFFINITY, WORKERS, STARTUP, INSTALL, SOAK),
)
TABLES: dict[str, Table] = {table.name: table for table in ALL}

__all__ = ["TABLES"]
