"""The pools and outlets of all models."""

from __future__ import annotations

import random
from collections.abc import Iterator

from gateway.pool import Pool
from gateway.relay.outlet import Outlet
from gateway.types import Model, id_text


class Upstream:
    """One model's pool and its outlets (by endpoint id as text)."""

    __slots__ = ("model", "outlets", "pool")

    def __init__(self, model: Model, chance: random.Random) -> None:
        self.model = model
        self.pool = Pool(model, chance)
        self.outlets = {id_text(endpoint.id): Outlet(endpoint) for endpoint in model.endpoints}

    def __repr__(self) -> str:
        return f"<Upstream of {self.model.name}: {self.pool!r}>"


class Upstreams:
    """Made when a model is first asked for; a changed record gets a new pool that adopts the old one's state."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance if chance is not None else random.Random()
        self._known: dict[str, Upstream] = {}

    def of(self, model: Model) -> Upstream:
        key = id_text(model.id)
        known = self._known.get(key)
        if known is None or known.model is not model:
            fresh = Upstream(model, self._chance)
            if known is not None:
                fresh.pool.adopt(known.pool)
            self._known[key] = known = fresh
        return known

    def __iter__(self) -> Iterator[Upstream]:
        return iter(list(self._known.values()))
