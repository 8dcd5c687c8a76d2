"""What the tests of copies share: stores filled with one of everything, and what is in them, read as gateways read."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from store.grants_kit import KEY_SHA256, SECRET, Log, RedisServer, link, until

from gateway.alerts.event import event
from gateway.alerts.queue import AlertQueue, Episode
from gateway.alerts.redis_queue import RedisQueue
from gateway.alerts.sqlite_queue import SqliteQueue
from gateway.objects.backend import Backend
from gateway.objects.changes import Begin, Put, PutContent
from gateway.objects.record import ObjectRecord, Place, Unsettled
from gateway.objects.redis import RedisObjects
from gateway.objects.sqlite import SqliteObjects
from gateway.store.base import KINDS, RecordStore
from gateway.store.embedded import EmbeddedStore
from gateway.store.redis import RedisStore

DAYS = 400
RECEIVER, STOPPED = "0123456789abcdef", "fedcba9876543210"
FILE = ObjectRecord(
    id="file-1",
    kind="file",
    owner="42",
    account='["a"]',
    created=1000,
    body=b'{"id":"file-1","note":"with a \\u2028 line"}',
    final=True,
    about={"purpose": "batch"},
)
RESPONSE = ObjectRecord(id="resp-1", kind="response", owner="user:7", account="b", model="1", in_lists=False)
WORK = Unsettled(id="batch-1", kind="batch", owner="42", account="b", since=5, reservation=b'{"a":1}')


class Ends:
    """One store as a gateway opens it."""

    def __init__(self, records: RecordStore, objects: Backend, alerts: AlertQueue) -> None:
        self.records = records
        self.objects = objects
        self.alerts = alerts

    async def fill(self) -> None:
        await self.records.put("model", "7", json.dumps({"name": "m", "endpoints": [endpoint()]}).encode())
        await self.records.put("user", "42", b'{"tier": "paid",\n "grants": [{"model": "m", "limits": {"rpm": 7.0}}]}')
        await self.records.put("user", "user:7", b"{}")
        await self.records.put("org", "10", b'{"name":"\xc3\xbcber"}')
        await self.records.put("plan", "pro", b"{}")
        await self.records.put("key", KEY_SHA256, b'{"id":"laptop","user":42,"scopes":["ai:use"]}')
        await self.records.put("feature", "ai", b"1")
        for number in range(3):
            await self.records.append_audit(b'{"time":"2027-01-0%dT00:00:00Z","action":"create"}' % (number + 1))
        now = int(time.time())
        await self.objects.apply([Put(FILE, now), Put(RESPONSE, now), Begin(WORK)])
        await self.objects.apply([PutContent(("ab" * 32,), Place("a", "42"), now)])
        await self.objects.set_home("42", '["a"]', None)
        waiting = event("salt", "limit:user:42", "limit.threshold", now, {"share": 80})
        await self.alerts.add(waiting, [RECEIVER], now)
        await self.alerts.stop(STOPPED, "print")
        episode = Episode("cooling:1:a", now + 0.25, now + 60.5, "worker")
        await self.alerts.begin(episode, event("salt", "cooling", "pool.cooling", now, {}), [])

    async def content(self) -> dict[str, Any]:
        """All of it, as it is asked for while requests are served."""
        records = {
            (kind, each): await self.records.get(kind, each) for kind in KINDS for each in await self.records.ids(kind)
        }
        listed = await self.objects.slice("42", "file", None, descending=True, count=10)
        found = await self.objects.get(["file-1", "resp-1"])
        places = await self.objects.places(["ab" * 32])
        return {
            "records": records,
            "audit": await self.records.audit(10),
            "listed": listed.records if listed else None,
            "objects": found,
            "places": places,
            "home": await self.objects.home("42"),
            "unsettled": await self.objects.unsettled(),
            "waiting": await self.alerts.waiting([RECEIVER]),
            "stopped": await self.alerts.stopped([STOPPED, RECEIVER]),
            "episodes": await self.alerts.episodes(),
        }


def endpoint() -> dict[str, str]:
    return {"id": "a", "url": "https://upstream.example", "api_key": SECRET}


@asynccontextmanager
async def embedded(directory: Path) -> AsyncIterator[Ends]:
    log = Log()
    records = EmbeddedStore(directory, log.logger)
    objects = SqliteObjects(directory, log.logger, object_days=lambda: DAYS)
    alerts = SqliteQueue(directory)
    try:
        yield Ends(records, objects, alerts)
    finally:
        for each in (alerts, objects, records):
            await each.close()


@asynccontextmanager
async def on_redis(server: RedisServer, prefix: str = "gw:") -> AsyncIterator[Ends]:
    log = Log()
    store = RedisStore(link(server.url, log), log.logger, prefix=prefix)
    await store.start()
    try:
        await until(lambda: store.available)
        objects = RedisObjects(store.link, prefix=prefix, object_days=lambda: DAYS)
        yield Ends(store, objects, RedisQueue(store.link, prefix=prefix))
    finally:
        await store.close()


def hashes(count: int) -> list[str]:
    return [f"{number:064x}" for number in range(count)]


def fill_with_keys(directory: Path, count: int) -> None:
    """Many keys at once, as they are after years."""
    import sqlite3  # past the store's own way, which is made for one at a time

    EmbeddedStore(directory, Log().logger)._files.close()  # makes the file
    database = sqlite3.connect(directory / "gateway.db")
    documents = ((each, b'{"id":"%s","user":42}' % each[-8:].encode()) for each in hashes(count))
    database.executemany("INSERT INTO records VALUES ('key', ?, ?)", documents)
    database.commit()
    database.close()
