"""From the headers of a request to its caller (contract §3)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from multidict import istr

from gateway.errors import InsufficientScope, InvalidKey, InvalidRequest, MissingKey, StoreUnavailable
from gateway.grants.base import GrantStore
from gateway.moment import Moment
from gateway.types import ApiKey, Caller, Id, Scope, id_text

_SCHEMES = ("bearer", "apikey")
# Quick to look up in aiohttp's headers.
_AUTHORIZATION, _X_API_KEY, _ACTED_FOR = istr("authorization"), istr("x-api-key"), istr("x-gateway-user")
# Longer than any key that is made anywhere: nobody makes us hash megabytes.
_LONGEST_KEY = 4096


class Shown(NamedTuple):
    """What a request's headers show of its caller."""

    authorization: str | None
    x_api_key: str | None
    acted_for: str | None  # a user's id: `x-gateway-user`

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Shown:
        return cls(headers.get(_AUTHORIZATION), headers.get(_X_API_KEY), headers.get(_ACTED_FOR))

    def key(self) -> str:
        """The key in `Authorization: Bearer KEY` or `ApiKey KEY`, or in `x-api-key: KEY`. Raises MissingKey."""
        scheme, _, credential = (self.authorization or "").partition(" ")
        if scheme.lower() in _SCHEMES and credential.strip():
            return credential.strip()
        key = (self.x_api_key or "").strip()
        if key:
            return key
        raise MissingKey("No API key was given. Send it as `Authorization: Bearer KEY`.")

    def __repr__(self) -> str:
        return f"<Shown for {self.acted_for!r}>" if self.acted_for is not None else "<Shown>"


def key_sha256(key: str) -> str:
    """The form in which keys are stored and looked up: lower-case hex of the whole key's SHA-256."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class Authenticator:
    """Finds the caller behind a request. `clock` returns the present time with a time zone; callers that were just
    found are taken from `moment`, whoever begins it."""

    def __init__(self, store: GrantStore, clock: Callable[[], datetime], moment: Moment | None = None) -> None:
        self._store = store
        self._clock = clock
        self._moment = moment

    def remembered(self, shown: Shown, scope: Scope | None) -> Caller | None:
        """The caller, where it was found a moment ago. Raises as `caller` does."""
        caller = self._moment.callers.get(shown) if self._moment is not None else None
        if caller is not None:
            self._check(caller.key, scope, acts=shown.acted_for is not None)
        return caller

    async def caller(self, shown: Shown, scope: Scope | None) -> Caller:
        """The caller, who has `scope`. Raises MissingKey, InvalidKey, InvalidRequest or InsufficientScope."""
        # This moment's: what is looked up now must not be taken for news by the next.
        remembered = self._moment.callers if self._moment is not None else {}
        sha256 = _digest(shown.key())
        _check_readable(shown.acted_for)
        remembered[shown] = caller = await self._found(sha256, shown.acted_for, scope)
        return caller

    async def _found(self, sha256: str, acted_for: str | None, scope: Scope | None) -> Caller:
        key = await self._store.key(sha256)
        if key is None:
            raise _invalid()
        # Before anything is looked up for somebody who may not have it.
        self._check(key, scope, acts=acted_for is not None)
        return await self._caller(key, key.user if acted_for is None else self._store.user_id(acted_for))

    def _check(self, key: ApiKey, scope: Scope | None, *, acts: bool) -> None:
        if not is_valid(key, self._clock()):
            raise _invalid()
        if scope is not None and scope not in key.scopes:
            raise InsufficientScope(f"This key does not have the scope `{scope}`.")
        if acts and "act:as" not in key.scopes:
            raise InsufficientScope("This key may not act for another user: it does not have the scope `act:as`.")

    async def key_alone(self, shown: Shown) -> ApiKey:
        """The key that was shown, without its caller: one of gateway.yaml must do while the store is away.

        Raises MissingKey, InvalidKey or StoreUnavailable.
        """
        key = await self._store.key(_digest(shown.key()))
        if key is None or not is_valid(key, self._clock()) or not await self._is_enabled(key.user):
            raise _invalid()
        return key

    async def _is_enabled(self, user_id: Id) -> bool:
        """Whether a key's own user is not switched off; True where that cannot be told and nothing more hangs on it."""
        try:
            return (await self._store.user(user_id)).enabled
        except StoreUnavailable:
            return True

    async def _caller(self, key: ApiKey, user_id: Id) -> Caller:
        store = self._store
        user = await store.user(user_id)
        if not user.enabled or (id_text(user_id) != id_text(key.user) and not await self._is_enabled(key.user)):
            raise _invalid()
        organisations = [await store.organisation(one) for one in user.organisations]
        plans = [await store.plan(one) for one in user.plans]
        return Caller(
            user,
            key,
            tuple(one for one in organisations if one is not None),
            tuple(one for one in plans if one is not None),
        )


def is_valid(key: ApiKey, now: datetime) -> bool:
    """Whether a key's own record lets it open anything; its user may still be switched off."""
    return key.enabled and (key.expires is None or key.expires > now)


def _digest(presented: str) -> str:
    if len(presented) > _LONGEST_KEY:
        raise _invalid()
    return key_sha256(presented)


def _check_readable(user: str | None) -> None:
    """Raises InvalidRequest for an `x-gateway-user` in bytes that are no text, and so nobody's id anywhere."""
    if user is not None and not user.isprintable():
        raise InvalidRequest("The header `x-gateway-user` is not printable text in UTF-8.")


def _invalid() -> InvalidKey:
    """One answer for unknown, expired and revoked: it tells a stranger nothing about which keys ever lived."""
    return InvalidKey("The API key is not valid.")
