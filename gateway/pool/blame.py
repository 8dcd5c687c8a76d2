"""Distinguish a request's own fault from an endpoint's, among its 500s.

Contract §5: llama.cpp and LiteLLM answer so to a client's mistake.
"""

from __future__ import annotations

from gateway.pool.pool import Lease


class Blame:
    """Collect the texts of one request's 500s, for each pool tried.

    It is the request's own fault as long as every endpoint tried answers with the same words.

    A verdict waits while that may still turn out: `add` gives back the leases whose failure counts as any, `shared`
    those that all met the same words once the pool has no more endpoints.
    """

    __slots__ = ("_is_shared", "_suspects", "_words")

    def __init__(self) -> None:
        self._words: bytes | None = None
        self._suspects: list[Lease] = []
        self._is_shared = True

    def add(self, lease: Lease, words: bytes | None) -> list[Lease]:
        """Add an attempt's outcome.

        `words`: those of a 500, None for any other outcome, which has its own verdict.

        Returns the leases whose 500 is known not to be the request's, this one's or those of before.
        """
        if words is None:
            return self._break([])
        if not self._is_shared or (self._words is not None and words != self._words):
            return self._break([lease])
        self._words = words
        self._suspects.append(lease)
        return []

    def shared(self) -> list[Lease]:
        """Return the leases that all met the same text.

        At a pool's end; empty where they did not.
        """
        suspects, self._suspects = self._suspects, []
        return suspects

    def _break(self, also: list[Lease]) -> list[Lease]:
        self._is_shared = False
        return [*self.shared(), *also]

    def __repr__(self) -> str:
        return f"<Blame: {len(self._suspects)} endpoints with the same words{'' if self._is_shared else ', broken'}>"
