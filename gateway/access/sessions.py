"""Sessions of the pages, begun by a key or a ticket."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec

from gateway.access.authenticate import Authenticator, Shown, key_sha256
from gateway.errors import InsufficientScope, InvalidKey, InvalidTicket
from gateway.store.passes import Passes
from gateway.types import SCOPES, Caller, Id, Scope

UNUSED_SECONDS, WHOLE_SECONDS = 12 * 3600.0, 7 * 86_400.0
TICKET_SECONDS = 60.0
TOUCH_SECONDS = 300.0  # the time of last use is written so often at most
_SECRET_BYTES = 32


class Session(msgspec.Struct, frozen=True):
    """Who is signed in, by which key. Times in seconds since 1970."""

    key: str  # its SHA-256
    user: Id
    scopes: list[Scope]
    began: float
    used: float
    framed: bool = False  # it was begun in a frame of another site


class Ticket(msgspec.Struct, frozen=True):
    key: str
    user: Id
    scopes: list[Scope]


class Sessions:
    """Begin, find and end sessions."""

    def __init__(self, passes: Passes, authenticator: Authenticator, clock: Callable[[], datetime]) -> None:
        self._passes = passes
        self._authenticator = authenticator
        self._clock = clock

    async def issue_ticket(self, caller: Caller, scopes: Iterable[Scope]) -> str:
        """Return a ticket for the caller's user. Raises InsufficientScope.

        `scopes` besides `ai:use` must be the key's own, and never `act:as`.
        """
        if caller.key.issuer is not None:  # a session goes by its key's record, and ends with it
            raise InsufficientScope("A token of an identity provider begins no session; use a key.")
        wanted: list[Scope] = ["ai:use", *(scope for scope in scopes if scope != "ai:use")]
        for scope in wanted[1:]:
            if scope == "act:as" or scope not in caller.key.scopes:
                raise InsufficientScope(f"A ticket of this key cannot have the scope `{scope}`.")
        ticket = secrets.token_urlsafe(_SECRET_BYTES)
        document = msgspec.json.encode(Ticket(caller.key.sha256, caller.user.id, wanted))
        await self._passes.put("ticket", _digest(ticket), document, TICKET_SECONDS)
        return ticket

    async def begin_by_key(self, text: str, address: str, *, framed: bool) -> tuple[str, Caller]:
        """Sign in by a typed key; return the cookie's value.

        Raises InvalidKey or IpNotAllowed.
        """
        shown = Shown(text, None)
        caller = await self._authenticator.caller(shown, None, address)
        if caller.key.issuer is not None:
            raise InvalidKey("A token of an identity provider begins no session here; sign in with a key.")
        scopes: list[Scope] = [scope for scope in SCOPES if scope in caller.key.scopes and scope != "act:as"]
        return await self._begun(key_sha256(text), caller.key.user, scopes, address, framed=framed)

    async def begin_by_ticket(self, ticket: str, address: str, *, framed: bool) -> tuple[str, Caller]:
        """Use a ticket up. Raises InvalidTicket."""
        document = await self._passes.take("ticket", _digest(ticket))
        if document is None:
            raise InvalidTicket("This ticket has been used, or its minute is over; go back and try again.")
        found = msgspec.json.decode(document, type=Ticket)
        return await self._begun(found.key, found.user, found.scopes, address, framed=framed)

    async def _begun(
        self, sha256: str, user: Id, scopes: list[Scope], address: str, *, framed: bool
    ) -> tuple[str, Caller]:
        now = self._clock().timestamp()
        session = Session(sha256, user, scopes, now, now, framed)
        caller = await self._caller(session, None, address)
        token = secrets.token_urlsafe(_SECRET_BYTES)
        await self._passes.put("session", _digest(token), msgspec.json.encode(session), self._seconds_left(session))
        return token, caller

    async def caller(self, token: str, scope: Scope | None, address: str, *, is_use: bool = True) -> Caller:
        """Return who is signed in.

        `is_use` False: it is only looked whether the session still stands.

        Raises InvalidKey, InsufficientScope or IpNotAllowed.
        """
        digest = _digest(token)
        session = await self._found(digest)
        caller = await self._caller(session, scope, address)
        now = self._clock().timestamp()
        if is_use and now - session.used >= TOUCH_SECONDS:
            used = msgspec.structs.replace(session, used=now)
            # Not `put`: whoever has signed out meanwhile stays signed out.
            await self._passes.renew("session", digest, msgspec.json.encode(used), self._seconds_left(used))
        return caller

    async def end(self, token: str) -> None:
        """Sign out."""
        await self._passes.take("session", _digest(token))

    async def _found(self, digest: str) -> Session:
        document = await self._passes.get("session", digest)
        if document is None:
            raise InvalidKey("You are not signed in, or your session is over; sign in again.")
        return msgspec.json.decode(document, type=Session)

    async def _caller(self, session: Session, scope: Scope | None, address: str) -> Caller:
        """Return the session's user, with what its key still has."""
        return await self._authenticator.caller_by_hash(session.key, session.user, session.scopes, scope, address)

    def _seconds_left(self, session: Session) -> float:
        return max(min(UNUSED_SECONDS, session.began + WHOLE_SECONDS - self._clock().timestamp()), 0.001)

    def __repr__(self) -> str:
        return f"<Sessions in {self._passes!r}>"


def _digest(secret: str) -> str:
    # A cookie may be any bytes, and those of a head are read as surrogates where they are no UTF-8.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
