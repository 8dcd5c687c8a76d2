"""Keys of Redis as entries, but for records."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from gateway.objects.record import ObjectRecord
from gateway.objects.redis import FIELDS_WITH_BODY, object_fields, object_of
from gateway.redis.refusals import Reply
from gateway.redis.script import Script
from gateway.store.redis import RedisStore
from gateway.transfer.entries import Entry, Kind
from gateway.transfer.tables import delivery_value, episode_value

_AT_ONCE = 200  # commands in one turn, below what fits a batch
_encode = msgspec.json.Encoder().encode

_PUT_OBJECT = Script(
    """
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""
)

# A list lives as long as the last of its objects.
_ADD_TO_LIST = Script(
    """
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[3])
local left = redis.call('PTTL', KEYS[1])
if redis.call('ZCARD', KEYS[1]) == 1 or (left >= 0 and left < tonumber(ARGV[1])) then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
"""
)


class Shelf(Protocol):
    """The entries of a kind.

    What awaits raises StoreUnavailable, and may be repeated.
    """

    @property
    def beginning(self) -> str:
        """Return the beginning of its keys, before a colon and the id.

        Empty where `ids` lists them.
        """

    async def ids(self) -> list[str]: ...

    async def read(self, ids: Sequence[str]) -> list[Entry]: ...

    async def write(self, entry: Entry) -> None: ...

    async def remove(self, entry: Entry) -> None: ...


async def replies_to(store: RedisStore, commands: Sequence[Sequence[str | bytes | int]]) -> list[Reply]:
    """Send commands, many in one write."""
    found: list[Reply] = []
    for start in range(0, len(commands), _AT_ONCE):
        found += await asyncio.gather(*(store.link.call(*command) for command in commands[start : start + _AT_ONCE]))
    return found


async def expiries(store: RedisStore, keys: Sequence[str]) -> list[float | None]:
    """Return when each key expires, by our own clock."""
    left = await replies_to(store, [("PTTL", key) for key in keys])
    now = time.time()
    return [now + each / 1000 if each >= 0 else None for each in left]


def milliseconds_left(entry: Entry) -> int:
    """Return how long it is to be kept: at least a moment."""
    if entry.expires is None:
        raise ValueError(f"a {entry.kind} needs an end")
    return max(1, round((entry.expires - time.time()) * 1000))


