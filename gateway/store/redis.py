"""Run-time records in Redis, shared with workers and panels (contract §9)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import orjson
from structlog.typing import FilteringBoundLogger

from gateway.errors import StoreUnavailable
from gateway.pool import LONGEST_WAIT_SECONDS, Cause
from gateway.redis.link import Link
from gateway.redis.script import Script
from gateway.store.base import (
    COOLDOWN_RECORDS_KEPT_SECONDS,
    KINDS,
    MOST_AUDIT_ENTRIES,
    MOST_COOLDOWN_RECORDS,
    Change,
    ChangeListener,
    CooldownListener,
    Kind,
    SharedCooldown,
    StoreStatus,
    natural_order,
)
from gateway.store.redis_writer import RecordWriter, Written

COOLDOWN_LIST = "admin:ai:cooldowns"  # no prefix: the panel's own page reads it

_MOST_CONFLICTS = 100

# In a script, so that a user who may not ask gets nothing instead of an error.
_RUN_ID = Script(
    """
local told = redis.pcall('INFO', 'server')
return type(told) == 'string' and string.match(told, 'run_id:(%w+)')
"""
)


class RedisStore:
    """A `RecordStore` on Redis 6.2 or later. `epoch`: seconds since 1970.

    While Redis is away, awaiting methods raise at once; it is looked for in the background, and after a pause of at
    most a second everything goes on by itself.
    """

    def __init__(
        self,
        link: Link,
        log: FilteringBoundLogger,
        *,
        prefix: str = "gw:",
        cooldown_list: str = COOLDOWN_LIST,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        self.link = link
        self._log = log
        self._prefix = prefix
        self._cooldown_list = cooldown_list
        self._epoch = epoch
        self._writer = RecordWriter(link, prefix)
        self._ourselves = os.urandom(8).hex()
        self.identity = self._from_address = f"{link.address} {prefix}"
        self._identity_listeners: list[Callable[[str], None]] = []
        self._change_listeners: list[ChangeListener] = []
        self._cooldown_listeners: list[CooldownListener] = []
        self._learning: asyncio.Task[None] | None = None
        link.probe(prefix)
        link.on_up(self._learn_later)
        self._channels: dict[str, Callable[[bytes], None]] = {}
        self._channels |= {self._key("changed"): self._take_change, self._key("cooldown"): self._take_cooldown}
        self._changes = link.subscription(self._channels, self._listen_anew)

    @property
    def available(self) -> bool:
        return self.link.is_up

    @property
    def receives_changes(self) -> bool:
        return self._changes.is_up

    def on_identity(self, listener: Callable[[str], None]) -> None:
        self._identity_listeners.append(listener)

    async def start(self) -> None:
        await asyncio.gather(self.link.start(), self._changes.start())

    async def close(self) -> None:
        await self._changes.stop()
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.wait([self._learning])
        await self.link.stop()

    def status(self) -> StoreStatus:
        fault = self.link.fault or self._changes.fault or self.link.refused
        detail = f"{self.link.address}: {fault}" if fault is not None else None
        is_whole = self.link.fault is None and self.link.refused is None
        return StoreStatus("redis", is_whole, self._changes.is_up, detail)

    def surely_lacks(self, kind: Kind, record_id: str) -> bool:
        """Anyone may have written it a moment ago."""
        return False

    async def get(self, kind: Kind, record_id: str) -> bytes | None:
        return (await self.get_many(kind, [record_id]))[0]

    async def get_many(self, kind: Kind, record_ids: Sequence[str]) -> list[bytes | None]:
        return await self.link.texts([self._key(kind, each) for each in record_ids]) if record_ids else []

    async def ids(self, kind: Kind) -> list[str]:
        if kind == "model":
            members: list[bytes] = await self.link.call("SMEMBERS", self._key("models"))
            return sorted(map(_text, members), key=natural_order)
        return sorted({each async for part in self.scan(self._key(kind, "")) for each in part}, key=natural_order)

    async def scan(self, beginning: str) -> AsyncIterator[list[str]]:
        """Yield keys without their beginning; one may come twice."""
        async for keys in self.link.scan(beginning):
            yield [_text(key).removeprefix(beginning) for key in keys]

    async def put(self, kind: Kind, record_id: str, document: bytes) -> bytes | None:
        _, before = await self._write(kind, record_id, b"", b"=" + document, is_conditional=False)
        return before

    async def delete(self, kind: Kind, record_id: str) -> bytes | None:
        _, before = await self._write(kind, record_id, b"", b"", is_conditional=False)
        return before

    async def update(self, kind: Kind, record_id: str, change: Change) -> bytes | None:
        for _ in range(_MOST_CONFLICTS):
            before = await self.get(kind, record_id)
            after = change(before)
            if after == before:
                return after
            is_done, _ = await self._write(kind, record_id, _marked(before), _marked(after), is_conditional=True)
            if is_done:
                return after
        raise StoreUnavailable("This record is being changed by too many others at once; ask again.")

    async def _write(
        self, kind: Kind, record_id: str, expected: bytes, document: bytes, *, is_conditional: bool
    ) -> tuple[bool, bytes | None]:
        written = Written(kind, record_id, expected, document, is_conditional)
        wrote, before = await self._writer.write(written)
        if wrote:
            self._notify(
                kind, record_id
            )  # before our own notice comes back to us: whoever wrote shall read what they wrote
        return wrote, before

    async def append_audit(self, entry: bytes) -> None:
        pushed = self.link.call("LPUSH", self._key("audit"), entry)
        await asyncio.gather(pushed, self.link.call("LTRIM", self._key("audit"), 0, MOST_AUDIT_ENTRIES - 1))

    async def audit(self, most: int) -> list[bytes]:
        return await self._newest(self._key("audit"), most)

    async def cooldowns(self, most: int) -> list[bytes]:
        return await self._newest(self._cooldown_list, most)

    async def _newest(self, key: str, most: int) -> list[bytes]:
        entries: list[bytes] = await self.link.call("LRANGE", key, 0, most - 1) if most > 0 else []
        return entries

    def push_cooldown(self, record: bytes) -> None:
        self.link.send("LPUSH", self._cooldown_list, record)
        self.link.send("LTRIM", self._cooldown_list, 0, MOST_COOLDOWN_RECORDS - 1)
        self.link.send("EXPIRE", self._cooldown_list, COOLDOWN_RECORDS_KEPT_SECONDS)

    def share_cooldown(self, cooldown: SharedCooldown) -> None:
        """Publish a cooldown, and keep it in a sorted set.

        By its end, for workers that start later.
        """
        held = self._key("cooldowns")
        if cooldown.cause is None:
            self.link.send("ZREM", held, *(_member(cooldown, cause) for cause in Cause))
        else:
            self.link.send("ZADD", held, "GT", cooldown.until_epoch_ms, _member(cooldown, cooldown.cause))
            self.link.send("ZREMRANGEBYSCORE", held, "-inf", self._epoch_ms())
            self.link.send("EXPIRE", held, int(LONGEST_WAIT_SECONDS) + 60)
        cause = cooldown.cause.value if cooldown.cause is not None else None
        fields = {**cooldown._asdict(), "cause": cause, "from": self._ourselves}
        self.link.send("PUBLISH", self._key("cooldown"), orjson.dumps(fields))

    def on_cooldown(self, listener: CooldownListener) -> None:
        self._cooldown_listeners.append(listener)

    def on_change(self, listener: ChangeListener) -> None:
        self._change_listeners.append(listener)

    def listen_to(self, channel: str, listener: Callable[[bytes], None]) -> None:
        """Subscribe to one channel more, from the next start on."""
        self._channels[channel] = listener
        self._changes = self.link.subscription(self._channels, self._listen_anew)

    def _listen_anew(self) -> None:
        self._notify(None, None)
        self._learn_later()

    def _learn_later(self) -> None:
        """Load what may have been missed once both connections are up.

        Only with both is nothing missed, and either may be the later one.
        """
        if self.link.is_up and self._changes.is_up:
            self._learning = asyncio.create_task(self._learn())

    async def _learn(self) -> None:
        await self._learn_cooldowns()
        await self._learn_identity()

    async def _learn_cooldowns(self) -> None:
        try:
            found = await self.link.call(
                "ZRANGEBYSCORE", self._key("cooldowns"), self._epoch_ms(), "+inf", "WITHSCORES"
            )
        except StoreUnavailable:
            return  # each worker finds out by itself which endpoints are cooling
        if found and isinstance(found[0], bytes):  # RESP2 has no pairs
            found = zip(found[::2], found[1::2], strict=True)
        for member, until in found:
            model_id, endpoint_id, cause = orjson.loads(member)
            self._notify_cooldown(SharedCooldown(model_id, endpoint_id, Cause(cause), int(float(until))))

    async def _learn_identity(self) -> None:
        """Learn the server's run id.

        Two servers may have one address, each in a network of its own.
        """
        with contextlib.suppress(StoreUnavailable):
            run_id = await self.link.tagged.call_script(_RUN_ID, ())
            self.identity = f"{_text(run_id)} {self._prefix}" if run_id else self._from_address
            for listener in self._identity_listeners:
                listener(self.identity)

    def _take_change(self, message: bytes) -> None:
        """Pass a published change on to listeners.

        Everyone may publish here. An empty notice is passed over; one without an id stands for all.
        """
        try:
            notice = orjson.loads(message)
        except orjson.JSONDecodeError:
            notice = None
        kind = notice.get("kind") if isinstance(notice, dict) else None
        if kind not in KINDS:
            self._log.warning("notice of a change passed over", because="not of the form {kind, id}")
            return
        self._notify(kind, _id_in(kind, notice))

    def _take_cooldown(self, message: bytes) -> None:
        try:
            fields: dict[str, Any] = orjson.loads(message)
            cause = Cause(fields["cause"]) if fields["cause"] is not None else None
            cooldown = SharedCooldown(
                str(fields["model_id"]), str(fields["endpoint_id"]), cause, int(fields["until_epoch_ms"])
            )
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            self._log.warning("cooldown of another worker passed over", because="not of the expected form")
            return
        if fields.get("from") != self._ourselves:
            self._notify_cooldown(cooldown)

    def _notify(self, kind: Kind | None, record_id: str | None) -> None:
        for listener in self._change_listeners:
            listener(kind, record_id)

    def _notify_cooldown(self, cooldown: SharedCooldown) -> None:
        for listener in self._cooldown_listeners:
            listener(cooldown)

    def _epoch_ms(self) -> int:
        return int(self._epoch() * 1000)

    def _key(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)

    def __repr__(self) -> str:
        return f"<RedisStore at {self.link.address}, {'available' if self.available else 'away'}>"


def _marked(document: bytes | None) -> bytes:
    return b"" if document is None else b"=" + document


def _member(cooldown: SharedCooldown, cause: Cause) -> bytes:
    return orjson.dumps([cooldown.model_id, cooldown.endpoint_id, cause.value])


def _id_in(kind: Kind, notice: dict[str, Any]) -> str | None:
    given = notice.get("id")
    if isinstance(given, bool) or not isinstance(given, str | int):
        return None
    return str(given).removeprefix("sha256:").lower() if kind == "key" else str(given)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")
