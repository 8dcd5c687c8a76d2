"""Errors that no client is answered with.

Of one attempt, of gateway.yaml, of the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

__all__ = [
    "ConfigError",
    "ConnectFailed",
    "ConnectTimedOut",
    "ConnectionCut",
    "DatabaseAway",
    "FirstByteTimedOut",
    "IdleTimedOut",
    "InvalidResponse",
    "JournalUnavailable",
    "LedgerError",
    "LedgerUnusable",
    "QueryFailed",
    "TooManyQueries",
    "TransportError",
]


class TransportError(Exception):
    """One attempt failed.

    The text is for operators (log, admin routes), never for clients.
    """


class ConnectFailed(TransportError):
    pass


class ConnectTimedOut(TransportError):
    pass


class FirstByteTimedOut(TransportError):
    pass


class ConnectionCut(TransportError):
    pass


class IdleTimedOut(TransportError):
    pass


class InvalidResponse(TransportError):
    pass


class ConfigError(Exception):
    """`problems` are lines of the form `FILE:LINE: path.to.key: what is wrong`.

    `files` are those that the configuration names by `${file:…}`, with their fingerprints: one may be what is missing.
    """

    def __init__(
        self, problems: Sequence[str], files: Mapping[str, tuple[int, int, int] | None] = MappingProxyType({})
    ) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
        self.files = files


class LedgerError(Exception):
    """A failure of the ledger, in words without secrets."""


class JournalUnavailable(LedgerError):
    """The journal took nothing: a full disk or its bound.

    The request must not go upstream.
    """


class LedgerUnusable(LedgerError):
    """The ledger's database URL is wrong or its driver missing."""


class QueryFailed(LedgerError):
    """The database gave no answer to a usage query."""


class TooManyQueries(LedgerError):
    """Too many usage queries run already."""


class DatabaseAway(LedgerError):
    """The database cannot be reached, or fell silent."""
