"""From a credential to the key that a token stands for.

Verifying takes 50 µs to half a millisecond, so it is done on the loop, once: what was verified is remembered until it
ends, its issuer's keys change, or the configuration does. What is cheap comes first: shape, issuer, claims, signature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from gateway.access.tokens.claims import FaultyClaims, is_for, judged
from gateway.access.tokens.key_sets import KeySets
from gateway.config.settings import JwtSettings
from gateway.errors import InvalidKey
from gateway.jose.key_set import ALGORITHMS, Key, KeySet
from gateway.jose.token import Token, parse_token
from gateway.types import ApiKey, has_expired

MOST_REMEMBERED = 5_000


class _Verified(NamedTuple):
    key: ApiKey
    issuer: JwtSettings
    keys: KeySet  # by which it was verified


class Tokens:
    """The tokens of one configuration's issuers."""

    def __init__(self, issuers: Iterable[JwtSettings], key_sets: KeySets, clock: Callable[[], datetime]) -> None:
        self._key_sets = key_sets
        self._clock = clock
        self._of_issuer: dict[str, list[JwtSettings]] = {}
        # By the settings' identity: their hash would walk a whole JWKS each time.
        self._in_files: dict[int, KeySet] = {}
        for issuer in issuers:
            self._of_issuer.setdefault(issuer.issuer, []).append(issuer)
            if issuer.jwks is not None:
                self._in_files[id(issuer)] = KeySet.parse(issuer.jwks)
        self._verified: dict[str, _Verified] = {}

    async def key(self, text: str, sha256: str) -> ApiKey | None:
        """Return the key that a token stands for.

        None for what is none of our issuers'. `sha256`: of the text. Raises InvalidKey for a faulty one,
        StoreUnavailable while its issuer's keys are not at hand.
        """
        if not self._of_issuer or "." not in text:
            return None
        known = self._verified.get(sha256)
        if known is not None:
            if known.keys is self._keys_at_hand(known.issuer):
                return known.key  # whoever asked looks at its end
            del self._verified[sha256]
        token = parse_token(text)
        issuers = self._issuers(token) if token is not None else []
        if token is None or not issuers:
            return None
        return await self._judged(token, issuers, sha256)

    def _issuers(self, token: Token) -> list[JwtSettings]:
        named = token.claims.get("iss")
        return self._of_issuer.get(named, []) if isinstance(named, str) else []

    async def _judged(self, token: Token, issuers: list[JwtSettings], sha256: str) -> ApiKey:
        if token.algorithm not in ALGORITHMS or not token.has_usable_header:
            raise _faulty()
        issuer = next((each for each in issuers if is_for(token.claims, each)), issuers[0])
        try:
            key = judged(token.claims, issuer, sha256, self._clock().timestamp())
        except FaultyClaims:
            raise _faulty() from None
        keys, public = await self._find(token, issuer)
        if public is None or not public.verifies(token.algorithm, token.signed, token.signature):
            raise _faulty()
        self._remember(sha256, _Verified(key, issuer, keys))
        return key

    async def _find(self, token: Token, issuer: JwtSettings) -> tuple[KeySet, Key | None]:
        in_file = self._in_files.get(id(issuer))
        if in_file is not None:
            return in_file, in_file.find(token.key_id, token.algorithm)
        keys = await self._key_sets.at_hand(issuer)
        found = keys.find(token.key_id, token.algorithm)
        if found is None and not keys.knows(token.key_id):
            keys = await self._key_sets.renewed(issuer, keys)
            found = keys.find(token.key_id, token.algorithm)
        return keys, found

    def _keys_at_hand(self, issuer: JwtSettings) -> KeySet | None:
        return self._in_files.get(id(issuer)) or self._key_sets.held(issuer)

    def _remember(self, sha256: str, verified: _Verified) -> None:
        if len(self._verified) >= MOST_REMEMBERED:
            for each in list(self._ended()) or [next(iter(self._verified))]:
                del self._verified[each]
        self._verified[sha256] = verified

    def _ended(self) -> Iterator[str]:
        now = self._clock()
        return (each for each, known in self._verified.items() if has_expired(known.key.expires, now))

    def __repr__(self) -> str:
        return f"<Tokens of {len(self._of_issuer)} issuers, {len(self._verified)} verified>"


def _faulty() -> InvalidKey:
    """Return the error of an unknown key; it names no fault."""
    return InvalidKey("The API key is not valid.")
