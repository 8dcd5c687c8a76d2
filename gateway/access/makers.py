"""The keys that made a key, and hold what it may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from gateway.store.base import GrantStore
from gateway.types import ApiKey

MOST_GENERATIONS = 8  # of keys that made keys


async def makers_of(
    key: ApiKey, store: GrantStore, is_good: Callable[[ApiKey], Awaitable[bool]]
) -> tuple[ApiKey, ...] | None:
    """Return the key that made this one, its maker, and so on.

    None where one of them is gone, or not `is_good` any more. Raises StoreUnavailable.
    """
    makers: list[ApiKey] = []
    while key.made_by is not None:
        maker = await store.key(key.made_by)
        while maker is not None and maker.replaced_by is not None:  # it was rotated
            maker = await store.key(maker.replaced_by)
        if maker is None or len(makers) >= MOST_GENERATIONS or not await is_good(maker):
            return None
        makers.append(maker)
        key = maker
    return tuple(makers)


def held(key: ApiKey, makers: Sequence[ApiKey]) -> ApiKey:
    """Return the key with what it has from its makers.

    Models, addresses and limits of its own, where it has any, hold besides theirs.
    """
    key = within(key, makers)
    for maker in makers:
        key = msgspec.structs.replace(
            key,
            models=maker.models if key.models is None else key.models,
            ips=key.ips or maker.ips,
            limits=maker.limits if key.limits is None else key.limits,
        )
    return key


def within(key: ApiKey, makers: Sequence[ApiKey]) -> ApiKey:
    """Return the key with no more than its makers have.

    Scopes, time and priority.
    """
    for maker in makers:
        expires = min((each for each in (key.expires, maker.expires) if each is not None), default=None)
        priority = min((each for each in (key.priority, maker.priority) if each is not None), default=None)
        key = msgspec.structs.replace(key, scopes=key.scopes & maker.scopes, expires=expires, priority=priority)
    return key
