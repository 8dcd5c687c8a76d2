"""From the headers of a request to its caller (contract §3)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
from multidict import MultiMapping, istr

from gateway.access.client_address import is_within
from gateway.access.lookup_cache import MOST_CALLERS, Known, LookUps
from gateway.access.makers import makers_of, within
from gateway.access.tokens import Tokens
from gateway.errors import InsufficientScope, InvalidKey, InvalidRequest, IpNotAllowed, MissingKey, StoreUnavailable
from gateway.jose.token import LONGEST_TOKEN
from gateway.store.base import GrantStore
from gateway.types import SCOPES, ApiKey, Caller, Id, Scope, has_expired, id_text

_SCHEMES = ("bearer", "apikey")
# Quick to look up in aiohttp's headers. The first that holds a key counts.
_AUTHORIZATION, _X_API_KEY, _API_KEY = istr("authorization"), istr("x-api-key"), istr("api-key")
_ACTED_FOR, _SUBPROTOCOL = istr("x-gateway-user"), istr("sec-websocket-protocol")
_IN_SUBPROTOCOL = "openai-insecure-api-key."
# Longer than any key that is made anywhere: nobody makes us hash megabytes. A token may be longer.
_LONGEST_KEY = 4096
_LONGEST_USER_BYTES = 256
_DOTS_OF_A_TOKEN = 2


class Shown(NamedTuple):
    """A request's credentials.

    `faults`: what is wrong with the credentials, and with the user.
    """

    presented: str | None
    acted_for: str | None  # a user's id: `x-gateway-user`
    faults: tuple[str | None, str | None] = (None, None)

    @classmethod
    def of(cls, headers: MultiMapping[str], *, is_websocket: bool = False) -> Shown:
        """Read a head's credentials; on WebSockets a subprotocol may be one."""
        in_protocols = _in_subprotocols(headers) if is_websocket else []
        authorization = headers.getall(_AUTHORIZATION, ())
        x_api_key, api_key = headers.getall(_X_API_KEY, ()), headers.getall(_API_KEY, ())
        acted_for = headers.getall(_ACTED_FOR, ())
        if not (x_api_key or api_key or acted_for or in_protocols):  # as nearly all are: nothing else to look at
            return cls(_with_scheme(authorization), None, (_fault("authorization", authorization, _LONGEST_KEY), None))
        faults = (
            _fault("authorization", authorization, _LONGEST_KEY)
            or _fault("x-api-key", x_api_key, _LONGEST_KEY)
            or _fault("api-key", api_key, _LONGEST_KEY)
            or _fault("sec-websocket-protocol", in_protocols, _LONGEST_KEY),
            _fault("x-gateway-user", acted_for, _LONGEST_USER_BYTES),
        )
        presented = _with_scheme(authorization) or next(
            (value.strip() for value in (*x_api_key, *api_key, *in_protocols)), None
        )
        return cls(presented, acted_for[0] if acted_for else None, faults)

    def key(self) -> str:
        """Return the key of the first credential header.

        Of `Authorization: Bearer KEY` or `ApiKey KEY`, else `x-api-key: KEY`, else `api-key: KEY`, else on WebSockets
        the subprotocol `openai-insecure-api-key.KEY`.

        Raises MissingKey, or InvalidRequest where a credential's header is empty, too long or there twice.
        """
        if self.faults[0] is not None:
            raise InvalidRequest(self.faults[0])
        if not self.presented:
            raise MissingKey("No API key was given. Send it as `Authorization: Bearer KEY`.")
        return self.presented

    def check_user(self) -> None:
        """Raise InvalidRequest for an unusable `x-gateway-user`.

        Empty, too long, twice or no text.
        """
        if self.faults[1] is not None:
            raise InvalidRequest(self.faults[1])
        if self.acted_for is not None and not self.acted_for.isprintable():
            raise InvalidRequest("The header `x-gateway-user` is not printable text in UTF-8.")

    def __repr__(self) -> str:
        return f"<Shown for {self.acted_for!r}>" if self.acted_for is not None else "<Shown>"