class _Keyed:
    """Keys PREFIX BEGINNING:ID."""

    beginning = ""

    def __init__(self, store: RedisStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    async def ids(self) -> list[str]:
        return []

    def _key(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)

    async def _call(self, *command: str | bytes | int) -> Reply:
        return await self._store.link.call(*command)

    async def _ends(self, ids: Sequence[str]) -> list[float | None]:
        return await expiries(self._store, [self._key(self.beginning, each) for each in ids])

    async def remove(self, entry: Entry) -> None:
        await self._call("DEL", self._key(self.beginning, entry.id))


class Objects(_Keyed):
    beginning = "object"

    async def read(self, ids: Sequence[str]) -> list[Entry]:
        replies = await replies_to(
            self._store, [("HMGET", self._key("object", each), *FIELDS_WITH_BODY) for each in ids]
        )
        ends = await self._ends(ids)
        return [
            Entry("object", each, _encode(object_of(each, reply)), end)
            for each, reply, end in zip(ids, replies, ends, strict=True)
            if reply[0] is not None
        ]

    async def write(self, entry: Entry) -> None:
        record, left = msgspec.json.decode(entry.value, type=ObjectRecord), milliseconds_left(entry)
        key = self._key("object", record.id)
        await self._store.link.call_script(_PUT_OBJECT, [key], left, *object_fields(record))
        if record.in_lists:
            listed = [self._list_of(record)]
            await self._store.link.call_script(_ADD_TO_LIST, listed, left, record.created, record.id)

    async def remove(self, entry: Entry) -> None:
        record = msgspec.json.decode(entry.value, type=ObjectRecord)
        await self._call("ZREM", self._list_of(record), record.id)
        await super().remove(entry)

    def _list_of(self, record: ObjectRecord) -> str:
        return self._key("objects", record.kind, record.owner)


class Contents(_Keyed):
    beginning = "content"

    async def read(self, ids: Sequence[str]) -> list[Entry]:
        replies = await replies_to(self._store, [("GET", self._key("content", each)) for each in ids])
        ends = await self._ends(ids)
        return [
            Entry("content", each, reply, end)
            for each, reply, end in zip(ids, replies, ends, strict=True)
            if reply is not None
        ]

    async def write(self, entry: Entry) -> None:
        await self._call("SET", self._key("content", entry.id), entry.value, "PX", milliseconds_left(entry))


class Homes(_Keyed):
    beginning = "home"

    async def read(self, ids: Sequence[str]) -> list[Entry]:
        replies = await replies_to(self._store, [("GET", self._key("home", each)) for each in ids])
        found = zip(ids, replies, strict=True)
        return [Entry("home", each, _encode(_text(reply))) for each, reply in found if reply is not None]

    async def write(self, entry: Entry) -> None:
        await self._call("SET", self._key("home", entry.id), msgspec.json.decode(entry.value, type=str))


class _Hashed(_Keyed):
    """Fields of one hash."""

    kind: Kind = "work"
    name = "unsettled"

    async def ids(self) -> list[str]:
        return [_text(each) for each in await self._call("HKEYS", self._key(self.name))]

    async def read(self, ids: Sequence[str]) -> list[Entry]:
        replies = await self._call("HMGET", self._key(self.name), *ids) if ids else []
        found = zip(ids, replies, strict=True)
        return [Entry(self.kind, each, self._value(reply)) for each, reply in found if reply is not None]

    async def write(self, entry: Entry) -> None:
        await self._call("HSET", self._key(self.name), entry.id, self._field(entry.value))

    async def remove(self, entry: Entry) -> None:
        await self._call("HDEL", self._key(self.name), entry.id)

    def _value(self, field: bytes) -> bytes:
        return field

    def _field(self, value: bytes) -> bytes:
        return value


class Work(_Hashed):
    kind, name = "work", "unsettled"


class Receivers(_Hashed):
    kind, name = "receiver", "alert:stopped"

    def _value(self, field: bytes) -> bytes:
        return _encode(_text(field))

    def _field(self, value: bytes) -> bytes:
        return msgspec.json.decode(value, type=str).encode()


class Alerts(_Keyed):
    beginning = "alert:event"

    async def ids(self) -> list[str]:
        beginning = self._key("alert", "event", "")
        return [each async for part in self._store.scan(beginning) for each in part]

    async def read(self, ids: Sequence[str]) -> list[Entry]:
        replies = await replies_to(self._store, [("GET", self._key("alert", "event", each)) for each in ids])
        ends = await self._ends(ids)
        found = zip(ids, replies, ends, strict=True)
        return [Entry("alert", each, reply, end) for each, reply, end in found if reply is not None]

    async def write(self, entry: Entry) -> None:
        await self._call("SET", self._key("alert", "event", entry.id), entry.value, "PX", milliseconds_left(entry))


class Deliveries(_Keyed):
    """Ids are a receiver and a name, with a space between."""

    async def ids(self) -> list[str]:
        found: list[str] = []
        async for receivers in self._store.scan(self._key("alert", "due", "")):
            for receiver in receivers:
                names = await self._call("ZRANGE", self._key("alert", "due", receiver), 0, -1)
                found += [f"{receiver} {_text(name)}" for name in names]
        return found

    async def read(self, ids: Sequence[str]) -> list[Entry]:
        asked: list[tuple[str, str, str]] = []
        for each in ids:
            receiver, _, name = each.partition(" ")
            asked.append(("ZSCORE", self._key("alert", "due", receiver), name))
            asked.append(("HGET", self._key("alert", "tries", receiver), name))
        replies = await replies_to(self._store, asked)
        return [
            Entry("delivery", each, delivery_value(float(at), int(tries or 0)))
            for each, at, tries in zip(ids, replies[::2], replies[1::2], strict=True)
            if at is not None
        ]

    async def write(self, entry: Entry) -> None:
        receiver, _, name = entry.id.partition(" ")
        at, tries = msgspec.json.decode(entry.value, type=tuple[float, int])
        await self._call("HSET", self._key("alert", "tries", receiver), name, tries)
        await self._call("ZADD", self._key("alert", "due", receiver), f"{at:.6f}", name)

    async def remove(self, entry: Entry) -> None:
        receiver, _, name = entry.id.partition(" ")
        await self._call("ZREM", self._key("alert", "due", receiver), name)
        for beside in ("tries", "leases"):
            await self._call("HDEL", self._key("alert", beside, receiver), name)


class Episodes(_Keyed):
    """Those that run."""

    async def ids(self) -> list[str]:
        return [_text(each) for each in await self._call("SMEMBERS", self._key("alert", "episodes"))]

    async def read(self, ids: Sequence[str]) -> list[Entry]:
        asked = [("HMGET", self._key("alert", "episode", each), "began", "until", "worker", "runs") for each in ids]
        replies = await replies_to(self._store, asked)
        return [
            Entry("episode", each, episode_value(float(began), float(until), _text(worker)))
            for each, (began, until, worker, runs) in zip(ids, replies, strict=True)
            if runs == b"1"
        ]

    async def write(self, entry: Entry) -> None:
        began, until, worker = msgspec.json.decode(entry.value, type=tuple[float, float, str])
        fields = ("runs", 1, "began", f"{began:.6f}", "until", f"{until:.6f}", "worker", worker)
        await self._call("HSET", self._key("alert", "episode", entry.id), *fields)
        await self._call("SADD", self._key("alert", "episodes"), entry.id)

    async def remove(self, entry: Entry) -> None:
        await self._call("SREM", self._key("alert", "episodes"), entry.id)
        await self._call("DEL", self._key("alert", "episode", entry.id))


SHELVES: Mapping[Kind, Callable[[RedisStore, str], Shelf]] = {
    "object": Objects,
    "content": Contents,
    "home": Homes,
    "work": Work,
    "alert": Alerts,
    "delivery": Deliveries,
    "episode": Episodes,
    "receiver": Receivers,
}

TAGGED: frozenset[Kind] = frozenset(("alert", "delivery", "episode", "receiver"))  # what one script changes together


def _text(reply: bytes) -> str:
    return reply.decode("utf-8", "replace")
