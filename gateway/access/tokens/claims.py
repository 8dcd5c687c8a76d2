"""Judge a token's claims by its issuer's settings.

Pure, and cheaper than a signature: so it comes first, and what is refused here costs nobody a verification.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from gateway.config.settings import JwtSettings
from gateway.types import ApiKey

LEEWAY_SECONDS = 60.0
# As `x-gateway-user`: whoever has a token can be acted for as well.
LONGEST_USER_BYTES = 256
_MOST_LISTED = 1_000


class FaultyClaims(ValueError):
    """The text is the reason, for tests and never for clients."""


def judged(claims: Mapping[str, Any], issuer: JwtSettings, sha256: str, now: float) -> ApiKey:
    """Return the key that a token with these claims stands for.

    If its signature is good. `now` in seconds since 1970. Raises FaultyClaims.
    """
    if not is_for(claims, issuer):
        raise FaultyClaims("aud")
    end = _end(claims, issuer, now)
    return ApiKey(
        id=key_id(issuer),
        user=_user(claims, issuer),
        sha256=sha256,
        scopes=frozenset(_scopes(claims, issuer)),
        expires=datetime.fromtimestamp(end + LEEWAY_SECONDS, UTC),
        issuer=issuer.issuer,
        organisations=tuple(_organisations(claims, issuer)),
    )


def key_id(issuer: JwtSettings) -> str:
    """Name an issuer's tokens, where a key's id is shown or counted."""
    return f"jwt:{issuer.issuer.replace('~', '%7E')}"  # `~` parts the ids of keys that keys have made


def is_for(claims: Mapping[str, Any], issuer: JwtSettings) -> bool:
    """Whether one of the issuer's audiences is named, to the letter."""
    found = claims.get("aud")
    named = found if isinstance(found, list) else [found]
    return all(isinstance(each, str) for each in named) and not issuer.audience.isdisjoint(named)


def _end(claims: Mapping[str, Any], issuer: JwtSettings, now: float) -> float:
    """Return when it ends, in seconds since 1970."""
    end, begin, issued = (_moment(claims, name) for name in ("exp", "nbf", "iat"))
    if end is None:
        raise FaultyClaims("exp is missing")
    if end + LEEWAY_SECONDS <= now:
        raise FaultyClaims("exp")
    if any(each is not None and each > now + LEEWAY_SECONDS for each in (begin, issued)):
        raise FaultyClaims("nbf or iat lies ahead")
    start = next((each for each in (issued, begin) if each is not None), now)
    # Whatever it says of its beginning, what is left of it is no longer either.
    if end - start > issuer.max_age or end - now > issuer.max_age + LEEWAY_SECONDS:
        raise FaultyClaims("its life is too long")
    return end


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    found = claims.get(name)
    if found is None and name not in claims:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or found < 0:
        raise FaultyClaims(f"{name} is no time")
    return float(found)


def _user(claims: Mapping[str, Any], issuer: JwtSettings) -> str:
    found = _claim(claims, issuer.user)
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    if not isinstance(found, str) or not found or found != found.strip():
        raise FaultyClaims("the user is no text")
    if issuer.user == "email" and claims.get("email_verified", True) is not True:
        raise FaultyClaims("the address is not verified")
    user = issuer.user_prefix + found
    if not user.isprintable() or len(user.encode()) > LONGEST_USER_BYTES:
        raise FaultyClaims("the user is not printable, or too long")
    return user


def _scopes(claims: Mapping[str, Any], issuer: JwtSettings) -> Iterable[str]:
    if issuer.scopes is None:
        return issuer.scopes_max & {"ai:use"}
    found = _claim(claims, issuer.scopes)
    named = found.split(" ") if isinstance(found, str) else _texts(found)
    return issuer.scopes_max.intersection(named)


def _organisations(claims: Mapping[str, Any], issuer: JwtSettings) -> Iterable[str]:
    if issuer.organisations is None:
        return ()
    named = dict.fromkeys(_texts(_claim(claims, issuer.organisations)))
    return [each for each in named if each in issuer.organisations_max]


def _texts(found: object) -> list[str]:
    """A list of texts and whole numbers, or one of them alone."""
    listed = found if isinstance(found, list) else [] if found is None else [found]
    are_names = all(isinstance(each, str | int) and not isinstance(each, bool) for each in listed)
    if not are_names or len(listed) > _MOST_LISTED:
        raise FaultyClaims("a list has other things than names")
    return [str(each) for each in listed]


def _claim(claims: Mapping[str, Any], name: str) -> object:
    """Return a claim by its name, else by a path with dots."""
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]
    return found
