"""What the tests of objects share: records with defaults, an index over either store, worker processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from store.grants_kit import Log, RedisServer, link, until

from gateway.objects.backend import Backend
from gateway.objects.index import ObjectIndex
from gateway.objects.journaled import JournaledIndex
from gateway.objects.object_journal import ObjectJournal
from gateway.objects.record import ObjectRecord
from gateway.objects.redis import RedisObjects
from gateway.objects.sqlite import SqliteObjects
from gateway.redis.link import RedisLink

HERE = Path(__file__).parent
DAYS = 400
DAY = 86_400


def record(object_id: str, **fields: Any) -> ObjectRecord:
    defaults: dict[str, Any] = {"kind": "file", "owner": "42", "account": "here", "created": 1000}
    return ObjectRecord(id=object_id, **(defaults | fields))


class Clock:
    """Seconds since 1970, moved by hand from the present on: Redis lets keys expire by its own."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Bench:
    """Opens indexes as processes have them, over one store."""

    def __init__(self, kind: str, directory: Path, log: Log, server: RedisServer | None, prefix: str = "gw:") -> None:
        self.kind = kind
        self.directory = directory
        self.log = log
        self.clock = Clock()
        self.taken = 0
        self.days = DAYS
        self._server = server
        self._prefix = prefix
        self._open: list[tuple[ObjectIndex, RedisLink | None]] = []

    async def open(self, *, max_journal_bytes: int = 2**20) -> JournaledIndex:
        """An index as a process has it; there may be several over Redis."""
        days = self._days
        redis: RedisLink | None = None
        backend: Backend
        if self._server is None:
            backend = SqliteObjects(self.directory, self.log.logger, object_days=days, epoch=self.clock)
        else:
            redis = link(self._server.url, self.log)
            await redis.start()
            backend = RedisObjects(redis, prefix=self._prefix, object_days=days, epoch=self.clock)
        journal = ObjectJournal(self.directory / "journal", max_bytes=max_journal_bytes)
        index = JournaledIndex(backend, journal, self.log.logger, on_taken=self._count_taken, epoch=self.clock)
        await index.start()
        self._open.append((index, redis))
        return index

    def link_of(self, index: ObjectIndex) -> RedisLink:
        redis = dict(self._open)[index]
        assert redis is not None
        return redis

    async def close(self, index: ObjectIndex) -> None:
        redis = dict(self._open)[index]
        self._open.remove((index, redis))
        await index.close()
        if redis is not None:
            await redis.stop()

    async def close_all(self) -> None:
        for index, _ in list(self._open):
            await self.close(index)

    async def is_back(self, index: ObjectIndex) -> None:
        redis = self.link_of(index)
        await until(lambda: redis.is_up)

    def journal_bytes(self) -> int:
        return sum(path.stat().st_size for path in (self.directory / "journal").iterdir())

    def _count_taken(self) -> None:
        self.taken += 1

    def _days(self) -> int:
        return self.days


def worker(*arguments: str) -> subprocess.Popen[bytes]:
    """A process that remembers objects, and says which, until it is killed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE.parent.parent), str(HERE.parent), str(HERE)))}
    program = [sys.executable, str(HERE / "remembering.py"), *arguments]
    return subprocess.Popen(program, stdout=subprocess.PIPE, env=environment)


Opened = Callable[[], Bench]
