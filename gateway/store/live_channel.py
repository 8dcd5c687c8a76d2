"""Requests as they run, published between workers over Redis.

A worker on which somebody listens asks all others to tell, and goes on asking while it wants to hear. Both are
published and kept nowhere: nobody who does not listen pays for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

import orjson

from gateway.config.settings import StoreSettings
from gateway.observability.calls import Calls
from gateway.observability.live_requests import LiveRequests
from gateway.store.base import RecordStore

if TYPE_CHECKING:  # only who uses it pays for loading redis-py
    from gateway.redis.subscription import Subscription
    from gateway.store.redis import RedisStore


def live_requests(calls: Calls, settings: StoreSettings, records: RecordStore) -> LiveRequests:
    """Return the live requests of a process.

    Its store has not been started yet.
    """
    if settings.kind == "embedded":
        return LiveRequests(calls)
    channel = RedisChannel(cast("RedisStore", records), settings.prefix)
    live = LiveRequests(calls, channel)
    channel.on_asked(live.asked)
    return live


class Asked(Protocol):
    def __call__(self, worker: str, *, anew: bool) -> None: ...


class RedisChannel:
    """The other workers on one Redis."""

    def __init__(self, store: RedisStore, prefix: str) -> None:
        self._store = store
        self._asks, self._tells = f"{prefix}live:asked", f"{prefix}live"
        self._subscription: Subscription | None = None

    @property
    def is_heard(self) -> bool:
        return self._subscription is not None and self._subscription.is_up

    def on_asked(self, listener: Asked) -> None:
        """Call back with the worker that asks, and whether it asks anew."""

        def asked(message: bytes) -> None:
            """Pass on an ask.

            Everyone may publish here: what is of no use is passed over.
            """
            try:
                fields = orjson.loads(message)
            except orjson.JSONDecodeError:
                return
            if isinstance(fields, dict) and isinstance(fields.get("worker"), str):
                listener(fields["worker"], anew=fields.get("anew") is True)

        self._store.listen_to(self._asks, asked)

    def ask(self, worker: str, *, anew: bool) -> None:
        self._store.link.send("PUBLISH", self._asks, orjson.dumps({"worker": worker, "anew": anew}))

    def tell(self, batch: bytes) -> None:
        self._store.link.send("PUBLISH", self._tells, batch)

    async def listen(self, heard: Callable[[bytes], None]) -> None:
        self._subscription = self._store.link.subscription({self._tells: heard}, _nothing)
        await self._subscription.start()

    async def leave(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.stop()

    def __repr__(self) -> str:
        return f"<RedisChannel {self._tells}, {'heard' if self.is_heard else 'not heard'}>"


def _nothing() -> None:
    """Nothing is to be done: what runs is published anew."""
