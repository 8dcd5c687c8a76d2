"""The keys of issuers at URLs: fetched, refreshed, held for a day.

A JWKS is refreshed every REFRESH_SECONDS, so that a key that its issuer has withdrawn does not outlive that. A token
whose key is unknown asks for it at once, but one such fetch a minute is all that unknown keys cause, for every worker
together. What was fetched is shared by workers and outlives a restart (`Passes`); while the store is away each worker
is on its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
from structlog.typing import FilteringBoundLogger

from gateway.config.settings import JwtSettings
from gateway.errors import StoreUnavailable, TransportError
from gateway.jose.key_set import KeySet, UnusableKeys
from gateway.single_flight import SingleFlight
from gateway.store.passes import Passes

FETCH_SECONDS = 5.0
REFRESH_SECONDS = 300.0
RETRY_SECONDS = 15.0  # after a refresh that failed
HELD_SECONDS = 86_400.0
UNKNOWN_SECONDS = 60.0  # between two fetches for unknown keys
FIRST_SECONDS = 1.0  # between two tries while there is nothing at hand
LOOK_EACH_SECONDS = 1.0
_SHARE_LOOKS_SECONDS = 0.1  # while another worker fetches

Fetch = Callable[[str, str], Awaitable[bytes]]  # from URL and ca_file; raises TransportError


class _Shared(msgspec.Struct, frozen=True):
    """A JWKS as workers share it.

    `at`: when it was fetched, in seconds since 1970.
    """

    at: float
    document: bytes


class KeySetStatus(msgspec.Struct, frozen=True):
    """How an issuer's keys are doing; `age` in seconds."""

    url: str
    keys: int
    age: float | None
    fault: str | None


