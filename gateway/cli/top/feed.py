"""Ask a running gateway for what `top` shows, over its admin routes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import aiohttp
import msgspec

from gateway.cli.top.picture import EndpointSeen, LimitSeen, Picture, UsageSeen
from gateway.types import Id

POOL_SECONDS, USAGE_SECONDS = 1.0, 10.0
AGAIN_SECONDS = 2.0
PATIENCE_SECONDS = 10.0
SILENCE_SECONDS = 30.0  # the stream has a heartbeat each 10 s
BUSIEST = 5
MOST_EVENT_BYTES = 1 << 20
_NEEDS = {
    "requests": "requests: the key needs the scope usage:read",
    "pool": "pool: the key needs the scope ai:manage",
    "usage": "usage: the key needs the scope usage:read",
    "limits": "limits: the key needs the scope ai:manage",
}

_Answer = TypeVar("_Answer")


class Refused(Exception):
    """The gateway cannot be asked; its text says why, without the key."""


class _Usage(msgspec.Struct):
    rows: list[UsageSeen]


class _Limit(msgspec.Struct):
    limit: str
    most: float
    used: float | None
    window: str
    resetsAt: str | None


class _Explained(msgspec.Struct):
    limits: list[_Limit]


class _Ready(msgspec.Struct):
    status: str


class _Me(msgspec.Struct):
    currency: str | None = None


class Feed:
    """One gateway's admin routes; fills in a picture."""

    def __init__(self, picture: Picture, key: str) -> None:
        self._picture = picture
        self._key = key
        self._begun = asyncio.Event()

    async def follow(self, changed: Callable[[], None]) -> None:
        """Keep the picture up to date until cancelled; `changed` after each change."""
        async with self._session() as session, asyncio.TaskGroup() as group:
            for what in (self._follow_requests, self._follow_pool, self._follow_usage):
                group.create_task(self._again_and_again(what, session, changed))

    async def once(self, seconds: float) -> None:
        """Fill the picture once; requests are gathered for so long. Raises Refused."""
        async with self._session() as session:
            await self._pool(session)
            await self._gather(session, seconds)
            await self._usage(session)

    def _session(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE_SECONDS, sock_read=SILENCE_SECONDS)
        return aiohttp.ClientSession(
            headers={"authorization": f"Bearer {self._key}"}, timeout=timeout, read_bufsize=MOST_EVENT_BYTES
        )

    async def _again_and_again(
        self,
        what: Callable[[aiohttp.ClientSession, Callable[[], None]], Awaitable[None]],
        session: aiohttp.ClientSession,
        changed: Callable[[], None],
    ) -> None:
        while True:
            try:
                await what(session, changed)
            except Refused as error:
                self._picture.status = str(error)
                changed()
            await asyncio.sleep(AGAIN_SECONDS)

    # -- requests

    async def _follow_requests(self, session: aiohttp.ClientSession, changed: Callable[[], None]) -> None:
        picture = self._picture
        try:
            async with session.get(f"{picture.url}/api/admin/ai/requests") as answer:
                if not self._may(answer.status, "requests"):
                    return
                async for line in answer.content:
                    if line.startswith(b"data:"):
                        picture.take(msgspec.json.decode(line[5:], type=dict[str, Any]))
                        self._begun.set()
                        changed()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, msgspec.MsgspecError) as error:
            raise Refused(_words(error)) from None

    async def _gather(self, session: aiohttp.ClientSession, seconds: float) -> None:
        following = asyncio.create_task(self._follow_requests(session, lambda: None))
        begun = asyncio.create_task(self._begun.wait())
        try:
            await asyncio.wait([following, begun], return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                await asyncio.wait([following], timeout=seconds)
            if following.done():
                following.result()
        finally:
            following.cancel()
            begun.cancel()
            await asyncio.gather(following, begun, return_exceptions=True)

    # -- what is asked for from time to time

    async def _follow_pool(self, session: aiohttp.ClientSession, changed: Callable[[], None]) -> None:
        while True:
            await self._pool(session)
            changed()
            await asyncio.sleep(POOL_SECONDS)

    async def _pool(self, session: aiohttp.ClientSession) -> None:
        picture = self._picture
        ready = await self._get(session, "/readyz", "", _Ready, statuses=(200, 503))
        if ready is not None:
            picture.status = ready.status
        found = await self._get(session, "/api/admin/ai/endpoints", "pool", list[EndpointSeen])
        if found is not None:
            picture.endpoints, picture.cooling_since = found, picture.clock()

    async def _follow_usage(self, session: aiohttp.ClientSession, changed: Callable[[], None]) -> None:
        while True:
            await self._usage(session)
            changed()
            await asyncio.sleep(USAGE_SECONDS)

    async def _usage(self, session: aiohttp.ClientSession) -> None:
        picture, today = self._picture, datetime.now(UTC).date().isoformat()
        me = await self._get(session, "/api/ai/me", "", _Me)
        if me is not None:
            picture.currency = me.currency
        asked = {"from": today, "to": today, "group": "user", "order": "tokens", "limit": str(BUSIEST)}
        found = await self._get(session, "/api/soc/usage", "usage", _Usage, asked)
        if found is None:
            return
        picture.busiest = found.rows
        limits = [limit for row in found.rows for limit in await self._limits(session, row.user)]
        picture.limits = sorted(limits, key=lambda each: -each.share)

    async def _limits(self, session: aiohttp.ClientSession, user: Id) -> list[LimitSeen]:
        """Ask for a user's limits.

        Those of the model it was seen with last, else of its assigned one.
        """
        model = self._picture.model_of(user)
        asked = {"user": str(user)} | ({} if model is None else {"model": model})
        found = await self._get(session, "/api/admin/explain", "limits", _Explained, asked)
        if found is None:
            return []
        return [
            LimitSeen(user, model, each.limit, each.most, each.used, each.window, each.resetsAt)
            for each in found.limits
            if each.used is not None
        ]

    async def _get(
        self,
        session: aiohttp.ClientSession,
        path: str,
        concerns: str,
        kind: type[_Answer],
        query: dict[str, str] | None = None,
        statuses: tuple[int, ...] = (200,),
    ) -> _Answer | None:
        """Ask a route; None where the key may not see it.

        `concerns`: what is noted then. Raises Refused.
        """
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), session.get(self._picture.url + path, params=query) as answer:
                body = await answer.read()
                if answer.status not in statuses and not self._may(answer.status, concerns):
                    return None
                return msgspec.json.decode(body, type=kind)
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError, ValueError) as error:
            raise Refused(_words(error)) from None

    def _may(self, status: int, concerns: str) -> bool:
        """Whether the key may see this, else note it. Raises Refused."""
        notes = self._picture.notes
        if status == 403:
            if concerns in _NEEDS:
                notes[concerns] = _NEEDS[concerns]
            return False
        if status == 401:
            raise Refused("the gateway does not accept the key (GATEWAY_KEY or --key)")
        if status != 200 and concerns:  # a ledger that is away, a drain
            notes[concerns] = f"{concerns}: not to be had at the moment ({status})"
            return False
        if status != 200:
            raise Refused(f"{self._picture.url} answers {status}: is it the gateway's address?")
        notes.pop(concerns, None)
        return True


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the gateway does not answer"
    if isinstance(error, aiohttp.InvalidURL):
        return "--url is no URL"
    if isinstance(error, OSError):
        return f"the gateway cannot be reached: {error.strerror or error}"
    if isinstance(error, aiohttp.ClientError):
        return f"the gateway cannot be reached: {error or type(error).__name__}"
    return "what answers there is not the gateway"
