"""The index in Redis, for all workers and machines.

    PREFIX object:ID            hash: o owner, c created, m model, a account, f final, r kind and the rest, b body
    PREFIX objects:KIND:OWNER   sorted set of ids by created: a list
    PREFIX content:HASH         where `encrypted_content` was made
    PREFIX home:OWNER           a user's home
    PREFIX unsettled            hash of work by object id
    PREFIX unsettled:holder     who asks for running work

Every script has one key, so that a Cluster can carry them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Sequence

import msgspec

from gateway.objects.backend import Slice
from gateway.objects.changes import CONTENT_SECONDS, Begin, Drop, Operation, Put, PutContent
from gateway.objects.record import ObjectRecord, Place, Unsettled, kept_seconds
from gateway.redis.link import Link
from gateway.redis.refusals import Reply
from gateway.redis.script import Script

SETTLING_SECONDS = 3.0  # that other workers are given to hand over, after Redis has come back

_AT_ONCE = 200  # commands in one turn, below what fits a batch
_SWEPT_ONE_IN = 8  # additions to a list; each then looks at its oldest entries
_SWEPT = 16
_FIELDS = ("o", "c", "m", "a", "f", "r")
FIELDS_WITH_BODY = (*_FIELDS, "b")

# The rules are those of `record.merged`. Returns when it was made, or false where it is another's.
_PUT = Script(
    """
local owner, created, at, model, account, final, rest, body, expires = unpack(ARGV)
local before = redis.call('HMGET', KEYS[1], 'o', 'c', 'a', 'f')
if before[1] and before[1] ~= owner then return false end
if before[1] and before[3] ~= account then redis.call('DEL', KEYS[1]) before = {} end
if before[4] == '1' and final == '0' then
  redis.call('EXPIREAT', KEYS[1], expires)
  return before[2]
end
if created == '0' then created = before[2] or at end
redis.call('HSET', KEYS[1], 'o', owner, 'c', created, 'a', account, 'f', final, 'r', rest)
if model ~= '' then redis.call('HSET', KEYS[1], 'm', string.sub(model, 2)) end
if body ~= '' then redis.call('HSET', KEYS[1], 'b', string.sub(body, 2)) end
redis.call('EXPIREAT', KEYS[1], expires)
return created
"""
)

_DROP = Script("if redis.call('HGET', KEYS[1], 'o') == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0")

_SET_HOME = Script(
    """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[2] then return held end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
"""
)

_CLAIM = Script(
    """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
)


class _Rest(msgspec.Struct, frozen=True, array_like=True):
    kind: str
    in_lists: bool
    about: dict[str, str] = {}


_encode = msgspec.json.Encoder().encode
_rest = msgspec.json.Decoder(_Rest)
_place = msgspec.json.Decoder(Place)
_work = msgspec.json.Decoder(Unsettled)


