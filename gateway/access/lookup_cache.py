"""What was looked up a moment ago, so that a busy caller's requests share one look-up.

Everything in it is dropped together: when a record changes, when gateway.yaml is read anew, and after
`REMEMBERED_SECONDS` in any case, for changes that nobody tells of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from gateway.store.base import Catalogue
from gateway.types import Access, Caller

# Short beside the 1 s within which a revocation that is published must hold.
REMEMBERED_SECONDS = 0.25
_MOST_CALLERS = 2_000


class Moment:
    """`begin` comes before each use; what is not there is looked up by whoever wants it, and put there."""

    __slots__ = ("_accesses", "_clock", "_until", "callers", "catalogue", "features")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = 0.0
        self.forget()

    def begin(self) -> None:
        """Forgets everything where the moment is over, or holds too much."""
        now = self._clock()
        if now >= self._until or len(self.callers) >= _MOST_CALLERS:
            self.forget()
            self._until = now + REMEMBERED_SECONDS

    def forget(self) -> None:
        self._until = 0.0
        self.features: dict[str, bool] = {}
        self.callers: dict[Hashable, Caller] = {}  # by what they have shown
        self.catalogue: Catalogue | None = None
        self._accesses: dict[tuple[int, str], tuple[Caller, Access]] = {}

    def access(self, caller: Caller, name: str) -> Access | None:
        """What this caller's `name` for a model led to."""
        known = self._accesses.get((id(caller), name))
        # The caller is held besides: the number alone may be another object's by now.
        return known[1] if known is not None and known[0] is caller else None

    def remember_access(self, caller: Caller, name: str, access: Access) -> None:
        if len(self._accesses) < _MOST_CALLERS:
            self._accesses[id(caller), name] = caller, access

    def __repr__(self) -> str:
        return f"<Moment with {len(self.callers)} callers>"