def key_sha256(key: str) -> str:
    """Return a key's SHA-256, in lower-case hex.

    The form in which keys are stored and looked up.
    """
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class Authenticator:
    """Authenticate requests.

    `clock` returns the present time with a time zone; callers that were just found are taken from `moment`.
    """

    def __init__(
        self,
        store: GrantStore,
        clock: Callable[[], datetime],
        lookups: LookUps | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._lookups = lookups
        self._tokens = tokens

    def remembered(self, shown: Shown, scope: Scope | None, address: str = "") -> Caller | None:
        """Return the caller from the look-up cache. Raises as `caller`."""
        known = self._lookups.callers.get(shown) if self._lookups is not None else None
        if known is None:
            return None
        if scope not in known.scopes:
            self._check(known.caller.key, scope, acts=shown.acted_for is not None)
            _refuse_other_addresses(known.caller, address)
        return known.caller

    async def caller(self, shown: Shown, scope: Scope | None, address: str = "") -> Caller:
        """The caller, who has `scope` and may come from `address`.

        Raises MissingKey, InvalidKey, InvalidRequest, InsufficientScope or IpNotAllowed.
        """
        # Those of the generation that the look-up began with: a later one must not take it for news.
        remembered = self._lookups.callers if self._lookups is not None else {}
        caller = await self._found(shown, scope)
        if len(remembered) >= MOST_CALLERS:
            remembered.clear()
        remembered[shown] = Known(caller, _scopes_for_good(caller, acts=shown.acted_for is not None))
        if caller.key.ips or caller.makers:
            _refuse_other_addresses(caller, address)
        return caller

    async def caller_by_hash(
        self, sha256: str, user: Id, scopes: Sequence[Scope], scope: Scope | None, address: str
    ) -> Caller:
        """Return the caller of a session that a key began.

        It has those of `scopes` that the key still has. Raises as `caller`.
        """
        key = await self._store.key(sha256)
        if key is None or not self._is_valid(key):
            raise _invalid()
        caller = await self._caller(key, user)
        own = msgspec.structs.replace(caller.key, scopes=caller.key.scopes & frozenset(scopes))
        caller = msgspec.structs.replace(caller, key=own)
        self._check(own, scope, acts=False)
        _refuse_other_addresses(caller, address)
        return caller

    async def caller_again(self, caller: Caller, scope: Scope, address: str) -> Caller:
        """Look up a caller anew, with the scopes it has.

        Raises as `caller`.
        """
        key, user = caller.key, caller.user.id
        if key.issuer is None:
            scopes = tuple([each for each in SCOPES if each in key.scopes])
            return await self.caller_by_hash(key.sha256, user, scopes, scope, address)
        self._check(key, scope, acts=False)  # a token has no record, and ends by itself
        return await self._caller(key, user)

    async def _found(self, shown: Shown, scope: Scope | None) -> Caller:
        acted_for = shown.acted_for
        key = await self._key(shown.key())
        shown.check_user()
        # Before anything is looked up for somebody who may not have it.
        self._check(key, scope, acts=acted_for is not None)
        return await self._caller(key, key.user if acted_for is None else self._store.user_id(acted_for))

    def _check(self, key: ApiKey, scope: Scope | None, *, acts: bool) -> None:
        if not self._is_valid(key):
            raise _invalid()
        if scope is not None and scope not in key.scopes:
            raise InsufficientScope(f"This key does not have the scope `{scope}`.")
        if acts and "act:as" not in key.scopes:
            raise InsufficientScope("This key may not act for another user: it does not have the scope `act:as`.")

    def _is_valid(self, key: ApiKey) -> bool:
        return is_valid(key, self._clock()) if key.expires is not None else key.enabled

    async def key_alone(self, shown: Shown) -> ApiKey:
        """Return the key without its caller.

        One of gateway.yaml must do while the store is away.

        Raises MissingKey, InvalidKey or StoreUnavailable.
        """
        key = await self._key(shown.key())
        if not await self._is_enabled(key.user):
            raise _invalid()
        return key

    async def _key(self, text: str) -> ApiKey:
        """Return the valid key of a text, or a token's.

        Raises InvalidKey or StoreUnavailable.
        """
        sha256 = key_sha256(text)
        key = await self._tokens.key(text, sha256) if self._tokens is not None else None
        if key is None:
            key = await self._store.key(sha256)
        if key is None or not self._is_valid(key):
            raise _invalid()
        return key

    async def _is_enabled(self, user_id: Id) -> bool:
        """Whether a key's own user is enabled, if that matters.

        True where that cannot be known and nothing more hangs on it.
        """
        try:
            return (await self._store.user(user_id)).enabled
        except StoreUnavailable:
            return True

    async def _caller(self, key: ApiKey, user_id: Id) -> Caller:
        store = self._store
        user = await store.user(user_id)
        is_own = user_id is key.user or id_text(user_id) == id_text(key.user)
        if not user.enabled or not (is_own or await self._is_enabled(key.user)):
            raise _invalid()
        if is_own and key.made_by is None and not (user.organisations or user.plans or key.organisations):
            return Caller(user, key)
        makers = () if key.made_by is None else await makers_of(key, store, self._is_good)
        if makers is None:
            raise _invalid()
        named = user.organisations
        if key.organisations and is_own:
            named = tuple(dict.fromkeys((*named, *key.organisations)))
        organisations = [await store.organisation(one) for one in named]
        plans = [await store.plan(one) for one in user.plans]
        return Caller(
            user,
            within(key, makers) if makers else key,
            tuple(one for one in organisations if one is not None),
            tuple(one for one in plans if one is not None),
            makers,
        )

    async def _is_good(self, maker: ApiKey) -> bool:
        return self._is_valid(maker) and await self._is_enabled(maker.user)


def _scopes_for_good(caller: Caller, *, acts: bool) -> frozenset[str | None]:
    """Return the scopes for which a key need not be judged again.

    None of one that may expire, acts for others, or is for some addresses only.
    """
    key = caller.key
    is_good = key.enabled and key.expires is None and not (acts or key.ips or caller.makers)
    return frozenset((None, *key.scopes)) if is_good else frozenset()


def _refuse_other_addresses(caller: Caller, address: str) -> None:
    """Raise IpNotAllowed for a key that is not for this address."""
    if not all(is_within(address, ranges) for ranges in caller.ranges):
        raise IpNotAllowed("This key may not be used from your address.")


def is_valid(key: ApiKey, now: datetime) -> bool:
    """Whether the key is enabled and not expired.

    Its user may still be switched off.
    """
    return key.enabled and (key.expires is None or not has_expired(key.expires, now))


def _with_scheme(authorization: Sequence[str]) -> str | None:
    """The key, if any, in an `authorization` that we know."""
    if not authorization:
        return None
    scheme, _, credential = authorization[0].partition(" ")
    return credential.strip() or None if scheme.lower() in _SCHEMES else None


def subprotocols(headers: MultiMapping[str]) -> list[str]:
    """List the subprotocols that a WebSocket's client offers."""
    offered = ",".join(headers.getall(_SUBPROTOCOL, ())).split(",")
    return [name for each in offered if (name := each.strip())]


def is_credential(subprotocol: str) -> bool:
    """Whether a subprotocol is a key, which nobody else may see."""
    return subprotocol.startswith(_IN_SUBPROTOCOL)


def _in_subprotocols(headers: MultiMapping[str]) -> list[str]:
    return [each.removeprefix(_IN_SUBPROTOCOL) for each in subprotocols(headers) if is_credential(each)]


def _fault(name: str, values: Sequence[str], longest: int) -> str | None:
    """Return what is wrong with a credential header, if anything.

    Two that differ would be read differently by others on the way.
    """
    if not values:
        return None
    if len(values) > 1:
        return f"The header `{name}` is there more than once."
    value = values[0]
    if not value.strip():
        return f"The header `{name}` is empty."
    size = len(value) if value.isascii() else len(value.encode("utf-8", "surrogateescape"))
    if size <= longest or (longest == _LONGEST_KEY and size <= LONGEST_TOKEN and value.count(".") == _DOTS_OF_A_TOKEN):
        return None
    return f"The header `{name}` is longer than {longest:,} bytes."


def _invalid() -> InvalidKey:
    """Return one error for unknown, expired and revoked keys.

    It gives away nothing about which keys ever lived.
    """
    return InvalidKey("The API key is not valid.")
