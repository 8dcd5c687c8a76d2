"""Cache parsed run-time records for the hot path."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias, TypeVar

from structlog.typing import FilteringBoundLogger

from gateway.config.documents import InvalidDocument, Linked, parse_document, parse_feature
from gateway.errors import StoreUnavailable
from gateway.single_flight import SingleFlight
from gateway.store.base import KINDS, Catalogue, Kind, RecordStore
from gateway.store.freshness import AGEING_SHARE, Allowance, Asked, Complaints, Freshness
from gateway.store.runtime_models import ModelLayer, RuntimeModels
from gateway.types import ApiKey, Model

Record: TypeAlias = Model | ApiKey | Linked | bool
Slot: TypeAlias = tuple[Kind, str]

_Name = TypeVar("_Name")
_Value = TypeVar("_Value")

DEFAULT_SIZE = 10_000
DEFAULT_MISSES = 10_000

# A flood of keys that nobody has: so many may be asked for and not be there. Keys that are there are not counted.
UNKNOWN_KEYS_PER_SECOND = 500.0
UNKNOWN_KEYS_AT_ONCE = 2000.0
MOST_LOOK_UPS = 1000


class Known:
    """A cached record.

    `joined` is what `LayeredStore` makes of it with a catalogue, kept beside it.
    """

    __slots__ = ("asked", "document", "joined", "joined_with", "record", "warmed")

    def __init__(self, record: Record, document: bytes, asked: Asked) -> None:
        self.record = record
        self.document = document
        self.asked = asked
        self.joined: object = None
        self.joined_with: Catalogue | None = None
        self.warmed: Asked | None = None  # the `asked` for which all that belongs to it has been asked for as well

    def __repr__(self) -> str:
        return f"<Known {type(self.record).__name__}>"


class CachedRecords:
    """Cache one store's records, and those that are absent.

    At most `size` that are there and, of each kind, `misses` that are not.

    A record is asked for again within `FRESH_SECONDS`, or once a change of it is heard of; while the store cannot
    answer, what was known last holds for `LAST_KNOWN_SECONDS`. Of keys only those that are there: that one was unknown
    a moment ago is no reason to refuse it now. Where changes may have been missed, everything is asked for again.

    A flood of unknown keys finds the store asked for `UNKNOWN_KEYS_PER_SECOND` of them; for the rest it cannot be told
    whether they exist (StoreUnavailable), until the flood is over. Keys that are remembered do not notice.
    """

    def __init__(
        self,
        source: RecordStore,
        log: FilteringBoundLogger,
        *,
        clock: Callable[[], float] = time.monotonic,
        size: int = DEFAULT_SIZE,
        misses: int = DEFAULT_MISSES,
    ) -> None:
        self._source = source
        self._size = size
        self._most_misses = misses
        self._known: OrderedDict[Slot, Known] = OrderedDict()
        self._misses: dict[Kind, OrderedDict[str, Asked]] = {kind: OrderedDict() for kind in KINDS}
        self._flights: SingleFlight[Known | None] = SingleFlight()
        self._complaints = Complaints(log)
        self.freshness = Freshness(source, clock)
        self._unknown_keys = Allowance(clock, per_second=UNKNOWN_KEYS_PER_SECOND, burst=UNKNOWN_KEYS_AT_ONCE)
        self._models = RuntimeModels(source, self.freshness, self._complaints)
        source.on_change(self._changed)

    async def find(self, kind: Kind, record_id: str) -> Known | None:
        """Return the record, or None. Raises StoreUnavailable.

        None where there is none or none that can be used.
        """
        slot = kind, record_id
        known = self._known.get(slot)
        if known is None:
            if self._source.surely_lacks(kind, record_id) or self._is_known_miss(kind, record_id):
                return None
            return await self._ask(slot)
        left = self.freshness.share_left(known.asked)
        if left <= 0:
            return await self._ask(slot)
        self._known.move_to_end(slot)
        if left < AGEING_SHARE:
            self._ask_ahead(slot)
        return known

    def age(self, kind: Kind, record_id: str) -> float | None:
        """Return the age of cached records, in seconds, or None."""
        if kind == "model":
            asked = self._models.asked
        elif (known := self._known.get((kind, record_id))) is not None:
            asked = known.asked
        else:
            asked = self._misses[kind].get(record_id)
        return None if asked is None else self.freshness.age(asked)

    async def models(self) -> ModelLayer:
        """Return all models in order. Never raises.

        The same object until one of them changes.
        """
        return await self._models.current()

    async def warm(self, slots: Iterable[Slot]) -> None:
        """Look records up concurrently that would be asked singly."""
        wanted = [slot for slot in slots if not self._is_settled(slot)]
        if len(wanted) > 1:
            await asyncio.gather(*(self._ask(slot) for slot in wanted), return_exceptions=True)

    def _is_settled(self, slot: Slot) -> bool:
        known = self._known.get(slot)
        return self.freshness.share_left(known.asked) > 0 if known is not None else self._is_known_miss(*slot)

    def _is_known_miss(self, kind: Kind, record_id: str) -> bool:
        asked = self._misses[kind].get(record_id)
        if asked is None or self.freshness.share_left(asked) <= 0:
            return False
        return kind != "key" or self._source.available

    async def _ask(self, slot: Slot) -> Known | None:
        if not self._source.available:
            return self._last_known(slot)
        is_stranger = slot[0] == "key" and slot not in self._known
        if len(self._flights) >= MOST_LOOK_UPS or (is_stranger and self._unknown_keys.is_used_up()):
            raise StoreUnavailable("Too many records are being looked up; ask again in a moment.")
        return await self._flights.join(slot, partial(self._look_up, slot))

    def _ask_ahead(self, slot: Slot) -> None:
        if self._source.available and len(self._flights) < MOST_LOOK_UPS:
            self._flights.begin(slot, partial(self._look_up, slot))

    async def _look_up(self, slot: Slot) -> Known | None:
        asked = self.freshness.now()
        try:
            document = await self._source.get(*slot)
        except StoreUnavailable:
            return self._last_known(slot)
        known = self._read(slot, document, asked)
        if self._flights.is_current(slot):
            self._remember(slot, known, asked)
        return known

    def _last_known(self, slot: Slot) -> Known | None:
        kind, record_id = slot
        known = self._known.get(slot)
        if known is not None and self.freshness.may_stand_in(known.asked):
            return known
        missed = self._misses[kind].get(record_id)
        if kind != "key" and missed is not None and self.freshness.may_stand_in(missed):
            return None
        raise StoreUnavailable("What this request needs to know cannot be looked up at the moment; ask again.")

    def _read(self, slot: Slot, document: bytes | None, asked: Asked) -> Known | None:
        if document is None:
            return None
        known = self._known.get(slot)
        if known is not None and known.document == document:
            known.asked = max(known.asked, asked)
            return known
        try:
            return Known(self._parse(slot, document), document, asked)
        except InvalidDocument as invalid:
            self._complaints.invalid(*slot, invalid.reasons)
            return None

    def _parse(self, slot: Slot, document: bytes) -> Record:
        kind, record_id = slot
        if kind == "feature":
            switch = parse_feature(document)
            if not switch.is_understood:
                self._complaints.not_understood(kind, record_id)
            return switch.is_on
        reading = parse_document(kind, record_id, document)
        if reading.ignored:
            self._complaints.ignored(kind, record_id, reading.ignored)
        return reading.record

    def _remember(self, slot: Slot, known: Known | None, asked: Asked) -> None:
        kind, record_id = slot
        before = self._known.get(slot)
        if before is not known and (before is not None or record_id in self._misses[kind]):
            self.freshness.changed()  # nobody told of it
        if known is not None:
            self._misses[kind].pop(record_id, None)
            _keep(self._known, slot, known, self._size)
            return
        self._known.pop(slot, None)
        _keep(self._misses[kind], record_id, asked, self._most_misses)
        if kind == "key":
            self._unknown_keys.use()

    def _changed(self, kind: Kind | None, record_id: str | None) -> None:
        if kind is None or record_id is None:
            self.freshness.doubt_everything()
            self._flights.disown_all()
            self._models.changed()
        elif kind == "model":
            self.freshness.changed()
            self._models.changed()
        else:
            self.freshness.changed()
            self._forget((kind, record_id))

    def _forget(self, slot: Slot) -> None:
        kind, record_id = slot
        self._known.pop(slot, None)
        self._misses[kind].pop(record_id, None)
        self._flights.disown(slot)

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        misses = sum(len(of_kind) for of_kind in self._misses.values())
        return f"<CachedRecords: {len(self._known)} of {self._size} known, {misses} known to be missing>"


def _keep(cache: OrderedDict[_Name, _Value], slot: _Name, value: _Value, most: int) -> None:
    """The least recently used goes where there is no room."""
    cache[slot] = value
    cache.move_to_end(slot)
    if len(cache) > most:
        cache.popitem(last=False)
