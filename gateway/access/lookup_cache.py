"""Cache look-ups for a moment, shared by a caller's requests.

Records themselves are remembered by the store (`store.cached`), and all that decides how long is in `store.freshness`:
what is here belongs to one generation of the records, and is dropped as a whole when the next one begins. A reload
makes a new `LookUps`.
"""

from __future__ import annotations

from collections.abc import Hashable

import msgspec

from gateway.limits import Terms
from gateway.store.base import Catalogue, GrantStore
from gateway.store.freshness import Freshness
from gateway.types import Access, Caller

MOST_CALLERS = 2_000


class Known(msgspec.Struct, frozen=True, eq=False):
    """A caller who was looked up.

    `scopes`: those for which nothing more is asked of it; None among them stands for a route that needs none.
    """

    caller: Caller
    scopes: frozenset[str | None]


class Use(msgspec.Struct, frozen=True, eq=False):
    """A caller's resolved model and its limits' scopes."""

    caller: Caller
    access: Access
    terms: Terms


class LookUps:
    """Cache look-ups for one generation of records.

    `begin` comes before each request's use; what is absent is put there by whoever looks it up, who bounds `callers`.
    """

    __slots__ = ("_freshness", "_seen", "_uses", "callers", "catalogue", "features")

    def __init__(self, freshness: Freshness) -> None:
        self._freshness = freshness
        self._seen = -1
        self._forget()

    def begin(self) -> None:
        """Drop everything on a new generation of the records."""
        freshness = self._freshness
        if freshness.clock() >= freshness.renew_at:
            freshness.renew()
        if freshness.generation != self._seen:
            self._seen = freshness.generation
            self._forget()

    def _forget(self) -> None:
        # New ones, not emptied ones: what is being looked up now may be of the old generation when it is put in.
        self.features: dict[str, bool] = {}
        self.callers: dict[Hashable, Known] = {}  # by what they have shown
        self.catalogue: Catalogue | None = None
        self._uses: dict[tuple[int, str], Use] = {}

    async def find_catalogue(self, store: GrantStore) -> Catalogue:
        """Ask the store for the models, and keep them.

        Unless a new generation began meanwhile.
        """
        generation = self._seen
        catalogue = await store.catalogue()
        if generation == self._seen:
            self.catalogue = catalogue
        return catalogue

    def use(self, caller: Caller, name: str) -> Use | None:
        """Find what this caller's `name` for a model led to."""
        known = self._uses.get((id(caller), name))
        # The caller is held besides: the number alone may be another object's by now.
        return known if known is not None and known.caller is caller else None

    def remember(self, name: str, use: Use) -> None:
        """Keep what `use.caller`'s `name` for a model leads to."""
        if len(self._uses) >= MOST_CALLERS:  # most of them may be of callers who are known no longer
            self._uses.clear()
        self._uses[id(use.caller), name] = use

    def __repr__(self) -> str:
        return f"<LookUps of {len(self.callers)} callers>"
