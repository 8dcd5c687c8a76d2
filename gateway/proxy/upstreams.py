"""The pools and outlets of all models; those that may answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

from gateway.errors import ModelNotFound, NotTranslatable
from gateway.http.memory_budget import Held
from gateway.pool import Cause, Pool
from gateway.proxy.ask import Ask
from gateway.proxy.endpoint_client import EndpointClient
from gateway.store.base import Catalogue
from gateway.types import Id, Model, ProtocolName, id_text

_COPIES = 2  # of a large body's texts, where they are put in other words: as values, and as bytes


class Upstream:
    """One model's pool and its outlets (by endpoint id as text).

    `spoken_by_all`: the protocols that each of its endpoints speaks.
    """

    __slots__ = ("guarded", "model", "outlets", "pool", "spoken_by_all")

    def __init__(self, model: Model, chance: random.Random, *, guarded: bool) -> None:
        self.model = model
        self.guarded = guarded
        spoken = [frozenset(endpoint.protocols) for endpoint in model.endpoints]
        self.spoken_by_all = spoken[0].intersection(*spoken[1:]) if spoken else frozenset[ProtocolName]()
        self.pool = Pool(model, chance)
        self.outlets = {
            id_text(each.id): EndpointClient(each, model=model, guarded=guarded) for each in model.endpoints
        }

    def __repr__(self) -> str:
        return f"<Upstream of {self.model.name}: {self.pool!r}>"


class Upstreams:
    """Keep a pool for each model.

    Made when a model is first asked for; a changed record gets a new pool that adopts the old one's state.
    `latest`: those that `of` has returned, by the model's id; each is right for its own `model` only.
    """

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance if chance is not None else random.Random()
        self.latest: dict[Id, Upstream] = {}
        self._known: dict[str, Upstream] = {}
        # Heard of before the model was first asked for here; by (model, endpoint): cause and end on the loop's clock.
        self._shared: dict[tuple[str, str], tuple[Cause, float]] = {}

    def of(self, model: Model, catalogue: Catalogue) -> Upstream:
        """Return the pool of a model of this catalogue.

        Endpoints of models that are not gateway.yaml's are guarded.
        """
        key = id_text(model.id)
        known = self._known.get(key)
        if known is None or known.model is not model:
            if known is not None:
                self.latest.pop(known.model.id, None)
            known = self._renewed(known, model, guarded=not catalogue.is_in_file(model))
            self._known[key] = known
        self.latest[model.id] = known
        return known

    def known(self, model_id: str) -> Upstream | None:
        """Return the pool of this model id, once asked for."""
        return self._known.get(model_id)

    def _renewed(self, known: Upstream | None, model: Model, *, guarded: bool) -> Upstream:
        if known is not None and known.model == model and known.guarded == guarded:
            # Read again, and nothing about it has changed: what has been learnt of its endpoints stays as well.
            known.model = model
            return known
        fresh = Upstream(model, self._chance, guarded=guarded)
        if known is not None:
            fresh.pool.adopt(known.pool)
        self._apply_shared(fresh)
        return fresh

    def apply_shared(self, model_id: str, endpoint_id: str, cause: Cause | None, left_seconds: float) -> None:
        """Apply another worker's cooldown, or an admin's end of one.

        The endpoint cools for so long; with no cause, an admin has ended its cooldown.
        """
        now = asyncio.get_running_loop().time()
        if cause is None:
            self._shared.pop((model_id, endpoint_id), None)
            if (known := self._known.get(model_id)) is not None:
                known.pool.reset(endpoint_id)
            return
        self._shared = {about: news for about, news in self._shared.items() if news[1] > now}
        self._shared[model_id, endpoint_id] = cause, now + left_seconds
        if (known := self._known.get(model_id)) is not None:
            self._apply_shared(known)

    def _apply_shared(self, upstream: Upstream) -> None:
        now = asyncio.get_running_loop().time()
        for endpoint_id in upstream.outlets:
            news = self._shared.pop((id_text(upstream.model.id), endpoint_id), None)
            if news is not None:
                upstream.pool.cool(endpoint_id, news[0], news[1], now)

    def __iter__(self) -> Iterator[Upstream]:
        return iter(list(self._known.values()))


async def asked_of_own_model(ask: Ask, memory: Held | None) -> Ask:
    """Return the request as its own model's endpoints take it.

    Raises ModelNotFound where none of them speaks its protocol, NotTranslatable, and Overloaded.
    """
    model = ask.access.model
    asked = ask.as_asked_of(model) if ask.is_cheap_to_ask(model) else await _asked_in_thread(ask, model, memory)
    if asked is None:
        spoken = " and ".join(sorted({each for endpoint in model.endpoints for each in endpoint.protocols}))
        raise ModelNotFound(
            f"This model does not serve `{ask.operation.route}`: its endpoints speak {spoken}.", param="model"
        )
    return asked


def candidates(ask: Ask, asked: Ask, upstreams: Upstreams) -> Iterator[tuple[Upstream, Ask | None]]:
    """Yield the model's own pool, then its fallbacks'.

    A grant of the first covers them. `asked`: what its own endpoints are asked; None where `asked_of_fallback` says it.
    For what needs no model, the pools of all models with endpoints of the object's account; what is pinned has no
    fallbacks.
    """
    model, catalogue = ask.access.model, ask.catalogue
    if ask.pin is not None and ask.needs_no_model:
        yield from ((upstreams.of(each, catalogue), asked) for each in ask.pin.models)
        return
    yield upstreams.of(model, catalogue), asked
    if ask.operation.has_fallbacks and ask.pin is None:
        for reference in model.fallbacks:
            fallback = catalogue.by_id(reference)
            if fallback is not None and _serves(fallback, ask):
                yield upstreams.of(fallback, catalogue), None


def _serves(model: Model, ask: Ask) -> bool:
    return model.operations is None or ask.operation.kind in model.operations


async def asked_of_fallback(ask: Ask, model: Model, memory: Held | None) -> Ask | None:
    """Return the request as a fallback's endpoints take it, or None.

    `memory`: what the request may hold. Raises Overloaded.
    """
    try:
        return ask.as_asked_of(model) if ask.is_cheap_to_ask(model) else await _asked_in_thread(ask, model, memory)
    except NotTranslatable:
        return None


async def _asked_in_thread(ask: Ask, model: Model, memory: Held | None) -> Ask | None:
    """Translate a large request while the loop goes on."""
    if memory is not None:
        memory.grow(_COPIES * ask.body.size)
    return await asyncio.to_thread(ask.as_asked_of, model)
