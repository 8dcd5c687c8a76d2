"""The tables, in the order in which they are measured and printed; each can be measured alone.

traffic   requests, events, latency, and requests over TLS
streams   many streams at once
bodies    large bodies
keys      many keys, users and grants: in YAML, and in Redis
starting  from nothing to the first answer; what is to be installed before
lasting   two workers beside one; memory under load that goes on
"""

from bench.samples import Table
from bench.tables.bodies import BODIES
from bench.tables.keys import KEYS, REDIS_KEYS
from bench.tables.lasting import SOAK, WORKERS
from bench.tables.starting import INSTALL, STARTUP
from bench.tables.streams import STREAMS
from bench.tables.traffic import EVENTS, LATENCY, REQUESTS, TLS

ALL = (REQUESTS, EVENTS, LATENCY, TLS, STREAMS, BODIES, KEYS, REDIS_KEYS, WORKERS, STARTUP, INSTALL, SOAK)
TABLES: dict[str, Table] = {table.name: table for table in ALL}

__all__ = ["TABLES"]
