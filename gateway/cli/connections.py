"""Reach store, ledger and upstreams, as a gateway would."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from gateway.cli.console import print_line
from gateway.cli.stored_records import reading
from gateway.cli.trials.probe import probe
from gateway.cli.usage import is_missing
from gateway.config import Settings
from gateway.errors import QueryFailed, StoreUnavailable
from gateway.usage import UsageQuery


async def connect(settings: Settings) -> int:
    """Print a line each; return how many failed. Nothing is written anywhere."""
    faults = {"store": await _store_fault(settings), "ledger": await _ledger_fault(settings)}
    kinds = {"store": settings.store.kind, "ledger": settings.usage.url.reveal().partition(":")[0]}
    for name, fault in faults.items():
        print_line(f"FAIL  {name}: {fault}" if fault else f"ok    {name}: {kinds[name]}")
    return sum(map(bool, faults.values())) + await probe(settings)


async def _store_fault(settings: Settings) -> str:
    """Why it cannot be used; empty where it can."""
    try:
        async with reading(settings):
            pass
    except StoreUnavailable as error:
        return error.message
    return _unwritable(Path(settings.store.path)) if settings.store.kind == "embedded" else ""


async def _ledger_fault(settings: Settings) -> str:
    """Why it cannot be used; empty where it can."""
    journal = _unwritable(Path(settings.usage.journal))
    if journal or is_missing(settings):
        return journal
    from gateway.usage.sql.reader import Reader  # SQLAlchemy takes a quarter of a second

    today = datetime.now(UTC).date()
    reader = Reader(settings.usage.url, may_be_fresh=True)
    try:
        await reader.report(UsageQuery(today, today), "day")
    except QueryFailed as error:
        return str(error)
    finally:
        await reader.close()
    return ""


def _unwritable(directory: Path) -> str:
    """Why this user cannot write there; empty where it can."""
    there = next((each for each in (directory, *directory.parents) if os.path.lexists(each)), directory)
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return ""
    return f"{there} is no directory that this user may write to"
