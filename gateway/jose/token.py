"""A compact JWS taken apart; nothing of it is believed (RFC 7515)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, NamedTuple

import orjson

LONGEST_TOKEN = 8192  # a header line of a request is hardly longer

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
# What a credential may call itself; others (logout tokens, events, proofs) are signed by the same keys.
_TYPES = frozenset(("jwt", "at+jwt", "application/jwt", "application/at+jwt"))


class Token(NamedTuple):
    """Header, claims and signature of a token, none of them verified."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes

    @property
    def algorithm(self) -> str:
        """The empty text where the header names none."""
        found = self.header.get("alg")
        return found if isinstance(found, str) else ""

    @property
    def key_id(self) -> str | None:
        found = self.header.get("kid")
        return found if isinstance(found, str) else None

    @property
    def has_usable_header(self) -> bool:
        """Whether nothing in it asks for what is not understood here.

        `jku`, `x5u`, `jwk` and `x5c` are passed over: keys come from the issuer's JWKS alone.
        """
        header, kind = self.header, self.header.get("typ", "JWT")
        is_known = isinstance(kind, str) and kind.lower() in _TYPES
        return is_known and "crit" not in header and "b64" not in header and isinstance(header.get("kid", ""), str)


def parse_token(text: str) -> Token | None:
    """Take a token apart; None for what is no token at all."""
    if len(text) > LONGEST_TOKEN or text.count(".") != 2:
        return None
    parts = _COMPACT.fullmatch(text)
    if parts is None:
        return None
    try:
        header, claims = orjson.loads(_bytes(parts[1])), orjson.loads(_bytes(parts[2]))
        signature = _bytes(parts[3])
    except (binascii.Error, orjson.JSONDecodeError):
        return None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        return None
    return Token(header, claims, text[: parts.end(2)].encode("ascii"), signature)


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
