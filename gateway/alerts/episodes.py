"""What begins and ends: refused credentials, cooldowns, an absent ledger.

Beginnings come from whoever sees them; the queue knows what runs, for all workers and after a restart. A cooldown ends
when its time is over, a credential's refusal with the next answer of its endpoint, the ledger's absence when the worker
that told of it finds it back.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal
from urllib.parse import quote, unquote

from gateway.alerts.event import Clock, event, time_text
from gateway.alerts.queue import AlertQueue, Episode
from gateway.alerts.sender import Receiver
from gateway.pool import Cause, Cooldown
from gateway.store.base import Catalogue
from gateway.types import Id, id_text

_LOOK_SECONDS = 5.0
_BUSY_LOOK_SECONDS = 1.0  # while something runs
_SEEN_SECONDS = 30.0  # for so long the worker that saw the ledger go is waited for
_MOST_BEGUN = 1_000
_FOR_EVER = 2.0**40

Sort = Literal["credential", "cooldown", "ledger"]
_TYPES: dict[Sort, tuple[str, str, str]] = {  # the word of the configuration, the types of beginning and end
    "credential": ("credentials", "credential.refused", "credential.accepted"),
    "cooldown": ("cooldowns", "pool.cooling", "pool.recovered"),
    "ledger": ("ledger", "ledger.away", "ledger.back"),
}

_SORTS: dict[str, Sort] = {"credential": "credential", "cooldown": "cooldown", "ledger": "ledger"}

Endpoint = tuple[str, str]  # ids of model and endpoint, as text


class Episodes:
    """Report beginnings and ends; see the module.

    `watch_answers`: called with True while answers are to be told to `answered`.
    """

    def __init__(
        self,
        queue: AlertQueue,
        salt: str,
        catalogue: Callable[[], Awaitable[Catalogue]],
        ledger_is_well: Callable[[], bool],
        watch_answers: Callable[[bool], None],
        wake: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._queue = queue
        self._salt = salt
        self._catalogue = catalogue
        self._ledger_is_well = ledger_is_well
        self._watch_answers = watch_answers
        self._wake = wake
        self._clock = clock
        self._worker = os.urandom(8).hex()
        self._receivers: dict[str, tuple[str, ...]] = {}
        self._begun: dict[str, tuple[Episode, dict[str, Any]]] = {}  # to be told to the queue
        self._refused: dict[Endpoint, float] = {}  # since when, on the epoch's clock
        self._accepted: set[Endpoint] = set()
        self._look_at = 0.0

    def configure(self, receivers: Iterable[Receiver]) -> None:
        """Take the receivers, by the events that they wish for."""
        self._receivers = {
            word: tuple(each.id for each in receivers if word in each.settings.events) for word, _, _ in _TYPES.values()
        }
        self._look_at = 0.0

    # -- what is seen

    def cooled(self, cooldown: Cooldown) -> None:
        """Note a cooldown that begins, or whose end moves out."""
        refused = cooldown.cause is Cause.CREDENTIALS
        about = id_text(cooldown.model_id), id_text(cooldown.endpoint_id)
        now = self._clock()
        if refused and self._wanted("credential"):
            self._refused.setdefault(about, now)
            self._watch_answers(True)
        if cooldown.wait_ms <= 0 or not self._wanted("credential" if refused else "cooldown"):
            return
        until = now + cooldown.wait_ms / 1000
        data: dict[str, Any] = _about(cooldown.model_id, cooldown.model_name, cooldown.endpoint_id)
        if not refused:
            data |= {"cause": cooldown.cause.value, "until": time_text(until)}
        self._note("credential" if refused else "cooldown", about, now, _FOR_EVER if refused else until, data)

    def answered(self, model_id: Id, endpoint_id: Id, began: float) -> None:
        """Note an endpoint's good answer.

        `began`: when its request began (seconds since 1970).
        """
        about = id_text(model_id), id_text(endpoint_id)
        since = self._refused.get(about)
        if since is not None and began >= since:
            self._accepted.add(about)
            self._look_at = 0.0

    # -- behind it

    async def look(self) -> None:
        """Queue what has begun and what is over. Raises StoreUnavailable."""
        await self._begin_noted()
        now = self._clock()
        if now < self._look_at or not any(self._receivers.values()):
            return
        is_well = self._ledger_is_well()
        if not is_well and self._wanted("ledger"):
            self._note("ledger", ("", ""), now, now + _SEEN_SECONDS, {})
            await self._begin_noted()
        running = await self._queue.episodes()
        for episode in running:
            if self._is_over(episode, now, is_well):
                await self._end(episode, now)
        self._refused = {_endpoint_of(each): each.began for each in running if _sort_of(each) == "credential"}
        for about in self._accepted:
            self._refused.pop(about, None)
        self._accepted.clear()
        self._watch_answers(bool(self._refused))
        self._look_at = now + (_BUSY_LOOK_SECONDS if running or not is_well else _LOOK_SECONDS)

    def _wanted(self, sort: Sort) -> bool:
        return bool(self._receivers.get(_TYPES[sort][0]))

    def _note(self, sort: Sort, about: Endpoint, now: float, until: float, data: dict[str, Any]) -> None:
        name = f"{sort}:{quote(about[0], safe='')}:{quote(about[1], safe='')}"
        if len(self._begun) < _MOST_BEGUN or name in self._begun:
            before = self._begun.get(name)
            began = now if before is None else before[0].began
            self._begun[name] = Episode(name, round(began, 3), round(until, 3), self._worker), data
            self._look_at = 0.0

    async def _begin_noted(self) -> None:
        for name, (episode, data) in list(self._begun.items()):
            word, begins, _ = _TYPES[_sort_of(episode)]
            made = event(self._salt, f"{name}:{episode.began}", begins, episode.began, data)
            if await self._queue.begin(episode, made, self._receivers[word]):
                self._wake()
            if self._begun.get(name) == (episode, data):
                del self._begun[name]

    def _is_over(self, episode: Episode, now: float, ledger_is_well: bool) -> bool:
        sort = _sort_of(episode)
        if sort == "credential":
            return _endpoint_of(episode) in self._accepted
        if sort == "cooldown":
            return episode.until <= now
        return ledger_is_well and (episode.worker == self._worker or episode.until <= now)

    async def _end(self, episode: Episode, now: float) -> None:
        sort = _sort_of(episode)
        word, _, ends = _TYPES[sort]
        data = {} if sort == "ledger" else await self._about_now(episode)
        data |= {"since": time_text(episode.began)}
        made = event(self._salt, f"{episode.name}:{episode.began}:end", ends, now, data)
        if await self._queue.end(episode.name, episode.began, made, self._receivers[word], now):
            self._wake()

    async def _about_now(self, episode: Episode) -> dict[str, Any]:
        model_id, endpoint_id = _endpoint_of(episode)
        model = (await self._catalogue()).by_id(model_id)
        if model is None:
            return _about(model_id, None, endpoint_id)
        known = next((each.id for each in model.endpoints if id_text(each.id) == endpoint_id), endpoint_id)
        return _about(model.id, model.name, known)


def _about(model: Id, name: str | None, endpoint: Id) -> dict[str, Any]:
    return {"model": model, "name": name, "endpoint": endpoint}


def _sort_of(episode: Episode) -> Sort:
    return _SORTS[episode.name.partition(":")[0]]


def _endpoint_of(episode: Episode) -> Endpoint:
    _, model, endpoint = episode.name.split(":")
    return unquote(model), unquote(endpoint)
