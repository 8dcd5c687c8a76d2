"""A queue of alerts in Redis, for all workers and machines together.

Each step is one run of `queue.lua`, so that a worker killed at any instant leaves none half done. The time is that of
Redis.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import msgspec

from gateway.alerts.event import Event
from gateway.alerts.queue import EPISODE_SECONDS, LEASE_SECONDS, MOST_WAITING, Due, Episode
from gateway.redis.link import RedisLink
from gateway.redis.script import Script

_HURRY_SECONDS = 5  # in which the workers of one start ask for it

_encode = msgspec.msgpack.Encoder().encode
_document = msgspec.json.Decoder(tuple[str, str, float]).decode  # cmsgpack knows no bytes, only text


class RedisQueue:
    """An `AlertQueue` whose keys begin with `prefix` and `alert:`."""

    def __init__(self, link: RedisLink, *, prefix: str = "gw:") -> None:
        self._link = link
        self._prefix = prefix
        self._keys = (f"{prefix}alert:stopped",)  # a Cluster learns from one where all are
        self._script = Script(files("gateway.alerts").joinpath("queue.lua").read_text(encoding="utf-8"))

    async def add(self, event: Event, receivers: Sequence[str], now: float) -> bool:
        return bool(await self._run("add", *_added(event, receivers, now)))

    async def begin(self, episode: Episode, event: Event, receivers: Sequence[str]) -> bool:
        return bool(await self._run("begin", *episode, EPISODE_SECONDS, *_added(event, receivers, episode.began)))

    async def end(self, name: str, began: float, event: Event, receivers: Sequence[str], now: float) -> bool:
        return bool(await self._run("end", name, began, EPISODE_SECONDS, *_added(event, receivers, now)))

    async def episodes(self) -> list[Episode]:
        rows = await self._run("episodes")
        return [Episode(_text(name), float(began), float(until), _text(by)) for name, began, until, by in rows]

    async def claim(self, receiver: str, now: float, most: int) -> list[Due]:
        rows = await self._run("claim", receiver, most, LEASE_SECONDS)
        return [_due(name, document, tries) for name, document, tries in rows]

    async def done(self, receiver: str, name: str) -> None:
        await self._run("done", receiver, name)

    async def retry(self, receiver: str, name: str, now: float, seconds: float) -> None:
        await self._run("retry", receiver, name, seconds)

    async def hurry(self, receivers: Sequence[str], now: float) -> None:
        await self._run("hurry", receivers, _HURRY_SECONDS)

    async def waiting(self, receivers: Sequence[str]) -> int:
        return int(await self._run("waiting", receivers))

    async def stop(self, receiver: str, fingerprint: str) -> None:
        await self._run("stop", receiver, fingerprint)

    async def stopped(self, receivers: Sequence[str]) -> dict[str, str]:
        found = await self._run("stopped", receivers)
        return {receiver: _text(each) for receiver, each in zip(receivers, found, strict=True) if each}

    async def resume(self, receiver: str) -> None:
        await self._run("resume", receiver)

    async def close(self) -> None:
        """The link is its owner's."""

    async def _run(self, operation: str, *arguments: Any) -> Any:
        packed = _encode((self._prefix, operation, 0, *arguments))
        return await self._link.call_script(self._script, self._keys, packed)

    def __repr__(self) -> str:
        return f"<RedisQueue over {self._link!r}>"


def _added(event: Event, receivers: Sequence[str], now: float) -> tuple[object, ...]:
    seconds = max(1, math.ceil(event.kept_until - time.time()))
    document = msgspec.json.encode((event.id, event.body.decode(), now)).decode()
    return event.name, document, seconds, receivers, MOST_WAITING


def _due(name: bytes, document: bytes, tries: int) -> Due:
    event_id, body, made = _document(document)
    return Due(_text(name), event_id, body.encode(), made, tries)


def _text(found: bytes) -> str:
    return found.decode("utf-8", "surrogatepass")
