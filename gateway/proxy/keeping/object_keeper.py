"""Remember the objects that an answer brings, before its client has them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import orjson

from gateway.dialects.base import Operation
from gateway.dialects.references import NONE, Positions
from gateway.http.sse import events_data
from gateway.objects.accounts import Accounts
from gateway.objects.index import ObjectIndex
from gateway.objects.record import ObjectRecord, Unsettled
from gateway.proxy.keeping.answer_objects import marks_of, records_in, work_in
from gateway.proxy.keeping.pins import hashes_of
from gateway.proxy.refusals.masking import readable
from gateway.types import Endpoint, Model

_LARGE_BYTES = 1 << 20  # from here on a body is decoded beside the loop


class Work(Protocol):
    """What a request begins that goes on after it."""

    def unsettled(self, object_id: str, kind: str, account: str) -> Unsettled:
        """Return what is to be remembered of it."""

    def begun(self, work: Unsettled) -> None:
        """It is remembered."""


class News(NamedTuple):
    """What a piece of an answer brings that was not seen before."""

    records: tuple[ObjectRecord, ...]
    hashes: tuple[str, ...]  # of content
    account: str
    work: tuple[str, str] | None = None  # that has begun: id and kind

    def __bool__(self) -> bool:
        return bool(self.records or self.hashes)


NOTHING_NEW = News((), (), "")


class Keeper:
    """Looks for objects in the answers to one request.

    `model`: the id, as text, of the one under which they are made. `forgets`: the object that it deletes.
    `beside`: what else is to be remembered of one that it brings. `metadata`: what the request gives it.
    """

    __slots__ = (
        "_accounts",
        "_beside",
        "_contents",
        "_ids",
        "_index",
        "_is_single",
        "_metadata",
        "_model",
        "_owner",
        "_seen",
        "_signs",
        "forgets",
        "on_seen",
        "work",
    )

    def __init__(
        self,
        index: ObjectIndex,
        accounts: Accounts,
        ids: Positions,
        contents: Positions,
        *,
        owner: str,
        model: str | None,
        forgets: str | None = None,
        beside: Callable[[ObjectRecord], ObjectRecord] | None = None,
        metadata: Any = None,
        on_seen: Callable[[bytes], None] | None = None,
    ) -> None:
        self._index = index
        self._accounts = accounts
        self._ids = ids
        self._contents = contents
        self._owner = owner
        self._model = model
        self._seen: set[str] = set()
        self._signs = (*ids.signs, *contents.signs)
        self._beside = beside
        self._metadata = marks_of(metadata)
        self._is_single = [each.path for each in ids.positions] == ["id"] and not contents
        self.forgets = forgets
        self.on_seen = on_seen  # told of a good whole answer
        self.work: Work | None = None  # what the request may begin; None once it has

    async def whole(self, model: Model, endpoint: Endpoint, body: bytes, encoding: bytes) -> bool:
        """Remember what a whole answer brings, or forget what it has deleted.

        False where it unpacks to more than is read here. Raises StoreUnavailable or LedgerUnavailable.
        """
        if self.forgets is not None:
            await self._index.forget(self.forgets)
            return True
        if not self.reads(endpoint):
            return True
        content = readable(body, encoding)
        if content is not None and self.on_seen is not None:
            self.on_seen(content)
        if content is not None and self._may_bring(content):
            fields = await _decoded(content)
            if fields is not None:
                await self.remember(self._news_of(fields, content, self._accounts.label(model, endpoint)))
        return content is not None

    def news_in(self, data: bytes, model: Model, endpoint: Endpoint) -> News:
        """Return what whole events bring; quick where that is nothing."""
        if not self._may_bring(data) or not endpoint.objects or (self._is_single and self._seen):
            return NOTHING_NEW
        account = self._accounts.label(model, endpoint)
        return joined([self._news_of(fields, None, account) for fields in _payloads(data) if fields is not None])

    def news_of(self, fields: Mapping[str, Any], model: Model, endpoint: Endpoint) -> News:
        """Return what a document has brought so far."""
        return self._news_of(fields, None, self._accounts.label(model, endpoint))

    @property
    def positions(self) -> Positions:
        """Where answers bring ids and content, in one table."""
        return Positions((*self._ids.positions, *self._contents.positions))

    def reads(self, endpoint: Endpoint) -> bool:
        """Whether answers of this endpoint may bring anything."""
        return bool(self._signs) and endpoint.objects

    async def remember(self, news: News) -> None:
        """Raise StoreUnavailable or LedgerUnavailable."""
        if news.records:
            await self._index.remember(news.records)
        if news.hashes:
            await self._index.remember_content(news.hashes, owner=self._owner, account=news.account)
        if news.work is not None and self.work is not None:
            begun, self.work = self.work, None
            work = begun.unsettled(*news.work, news.account)
            await self._index.begin(work)
            begun.begun(work)

    def _may_bring(self, data: bytes) -> bool:
        return any(sign in data for sign in self._signs)

    def _news_of(self, fields: Mapping[str, Any], raw: bytes | None, account: str) -> News:
        records = records_in(
            fields,
            raw,
            self._ids,
            owner=self._owner,
            account=account,
            model=self._model,
            metadata=self._metadata,
        )
        new = tuple(each for each in records if each.id not in self._seen)
        hashes = tuple(each for each in hashes_of(self._contents, fields) if each not in self._seen)
        self._seen.update(record.id for record in new)
        self._seen.update(hashes)
        if self._beside is not None:
            new += tuple(map(self._beside, new))
        return News(new, hashes, account, work_in(fields) if self.work is not None else None)

    def __repr__(self) -> str:
        return f"<Keeper of {self._ids!r} for {self._owner}>"


def joined(found: Iterable[News]) -> News:
    """Return the news of several pieces of one answer."""
    every = tuple(found)
    records = tuple(record for news in every for record in news.records)
    work = next((news.work for news in every if news.work is not None), None)
    account = every[0].account if every else ""
    return News(records, tuple(each for news in every for each in news.hashes), account, work)


def learnt_by(operation: Operation, fields: Mapping[str, Any]) -> Positions:
    """Return where answers to this request bring ids."""
    asked = [each.ids for each in operation.learns if each.is_asked(fields)] if operation.learns else []
    if len(asked) > 1:
        return Positions(position for ids in asked for position in ids.positions)
    return asked[0] if asked else NONE


async def _decoded(content: bytes) -> dict[str, Any] | None:
    return _loaded(content) if len(content) < _LARGE_BYTES else await asyncio.to_thread(_loaded, content)


def _payloads(events: bytes) -> list[dict[str, Any] | None]:
    return [_loaded(data) for data in events_data(events)]


def _loaded(data: bytes) -> dict[str, Any] | None:
    try:
        fields = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return fields if isinstance(fields, dict) else None
