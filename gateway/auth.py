"""From the headers of a request to its caller (contract §3)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime

from gateway.errors import InsufficientScope, InvalidKey, MissingKey
from gateway.grants.base import GrantStore
from gateway.types import ApiKey, Caller, Id, Scope

_SCHEMES = ("bearer", "apikey")
# Longer than any key that is made anywhere: nobody makes us hash megabytes.
_LONGEST_KEY = 4096


def presented_key(headers: Mapping[str, str]) -> str:
    """The key in `Authorization: Bearer KEY`, `Authorization: ApiKey KEY` or `x-api-key: KEY`. Raises MissingKey."""
    scheme, _, credential = headers.get("authorization", "").partition(" ")
    if scheme.lower() in _SCHEMES and credential.strip():
        return credential.strip()
    key = headers.get("x-api-key", "").strip()
    if key:
        return key
    raise MissingKey("No API key was given. Send it as `Authorization: Bearer KEY`.")


def key_sha256(key: str) -> str:
    """The form in which keys are stored and looked up: lower-case hex of the whole key's SHA-256."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class Authenticator:
    """Finds the caller behind a request. `clock` returns the present time with a time zone."""

    def __init__(self, store: GrantStore, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    async def caller(self, headers: Mapping[str, str], scope: Scope | None) -> Caller:
        """The caller, who is known to have `scope`. Raises MissingKey, InvalidKey or InsufficientScope."""
        key = await self._key(presented_key(headers))
        if scope is not None and scope not in key.scopes:
            raise InsufficientScope(f"This key does not have the scope `{scope}`.")
        acted_for = headers.get("x-gateway-user")
        if acted_for is None:
            return await self._caller(key, key.user)
        if "act:as" not in key.scopes:
            raise InsufficientScope("This key may not act for another user: it does not have the scope `act:as`.")
        return await self._caller(key, acted_for)

    async def _key(self, presented: str) -> ApiKey:
        key = await self._store.key(key_sha256(presented)) if len(presented) <= _LONGEST_KEY else None
        if key is None or (key.expires is not None and key.expires <= self._clock()):
            # One answer for unknown, expired and revoked: it tells a stranger nothing about which keys ever lived.
            raise InvalidKey("The API key is not valid.")
        return key

    async def _caller(self, key: ApiKey, user_id: Id) -> Caller:
        store = self._store
        user = await store.user(user_id)
        organisations = [await store.organisation(one) for one in user.organisations]
        plans = [await store.plan(one) for one in user.plans]
        return Caller(
            user,
            key,
            tuple(one for one in organisations if one is not None),
            tuple(one for one in plans if one is not None),
        )
