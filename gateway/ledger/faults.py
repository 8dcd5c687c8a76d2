"""What can go wrong with the ledger, as its callers see it. The texts are for operators and hold no secrets."""

from __future__ import annotations


class JournalUnavailable(Exception):
    """The journal took nothing: its disk refuses, or it has reached its bound. The request must not go upstream."""


class LedgerUnusable(Exception):
    """The ledger cannot be opened as it is configured: the database's URL is wrong or its driver is missing."""


class QueryFailed(Exception):
    """The database gave no answer to a usage query: it is away, has no table yet, or took longer than it may."""
