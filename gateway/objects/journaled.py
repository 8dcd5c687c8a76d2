"""The index over a store, with the journal and caches in front.

A shared store is asked first, and the journal takes what it does not take; an embedded one takes everything from the
journal, behind the request. Either way a change that was acknowledged survives `kill -9`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from itertools import islice

import msgspec
from structlog.typing import FilteringBoundLogger

from gateway.errors import StoreUnavailable
from gateway.objects.backend import Backend
from gateway.objects.cache import Cache
from gateway.objects.changes import Begin, Drop, Operation, Put, PutContent
from gateway.objects.delivery import Delivery
from gateway.objects.index import Filter, Order
from gateway.objects.object_journal import ObjectJournal
from gateway.objects.paging import page
from gateway.objects.record import MOST_BODY_BYTES, MOST_ID_CHARACTERS, Listing, ObjectRecord, Place, Unsettled, merged

MOST_RECORDS, MOST_PLACES, MOST_HOMES, MOST_TOUCHED = 8_192, 4_096, 4_096, 16_384
FRESH_SECONDS = 30.0  # that a shared store's answer holds without asking again
TOUCH_SECONDS = 86_400.0  # between two notes of one object's use
TOUCH_DELAY_SECONDS = 5.0
CLOSE_SECONDS = 2.0
_MOST_CREATED = 2**53
_MOST_ABOUT, _MOST_ABOUT_CHARACTERS = 16, 512


class JournaledIndex:
    """An `ObjectIndex`. `on_taken` counts ids that are another's."""

    def __init__(
        self,
        backend: Backend,
        journal: ObjectJournal,
        log: FilteringBoundLogger,
        *,
        on_taken: Callable[[], None],
        epoch: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._journal = journal
        self._log = log
        self._on_taken = on_taken
        self._epoch = epoch
        self._delivery = Delivery(backend, journal, log, self._note_taken)
        self._pending = self._delivery.pending
        fresh = FRESH_SECONDS if backend.is_shared else float("inf")
        self._records: Cache[ObjectRecord] = Cache(MOST_RECORDS, fresh, monotonic)
        self._places: Cache[Place] = Cache(MOST_PLACES, float("inf"), monotonic)
        self._homes: Cache[str] = Cache(MOST_HOMES, fresh, monotonic)
        self._touched: Cache[bool] = Cache(MOST_TOUCHED, TOUCH_SECONDS, monotonic)
        self._used: list[ObjectRecord] = []  # since the last note of uses
        self._touching: asyncio.Task[None] | None = None
        self._holder = os.urandom(8).hex()

    # -- objects

    async def remember(self, records: Iterable[ObjectRecord]) -> frozenset[str]:
        now = int(self._epoch())
        puts = [Put(_bounded(record), now) for record in records if self._is_usable(record.id)]
        taken = frozenset(await self._change(puts)) if puts else frozenset()
        for put in puts:
            if put.record.id not in taken:
                self._note_seen(put)
        return taken

    def _note_seen(self, put: Put) -> None:
        record = merged(self._records.last_known(put.record.id), put.record.without_body())
        if not record.created:
            record = msgspec.structs.replace(record, created=put.at)
        self._records.put(record.id, record)
        self._touched.put(record.id, True)

    async def find(self, ids: Collection[str]) -> dict[str, ObjectRecord]:
        found: dict[str, ObjectRecord] = {}
        missing: list[str] = []
        for each in ids:
            record = self._pending.record(each) if self._pending.knows(each) else self._records.fresh(each)
            if record is not None:
                found[each] = record
            elif not self._pending.knows(each) and _is_text(each):
                missing.append(each)
        if missing:
            found |= await self._looked_up(missing)
        return found

    async def _looked_up(self, ids: list[str]) -> dict[str, ObjectRecord]:
        try:
            found = await self._backend.get(ids)
        except StoreUnavailable:
            known = {each: record for each in ids if (record := self._records.last_known(each)) is not None}
            if len(known) < len(ids):
                raise
            return known
        for each in ids:
            if each in found:
                self._records.put(each, found[each])
            else:
                self._records.drop(each)
        if len(found) < len(ids) and self._delivery.may_lack_some():
            raise StoreUnavailable("Whether this object exists cannot be told at the moment; ask again.")
        return found

    async def forget(self, object_id: str) -> None:
        record = (await self.find([object_id])).get(object_id)
        if record is not None:
            await self._change([Drop(object_id, record.kind, record.owner)])
            self._records.drop(object_id)

    def touch(self, records: Iterable[ObjectRecord]) -> None:
        for record in records:
            if self._touched.fresh(record.id) is None:
                self._touched.put(record.id, True)
                self._used.append(record)
        if self._used and (self._touching is None or self._touching.done()):
            self._touching = asyncio.create_task(self._note_uses_later())

    async def listed(
        self,
        owner: str,
        kind: str,
        *,
        limit: int,
        order: Order = "desc",
        after: str | None = None,
        before: str | None = None,
        where: Filter | None = None,
    ) -> Listing:
        await self._delivery.caught_up()
        return await page(self._backend, owner, kind, limit=limit, order=order, after=after, before=before, where=where)

    # -- encrypted_content

    async def remember_content(self, hashes: Iterable[str], *, owner: str, account: str) -> None:
        place, new = Place(account, owner), tuple(hashes)
        if new:
            await self._change([PutContent(new, place, int(self._epoch()))])
            for each in new:
                self._places.put(each, place)

    async def find_content(self, hashes: Collection[str]) -> dict[str, Place]:
        known = {each: self._pending.place(each) or self._places.fresh(each) for each in hashes}
        found = {each: place for each, place in known.items() if place is not None}
        missing = [each for each in hashes if each not in found]
        if missing:
            looked_up = await self._backend.places(missing)
            if len(looked_up) < len(missing) and self._delivery.may_lack_some():
                raise StoreUnavailable("Where this was made cannot be told at the moment; ask again.")
            for each, place in looked_up.items():
                self._places.put(each, place)
            found |= looked_up
        return found

    # -- homes

    async def home(self, owner: str) -> str | None:
        held = self._homes.fresh(owner)
        if held is not None:
            return held
        try:
            held = await self._backend.home(owner)
        except StoreUnavailable:
            held = self._homes.last_known(owner)
            if held is None:
                raise
            return held
        if held is not None:
            self._homes.put(owner, held)
        return held

    async def set_home(self, owner: str, account: str, *, instead_of: str | None = None) -> str:
        held = await self._backend.set_home(owner, account, instead_of)
        self._homes.put(owner, held)
        return held

    # -- work that is booked when it ends

    async def begin(self, work: Unsettled) -> None:
        await self._change([Begin(work if work.since else msgspec.structs.replace(work, since=int(self._epoch())))])

    async def unsettled(self) -> list[Unsettled]:
        await self._delivery.caught_up()
        return await self._backend.unsettled()

    async def find_unsettled(self, object_id: str) -> Unsettled | None:
        await self._delivery.caught_up()
        return await self._backend.find_unsettled(object_id)

    async def settled(self, object_id: str) -> bool:
        await self._delivery.caught_up()
        return await self._backend.take_unsettled(object_id)

    async def claim(self, seconds: float) -> bool:
        return await self._backend.claim(self._holder, seconds)

    # -- life

    async def start(self) -> None:
        await self._delivery.start()

    async def close(self) -> None:
        if self._touching is not None:
            self._touching.cancel()
            await asyncio.wait([self._touching])
        await self._note_uses()
        await self._delivery.close(CLOSE_SECONDS)
        await self._backend.close()
        self._journal.close()

    @property
    def waiting_bytes(self) -> int:
        return self._journal.size_bytes

    # -- inside

    async def _change(self, operations: Sequence[Operation]) -> list[str]:
        """Make changes durable; return the ids that are another's."""
        if self._backend.is_shared and self._pending.is_empty:
            with suppress(StoreUnavailable):
                taken = await self._backend.apply(operations)
                self._note_taken(taken)
                return [record.id for record in taken]
        foreign = self._foreign(operations, await self._first_owners(operations))
        self._note_taken(foreign)
        taken_ids = [record.id for record in foreign]
        kept = [each for each in operations if not (isinstance(each, Put) and each.record.id in taken_ids)]
        if kept:
            self._delivery.add(kept)
        return taken_ids

    def _foreign(self, operations: Sequence[Operation], owners: dict[str, str]) -> list[ObjectRecord]:
        puts = [operation.record for operation in operations if isinstance(operation, Put)]
        return [record for record in puts if owners.get(record.id, record.owner) != record.owner]

    async def _first_owners(self, operations: Sequence[Operation]) -> dict[str, str]:
        """Return the owners known here of the ids to put."""
        owners: dict[str, str] = {}
        missing: list[str] = []
        for operation in operations:
            if not isinstance(operation, Put):
                continue
            each = operation.record.id
            known = self._pending.record(each) if self._pending.knows(each) else self._records.last_known(each)
            if known is not None:
                owners[each] = known.owner
            elif not self._pending.knows(each):
                missing.append(each)
        if missing and not self._backend.is_shared:
            with suppress(StoreUnavailable):
                owners |= {each: record.owner for each, record in (await self._backend.get(missing)).items()}
        return owners

    def _note_taken(self, taken: Iterable[ObjectRecord]) -> None:
        for record in taken:
            self._records.drop(record.id)
            self._on_taken()
            self._log.warning(
                "object's id is another user's already; it stays theirs",
                object=record.id,
                kind=record.kind,
                user=record.owner,
            )

    def _is_usable(self, object_id: str) -> bool:
        if 0 < len(object_id) <= MOST_ID_CHARACTERS and _is_text(object_id):
            return True
        self._log.warning("object passed over: its id cannot be kept", characters=len(object_id))
        return False

    async def _note_uses_later(self) -> None:
        await asyncio.sleep(TOUCH_DELAY_SECONDS)
        await self._note_uses()

    async def _note_uses(self) -> None:
        used, self._used = self._used, []
        if used:
            with suppress(StoreUnavailable):  # it is noted at the next use
                await self._backend.touch(used)

    def __repr__(self) -> str:
        return f"<JournaledIndex over {self._backend!r}, {self._pending!r}>"


def _is_text(object_id: str) -> bool:
    """Whether UTF-8 can write it; paths may bring what it cannot."""
    try:
        object_id.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bounded(record: ObjectRecord) -> ObjectRecord:
    """Return the record within the bounds of what is kept."""
    body = record.body if record.in_lists else None
    if body is not None and len(body) > MOST_BODY_BYTES:
        body = b""  # not the one before it either: that is not what was last seen
    created = record.created if 0 <= record.created <= _MOST_CREATED else 0
    about = record.about
    if len(about) > _MOST_ABOUT or any(len(text) > _MOST_ABOUT_CHARACTERS for text in about.values()):
        short = ((name, text) for name, text in about.items() if len(text) <= _MOST_ABOUT_CHARACTERS)
        about = dict(islice(short, _MOST_ABOUT))
    if body is record.body and created == record.created and about is record.about:
        return record
    return msgspec.structs.replace(record, body=body, created=created, about=about)