class RedisObjects:
    """A `Backend` over a link that is started and stopped by others."""

    is_shared = True
    patience_seconds = 0.2

    def __init__(
        self,
        link: Link,
        *,
        prefix: str,
        object_days: Callable[[], int],
        epoch: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = link
        self._prefix = prefix
        self._object_days = object_days
        self._epoch = epoch
        self._monotonic = monotonic
        self._was_down = not link.is_up
        self._settled_at = 0.0
        self._on_back: list[Callable[[], None]] = []
        link.on_down(self._went_down)
        link.on_up(self._came_up)

    @property
    def is_settling(self) -> bool:
        return self._monotonic() < self._settled_at

    def _went_down(self) -> None:
        self._was_down = True

    def _came_up(self) -> None:
        if self._was_down:
            self._was_down = False
            self._settled_at = self._monotonic() + SETTLING_SECONDS
        for listener in self._on_back:
            listener()

    def on_back(self, listener: Callable[[], None]) -> None:
        self._on_back.append(listener)

    async def apply(self, operations: Sequence[Operation]) -> list[ObjectRecord]:
        if len(operations) == 1:
            taken = await self._apply(operations[0])
            return [] if taken is None else [taken]
        found: list[ObjectRecord | None] = []
        for start in range(0, len(operations), _AT_ONCE):
            found += await asyncio.gather(*map(self._apply, operations[start : start + _AT_ONCE]))
        return [taken for taken in found if taken is not None]

    async def _apply(self, operation: Operation) -> ObjectRecord | None:
        """Apply a change; return the object where it is another's."""
        if isinstance(operation, Put):
            return None if await self._put(operation) else operation.record
        if isinstance(operation, Drop):
            await self._drop(operation)
        elif isinstance(operation, PutContent):
            await self._put_content(operation)
        else:
            await self._begin(operation)
        return None

    async def _put(self, operation: Put) -> bool:
        record = operation.record
        expires = self._expires(record.kind)
        created = await self._link.call_script(
            _PUT,
            [self._object_key(record.id)],
            record.owner,
            record.created,
            operation.at,
            "" if record.model is None else f"={record.model}",
            record.account,
            "1" if record.final else "0",
            _encode(_Rest(record.kind, record.in_lists, record.about)),
            b"" if record.body is None else b"=" + record.body,
            expires,
        )
        if created is None:
            return False
        if record.in_lists:
            key = self._list_key(record.owner, record.kind)
            added = self._link.call("ZADD", key, created, record.id)
            await asyncio.gather(added, self._link.call("EXPIREAT", key, expires))
            if random.randrange(_SWEPT_ONE_IN) == 0:
                await self._sweep(key)
        return True

    async def _sweep(self, key: str) -> None:
        """Take those of a list's oldest entries out that have expired."""
        oldest = [_text(each) for each in await self._link.call("ZRANGE", key, 0, _SWEPT - 1)]
        there = await asyncio.gather(*(self._link.call("EXISTS", self._object_key(each)) for each in oldest))
        gone = [each for each, exists in zip(oldest, there, strict=True) if not exists]
        if gone:
            await self._link.call("ZREM", key, *gone)

    async def _drop(self, operation: Drop) -> None:
        dropped = self._link.call_script(_DROP, [self._object_key(operation.id)], operation.owner)
        listed = self._link.call("ZREM", self._list_key(operation.owner, operation.kind), operation.id)
        await asyncio.gather(dropped, listed)

    async def _put_content(self, operation: PutContent) -> None:
        left = operation.at + CONTENT_SECONDS - int(self._epoch())
        if left > 0:
            place = _encode(operation.place)
            keys = [self._key("content", each) for each in operation.hashes]
            await asyncio.gather(*(self._link.call("SET", key, place, "EX", left) for key in keys))

    async def _begin(self, operation: Begin) -> None:
        await self._link.call("HSETNX", self._key("unsettled"), operation.work.id, _encode(operation.work))

    async def get(self, ids: Collection[str]) -> dict[str, ObjectRecord]:
        return await self._records(list(ids), _FIELDS)

    async def _records(self, ids: list[str], fields: Sequence[str]) -> dict[str, ObjectRecord]:
        found: dict[str, ObjectRecord] = {}
        for start in range(0, len(ids), _AT_ONCE):
            part = ids[start : start + _AT_ONCE]
            asked = [self._link.call("HMGET", self._object_key(each), *fields) for each in part]
            replies = [await asked[0]] if len(asked) == 1 else await asyncio.gather(*asked)
            for each, reply in zip(part, replies, strict=True):
                if reply[0] is not None:
                    found[each] = object_of(each, reply)
        return found

    async def touch(self, records: Sequence[ObjectRecord]) -> None:
        for record in records:
            expires = self._expires(record.kind)
            await self._link.call("EXPIREAT", self._object_key(record.id), expires)
            if record.in_lists:
                await self._link.call("EXPIREAT", self._list_key(record.owner, record.kind), expires)

    async def slice(self, owner: str, kind: str, start: str | None, *, descending: bool, count: int) -> Slice | None:
        key = self._list_key(owner, kind)
        first = 0
        if start is not None:
            rank = await self._link.call("ZREVRANK" if descending else "ZRANK", key, start)
            if rank is None:
                return None
            first = rank + 1
        reply = await self._link.call("ZREVRANGE" if descending else "ZRANGE", key, first, first + count - 1)
        ids = [_text(each) for each in reply]
        found = await self._records(ids, FIELDS_WITH_BODY)
        if gone := [each for each in ids[:-1] if each not in found]:  # the last one is where the next slice begins
            self._link.send("ZREM", key, *gone)
        records = [found[each] for each in ids if each in found]
        mine = [record for record in records if record.owner == owner and record.kind == kind]
        return Slice(mine, ids[-1] if len(ids) == count else None)

    async def places(self, hashes: Collection[str]) -> dict[str, Place]:
        asked = list(hashes)
        found: dict[str, Place] = {}
        for start in range(0, len(asked), _AT_ONCE):
            part = asked[start : start + _AT_ONCE]
            replies = await asyncio.gather(*(self._link.call("GET", self._key("content", each)) for each in part))
            found |= {
                each: _place.decode(reply) for each, reply in zip(part, replies, strict=True) if reply is not None
            }
        return found

    async def home(self, owner: str) -> str | None:
        held = await self._link.call("GET", self._key("home", owner))
        return None if held is None else _text(held)

    async def set_home(self, owner: str, account: str, instead_of: str | None) -> str:
        keys = [self._key("home", owner)]
        return _text(await self._link.call_script(_SET_HOME, keys, account, instead_of or ""))

    async def unsettled(self) -> list[Unsettled]:
        replies: list[bytes] = await self._link.call("HVALS", self._key("unsettled"))
        return sorted(map(_work.decode, replies), key=lambda work: (work.since, work.id))

    async def find_unsettled(self, object_id: str) -> Unsettled | None:
        reply = await self._link.call("HGET", self._key("unsettled"), object_id)
        return None if reply is None else _work.decode(reply)

    async def take_unsettled(self, object_id: str) -> bool:
        return bool(await self._link.call("HDEL", self._key("unsettled"), object_id))

    async def claim(self, holder: str, seconds: float) -> bool:
        keys = [self._key("unsettled", "holder")]
        return bool(await self._link.call_script(_CLAIM, keys, holder, int(seconds * 1000)))

    async def close(self) -> None:
        """The link is its owner's."""

    def _expires(self, kind: str) -> int:
        return int(self._epoch()) + kept_seconds(kind, self._object_days())

    def _object_key(self, object_id: str) -> str:
        return self._key("object", object_id)

    def _list_key(self, owner: str, kind: str) -> str:
        return self._key("objects", kind, owner)

    def _key(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)

    def __repr__(self) -> str:
        return f"<RedisObjects at {self._link.address}>"


def object_of(object_id: str, reply: Reply) -> ObjectRecord:
    """Read an object's hash."""
    owner, created, model, account, final, rest, *body = reply
    others = _rest.decode(rest)
    return ObjectRecord(
        id=object_id,
        owner=_text(owner),
        kind=others.kind,
        created=int(created),
        in_lists=others.in_lists,
        account=_text(account),
        model=None if model is None else _text(model),
        final=final == b"1",
        about=others.about,
        body=(body[0] if body else None) or None,
    )


def object_fields(record: ObjectRecord) -> list[str | bytes | int]:
    """Return an object's hash, as it is written."""
    rest = _encode(_Rest(record.kind, record.in_lists, record.about))
    fields: list[str | bytes | int] = ["o", record.owner, "c", record.created, "a", record.account, "r", rest]
    fields += ["f", "1" if record.final else "0"]
    fields += [] if record.model is None else ["m", record.model]
    return fields if record.body is None else [*fields, "b", record.body]


def _text(reply: bytes) -> str:
    return reply.decode("utf-8", "replace")