class _Place(NamedTuple):
    """Where a JWKS is."""

    url: str
    ca_file: str

    @classmethod
    def of(cls, issuer: JwtSettings) -> _Place:
        return cls(issuer.jwks_url or "", issuer.ca_file)

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self).encode()).hexdigest()

    @property
    def shown(self) -> str:
        """Without its query, which may hold a token."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"


class _Held:
    """What is known of one JWKS. Times in seconds since 1970."""

    __slots__ = ("at", "fault", "keys", "next_look", "tried_at", "unknown_at")

    def __init__(self) -> None:
        self.keys: KeySet | None = None
        self.at = 0.0
        self.tried_at = 0.0
        self.unknown_at = 0.0
        self.next_look = 0.0
        self.fault: str | None = None

    def take(self, document: bytes, at: float) -> None:
        """Take a document. Raises UnusableKeys.

        The same document stays the same object: what was verified by it is still good.
        """
        if self.keys is None or self.keys.document != document:
            self.keys = KeySet.parse(document)
        self.at = at


class KeySets:
    """Hold issuers' keys, over reloads.

    `issuers` gives those of the present configuration. Use as a context manager, within which they are refreshed.
    """

    def __init__(
        self,
        fetch: Fetch,
        passes: Passes,
        issuers: Callable[[], Iterable[JwtSettings]],
        log: FilteringBoundLogger,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        self._fetch = fetch
        self._passes = passes
        self._issuers = issuers
        self._log = log
        self._epoch = epoch
        self._held: dict[_Place, _Held] = {}
        self._flights: SingleFlight[None] = SingleFlight()
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> KeySets:
        self._looking = asyncio.get_running_loop().create_task(self._look_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._flights.close()

    def held(self, issuer: JwtSettings) -> KeySet | None:
        """The keys at hand, None where there are none."""
        held = self._held.get(_Place.of(issuer))
        if held is None or self._epoch() - held.at >= HELD_SECONDS:
            return None
        return held.keys

    async def at_hand(self, issuer: JwtSettings) -> KeySet:
        """Return the keys, fetched if need be. Raises StoreUnavailable."""
        place = _Place.of(issuer)
        found = self.held(issuer)
        if found is None:
            if self._epoch() - self._of(place).tried_at >= FIRST_SECONDS or place in self._flights:
                await self._flights.join(place, partial(self._refresh, place))
            found = self.held(issuer)
        if found is None:
            raise StoreUnavailable("The keys of this token's issuer are not at hand; try again.")
        return found

    async def renewed(self, issuer: JwtSettings, known: KeySet) -> KeySet:
        """Return the keys, fetched anew for an unknown one.

        Once a minute, whoever asks; between that those at hand.
        """
        place = _Place.of(issuer)
        flight = (place, "unknown")
        if flight in self._flights or self._epoch() - self._of(place).unknown_at >= UNKNOWN_SECONDS:
            await self._flights.join(flight, partial(self._ask_for_unknown, place))
        return self.held(issuer) or known

    def statuses(self) -> list[KeySetStatus]:
        """One for each place of the present configuration."""
        places = {_Place.of(issuer): issuer for issuer in self._issuers() if issuer.jwks_url}
        return [self._status(place, issuer) for place, issuer in places.items()]

    # -- fetching

    async def _look_on(self) -> None:
        """Refresh what is due; a bug ends one look, not the looking."""
        while True:
            try:
                self._look()
            except Exception:
                self._log.exception("the keys of issuers cannot be looked after: a bug")
            await asyncio.sleep(LOOK_EACH_SECONDS)

    def _look(self) -> None:
        wanted = {_Place.of(issuer) for issuer in self._issuers() if issuer.jwks_url}
        for place in self._held.keys() - wanted:
            del self._held[place]
        for place in wanted:
            if self._epoch() >= self._of(place).next_look:
                self._flights.begin(place, partial(self._refresh, place))

    async def _refresh(self, place: _Place) -> None:
        """Take what another worker has just fetched, else fetch.

        Where that fails, what any worker fetched last is taken.
        """
        held = self._of(place)
        shared = await self._shared(place)
        news = shared if shared is not None and shared.at > held.at else None
        is_fresh = news is not None and self._epoch() - news.at < REFRESH_SECONDS
        if is_fresh and self._take(held, news):
            return
        if not await self._fetch_into(place, held):
            self._take(held, news)

    async def _ask_for_unknown(self, place: _Place) -> None:
        """Fetch for an unknown key, if no worker has this minute.

        Else take what that one fetched.
        """
        held, now = self._of(place), self._epoch()
        held.unknown_at = now
        try:
            if await self._passes.put_if_absent("jwks-turn", place.digest, str(now).encode(), UNKNOWN_SECONDS):
                await self._fetch_into(place, held)
                return
            turn = await self._passes.get("jwks-turn", place.digest)
        except StoreUnavailable:
            await self._fetch_into(place, held)
            return
        if turn is not None:
            held.unknown_at = float(turn)
            await self._wait_for_other(place, held, since=float(turn))

    async def _wait_for_other(self, place: _Place, held: _Held, since: float) -> None:
        """Take what another worker fetches `since` then."""
        while True:
            shared = await self._shared(place)
            if shared is not None and shared.at >= since:
                if shared.at > held.at:
                    self._take(held, shared)
                return
            if self._epoch() >= since + FETCH_SECONDS:
                return
            await asyncio.sleep(_SHARE_LOOKS_SECONDS)

    async def _fetch_into(self, place: _Place, held: _Held) -> bool:
        held.tried_at = self._epoch()
        held.next_look = held.tried_at + RETRY_SECONDS
        try:
            document = await self._fetch(place.url, place.ca_file)
            held.take(document, self._epoch())
        except (TransportError, UnusableKeys) as error:
            self._note(place, held, f"the JWKS {error}" if isinstance(error, UnusableKeys) else str(error))
            return False
        self._note(place, held, None)
        held.next_look = self._epoch() + REFRESH_SECONDS
        with contextlib.suppress(StoreUnavailable):
            shared = msgspec.msgpack.encode(_Shared(held.at, document))
            await self._passes.put("jwks", place.digest, shared, HELD_SECONDS)
        return True

    async def _shared(self, place: _Place) -> _Shared | None:
        try:
            document = await self._passes.get("jwks", place.digest)
            return None if document is None else msgspec.msgpack.decode(document, type=_Shared)
        except (StoreUnavailable, msgspec.MsgspecError):
            return None

    def _take(self, held: _Held, shared: _Shared | None) -> bool:
        """Take what was shared, if it is usable; whether it was."""
        if shared is None:
            return False
        try:
            held.take(shared.document, min(shared.at, self._epoch()))
        except UnusableKeys:
            return False
        held.next_look = max(held.next_look, held.at + REFRESH_SECONDS)
        return True

    def _note(self, place: _Place, held: _Held, fault: str | None) -> None:
        """Log what is new about it."""
        if fault is not None and held.fault is None:
            self._log.warning("the keys of an issuer cannot be fetched", url=place.shown, because=fault)
        elif fault is None and held.fault is not None:
            self._log.info("the keys of an issuer are fetched again", url=place.shown)
        held.fault = fault

    def _of(self, place: _Place) -> _Held:
        held = self._held.get(place)
        if held is None:
            held = self._held[place] = _Held()
        return held

    def _status(self, place: _Place, issuer: JwtSettings) -> KeySetStatus:
        held, keys = self._of(place), self.held(issuer)
        age = None if keys is None else round(self._epoch() - held.at, 1)
        return KeySetStatus(place.shown, 0 if keys is None else len(keys.keys), age, held.fault)

    def __repr__(self) -> str:
        return f"<KeySets of {len(self._held)} places>"
