"""Redis, read and written in bulk, as the gateways on it would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TypeVar, cast

import orjson

from gateway.errors import StoreUnavailable
from gateway.redis.script import Script
from gateway.store.base import KINDS as RECORD_KINDS
from gateway.store.base import MOST_AUDIT_ENTRIES
from gateway.store.base import Kind as RecordKind
from gateway.store.redis import RedisStore
from gateway.transfer.entries import AT_A_TIME, Entry, Kind
from gateway.transfer.redis_shelves import SHELVES, TAGGED, Shelf, expiries, milliseconds_left

PATIENCE_SECONDS = 30.0  # for a Redis that is away in the midst of it
_PAUSE_SECONDS = 0.1
_LOOK_AGAIN_SECONDS = 0.02
_MOST_REFUSALS = 20  # of one that answers, and takes no command of ours
_AT_ONCE = 200  # commands in one turn, below what fits a batch

# Newest first. The newest that was read must still be the newest.
_SET_AUDIT = Script(
    """
local newest = redis.call('LINDEX', KEYS[1], 0)
if (newest and '=' .. newest or '') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
for i = 2, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
return 1
"""
)
_Result = TypeVar("_Result")


class RedisDepot:
    """A `Depot` on a started store; each change is published."""

    def __init__(self, store: RedisStore, prefix: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._store = store
        self._prefix = prefix
        self._patience_seconds = patience_seconds
        self._tagged = store.link.tagged_prefix(prefix)
        self._shelves: Mapping[Kind, Shelf] = {
            kind: make(store, self._tagged if kind in TAGGED else prefix) for kind, make in SHELVES.items()
        }

    @property
    def name(self) -> str:
        return f"Redis at {self._store.link.address}, prefix `{self._prefix}`"

    async def connected(self, seconds: float) -> None:
        """Wait until Redis answers. Raises StoreUnavailable."""
        try:
            async with asyncio.timeout(seconds):
                # Its first failure is told in its state, which nobody can wait for.
                while not self._store.available and self._store.status().detail is None:  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        except TimeoutError:
            raise StoreUnavailable(f"{self.name} did not answer within {seconds:g} s.") from None
        if not self._store.available:
            raise StoreUnavailable(f"Redis cannot be asked: {self._store.status().detail}")

    async def batches(self) -> AsyncIterator[list[Entry]]:
        async for kind, ids in self._ids():
            for start in range(0, len(ids), AT_A_TIME):
                part = ids[start : start + AT_A_TIME]
                if found := await self._read(kind, part):
                    yield found

    async def _ids(self) -> AsyncIterator[tuple[Kind, list[str]]]:
        """Yield ids by kind; all keys are looked through once."""
        models = await self._patiently(lambda: self._store.ids("model"))
        if models:
            yield "model", models
        for kind, shelf in self._shelves.items():
            if listed := await self._patiently(shelf.ids):
                yield kind, listed
        beginnings: dict[str, Kind] = {kind: kind for kind in RECORD_KINDS if kind != "model"}
        beginnings |= {shelf.beginning: kind for kind, shelf in self._shelves.items() if shelf.beginning}
        async for names in self._scanned():
            named = sorted((_kind_and_id(name, beginnings) for name in names), key=lambda each: each[0])
            for kind_text, part in groupby(named, key=lambda each: each[0]):
                if kind_text:
                    yield cast(Kind, kind_text), [each for _, each in part]

    async def _scanned(self) -> AsyncIterator[list[str]]:
        """Scan all keys; from the beginning again where Redis went away.

        Entries may then come twice, which is harmless.
        """
        while True:
            try:
                async for names in self._store.scan(self._prefix):
                    yield names
                return
            except StoreUnavailable:
                await self._until_back()

    async def get(self, entries: Sequence[Entry]) -> list[Entry | None]:
        found: dict[tuple[str, str], Entry] = {}
        for kind, part in _by_kind(entries):
            there = await self._read(kind, [each.id for each in part])
            found |= {(each.kind, each.id): each for each in there}
        return [found.get((each.kind, each.id)) for each in entries]

    async def _read(self, kind: Kind, ids: list[str]) -> list[Entry]:
        shelf = self._shelves.get(kind)
        if shelf is not None:
            return await self._patiently(lambda: shelf.read(ids))
        return await self._patiently(lambda: self._records(cast(RecordKind, kind), ids))

    async def _records(self, kind: RecordKind, ids: list[str]) -> list[Entry]:
        documents = await self._store.get_many(kind, ids)
        ends = await expiries(self._store, [f"{self._prefix}{kind}:{each}" for each in ids])
        return [
            Entry(kind, each, document, end)
            for each, document, end in zip(ids, documents, ends, strict=True)
            if document is not None
        ]

    async def put(self, entries: Sequence[Entry]) -> None:
        await self._each(entries, self._write)

    async def delete(self, entries: Sequence[Entry]) -> None:
        await self._each(entries, self._remove)

    async def _each(self, entries: Sequence[Entry], change: Callable[[Entry], Awaitable[object]]) -> None:
        """Apply a change to each, many in one write."""
        for start in range(0, len(entries), _AT_ONCE):
            part = entries[start : start + _AT_ONCE]
            await self._patiently(lambda part=part: asyncio.gather(*map(change, part)))  # type: ignore[misc]

    async def _write(self, entry: Entry) -> None:
        shelf = self._shelves.get(entry.kind)
        if shelf is not None:
            await shelf.write(entry)
        elif entry.expires is None:
            await self._store.put(cast(RecordKind, entry.kind), entry.id, entry.value)
        else:
            await self._write_for_a_time(entry)

    async def _write_for_a_time(self, entry: Entry) -> None:
        """Write a record and its time to live in one step."""
        call, notice = self._store.link.call, orjson.dumps({"kind": entry.kind, "id": entry.id})
        await call("SET", f"{self._prefix}{entry.kind}:{entry.id}", entry.value, "PX", milliseconds_left(entry))
        if entry.kind == "model":
            await call("SADD", f"{self._prefix}models", entry.id)
        await call("PUBLISH", f"{self._prefix}changed", notice)

    async def _remove(self, entry: Entry) -> None:
        shelf = self._shelves.get(entry.kind)
        if shelf is not None:
            await shelf.remove(entry)
        else:
            await self._store.delete(cast(RecordKind, entry.kind), entry.id)

    async def count(self) -> int:
        total = 0
        async for _, ids in self._ids():
            total += len(ids)
        return total

    def stored(self, entry: Entry) -> Entry:
        return entry

    async def audit(self) -> list[bytes]:
        return await self._patiently(lambda: self._store.audit(MOST_AUDIT_ENTRIES))

    async def set_audit(self, entries: Sequence[bytes], instead_of: Sequence[bytes]) -> bool:
        newest = b"=" + instead_of[0] if instead_of else b""
        key = f"{self._prefix}audit"
        done = await self._patiently(lambda: self._store.link.call_script(_SET_AUDIT, [key], newest, *entries))
        return bool(done)

    async def keys_but(self, known: Container[str]) -> int:
        """Count the keys whose hashes are not known."""
        found: set[str] = set()
        async for hashes in self._store.scan(f"{self._prefix}key:"):
            found.update(each for each in hashes if each not in known)
        return len(found)

    async def counts_limits(self) -> bool:
        """Whether totals of limits were counted here."""
        async for names in self._store.scan(f"{self._tagged}limit:"):
            if any(name.startswith("p:") for name in names):
                return True
        return False

    async def drop_limits(self) -> None:
        """Forget what was counted: the ledger is asked anew.

        Gateways that run take it as a Redis that lost its data, and enter their running requests again.
        """
        beginning = f"{self._tagged}limit:"
        async for names in self._store.scan(beginning):
            for start in range(0, len(names), _AT_ONCE):
                part = [beginning + name for name in names[start : start + _AT_ONCE]]
                await asyncio.gather(*(self._store.link.call("UNLINK", key) for key in part))

    async def close(self) -> None:
        await self._store.close()

    async def _patiently(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """Do it, again once Redis is back; it must bear repeating."""
        refusals = 0
        while True:
            try:
                return await work()
            except StoreUnavailable:
                await self._until_back()
                refusals += self._store.link.refused is not None
                if refusals > _MOST_REFUSALS:
                    raise StoreUnavailable(f"{self.name} refuses: {self._store.status().detail}.") from None

    async def _until_back(self) -> None:
        """Raise StoreUnavailable where it stays away."""
        await asyncio.sleep(_PAUSE_SECONDS)
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._store.link.wait_up()
        except TimeoutError:
            raise StoreUnavailable(
                f"{self.name} went away, for {self._patience_seconds:g} s; the same command goes on where it stopped."
            ) from None

    def __repr__(self) -> str:
        return f"<RedisDepot over {self._store!r}>"


def _kind_and_id(name: str, beginnings: Mapping[str, Kind]) -> tuple[str, str]:
    """Split a key; two empty texts for what is not carried."""
    first, colon, rest = name.partition(":")
    if colon and first in beginnings:
        return beginnings[first], rest
    return "", ""


def _by_kind(entries: Sequence[Entry]) -> Iterator[tuple[Kind, list[Entry]]]:
    for kind, part in groupby(sorted(entries, key=lambda each: each.kind), key=lambda each: each.kind):
        yield kind, list(part)
