"""What can go wrong with the ledger, as its callers see it. The texts are for operators and hold no secrets."""

from __future__ import annotations


class JournalUnavailable(Exception):
    """The journal took nothing: its disk refuses, or it has reached its bound. The request must not go upstream."""


class LedgerUnusable(Exception):
    """The ledger cannot be opened as it is configured: the database's URL is wrong or its driver is missing."""


class QueryFailed(Exception):
    """The database gave no answer to a usage query: it is away or silent, or took longer than it may."""


class TooManyQueries(Exception):
    """So many reports are asked for already, of this caller or of all, that this one is not begun."""


class DatabaseAway(Exception):
    """No connection to the database can be had, or it fell silent on the one that there was."""
