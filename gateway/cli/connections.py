"""Reach store, ledger and upstreams, as a gateway would."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

from gateway.assembly import fetcher, proxy_of
from gateway.cli.console import print_line
from gateway.cli.store.places import left_in_redis
from gateway.cli.stored_records import reading
from gateway.cli.trials.probe import probe
from gateway.cli.usage import is_missing
from gateway.config import Settings
from gateway.errors import QueryFailed, StoreUnavailable, TransportError
from gateway.http.client import Transport
from gateway.jose.key_set import KeySet, UnusableKeys
from gateway.usage import UsageQuery

COLLECTOR_SECONDS = 3.0


async def connect(settings: Settings) -> int:
    """Print a line each; return how many failed. Nothing is written anywhere."""
    faults = {"store": await _store_fault(settings), "ledger": await _ledger_fault(settings)}
    kinds = {"store": settings.store.kind, "ledger": settings.usage.url.reveal().partition(":")[0]}
    for name, fault in faults.items():
        print_line(f"FAIL  {name}: {fault}" if fault else f"ok    {name}: {kinds[name]}")
    if (left := await left_in_redis(settings)) is not None:
        print_line(f"warning: {left}")
    failed = sum(map(bool, faults.values())) + await _issuers_at_fault(settings) + await probe(settings)
    return failed + await _collector_at_fault(settings)


async def _collector_at_fault(settings: Settings) -> int:
    """Try the collector of spans; return 1 if it fails."""
    telemetry = settings.telemetry
    if telemetry.otlp is None:
        return 0
    from gateway.observability.otel.sink import Sink  # the SDK takes a third of a second

    fault = await asyncio.to_thread(lambda: Sink(telemetry, COLLECTOR_SECONDS).export([]))
    print_line(f"FAIL  collector of spans: {fault}" if fault else "ok    collector of spans")
    return int(fault is not None)


async def _issuers_at_fault(settings: Settings) -> int:
    """Fetch each issuer's keys; return how many failed."""
    transport = Transport(proxy=proxy_of(settings))
    fetch_keys, failed = fetcher(transport), 0
    try:
        for issuer in settings.auth.jwt:
            about = f"keys of {issuer.issuer}"
            try:
                found = KeySet.parse(issuer.jwks or await fetch_keys(issuer.jwks_url or "", issuer.ca_file))
            except (TransportError, UnusableKeys) as error:
                failed += 1
                print_line(f"FAIL  {about}: {'the JWKS ' * isinstance(error, UnusableKeys)}{error}")
            else:
                passed_over = f", {found.passed_over} that are of no use here" if found.passed_over else ""
                print_line(f"ok    {about}: {len(found.keys)} usable{passed_over}")
    finally:
        await transport.close()
    return failed


async def _store_fault(settings: Settings) -> str:
    """Why it cannot be used; empty where it can."""
    try:
        async with reading(settings) as store:
            if (fault := store.status().detail) is not None:  # a part of a Cluster, or the notices of changes
                return fault
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
