"""What the demo's upstream keeps, on shelves of bounded size.

The oldest leave first.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Coroutine, Iterable, Mapping
from secrets import token_hex
from typing import Any

from aiohttp import web

Json = dict[str, Any]

MOST_RECORDS, MOST_BYTES = 2_000, 64 * 2**20
MOST_LISTED, LISTED = 100, 20
RECORD_BYTES = 2_000  # what one takes of which nobody knows more


class Refused(Exception):
    """A refusal in OpenAI's shape."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"message": message, "type": "invalid_request_error", "param": param, "code": code}


class Shelf:
    """Records of one kind by id, in order of their making."""

    def __init__(self, kind: str, param: str = "id", *, code: str | None = None) -> None:
        self._kind, self._param, self._code = kind, param, code
        self._records: OrderedDict[str, Json] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._total = 0

    def put(self, name: str, record: Json, size: int = RECORD_BYTES) -> Json:
        """Keep a record of about `size` bytes; older ones make room."""
        self.drop(name)
        self._records[name], self._sizes[name] = record, size
        self._total += size
        while len(self._records) > 1 and (len(self._records) > MOST_RECORDS or self._total > MOST_BYTES):
            self.drop(next(iter(self._records)))
        return record

    def find(self, name: str) -> Json | None:
        return self._records.get(name)

    def get(self, name: str) -> Json:
        """Return a record. Raises Refused with 404."""
        record = self._records.get(name)
        if record is None:
            raise Refused(f"No {self._kind} found with id '{name}'.", status=404, param=self._param, code=self._code)
        return record

    def take(self, name: str) -> Json:
        """Take a record away and return it. Raises Refused with 404."""
        record = self.get(name)
        self.drop(name)
        return record

    def drop(self, name: str) -> None:
        if self._records.pop(name, None) is not None:
            self._total -= self._sizes.pop(name)

    def all(self) -> list[Json]:
        return list(self._records.values())


class Desk:
    """Everything that is kept. `pause_seconds`: between the words of a stream."""

    def __init__(self, pause_seconds: float) -> None:
        self.pause_seconds = pause_seconds
        self.chats = Shelf("chat completion", "completion_id")
        self.responses = Shelf("response", "response_id")
        self.conversations = Shelf("conversation", "conversation_id")
        self.files = Shelf("file", "file_id")
        self.uploads = Shelf("upload", "upload_id")
        self.batches = Shelf("batch", "batch_id")
        self.stores = Shelf("vector store", "vector_store_id")
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do work that goes on when its request has been answered."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


DESK = web.AppKey("desk", Desk)


def desk_of(request: web.Request) -> Desk:
    return request.app[DESK]


def new_id(prefix: str) -> str:
    return f"{prefix}{token_hex(16)}"


def now() -> int:
    return int(time.time())


def page(records: Iterable[Json], query: Mapping[str, str], *, newest_first: bool = True) -> Json:
    """Return a list of records as `limit`, `after`, `before` and `order` ask."""
    wanted = list(records)
    if query.get("order", "desc" if newest_first else "asc") == "desc":
        wanted.reverse()
    wanted = _between([record["id"] for record in wanted], wanted, query)
    limit = query.get("limit", "")
    shown = wanted[: max(1, min(int(limit), MOST_LISTED)) if limit.isdecimal() else LISTED]
    first, last = (shown[0]["id"], shown[-1]["id"]) if shown else (None, None)
    more = len(wanted) > len(shown)
    return {"object": "list", "data": shown, "first_id": first, "last_id": last, "has_more": more}


def _between(names: list[str], records: list[Json], query: Mapping[str, str]) -> list[Json]:
    after, before = query.get("after"), query.get("before")
    start = 0 if after is None else names.index(after) + 1 if after in names else len(names)
    return records[start : names.index(before) if before in names else len(names)]


def deleted(name: str, kind: str) -> Json:
    return {"id": name, "object": kind, "deleted": True}
