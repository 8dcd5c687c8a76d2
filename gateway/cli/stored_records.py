"""Open the run-time store beside a running gateway.

Reading never takes the gateway's place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from gateway.assembly import record_store
from gateway.cli.snapshot import Snapshot
from gateway.config import Settings
from gateway.errors import ConfigError, StoreUnavailable
from gateway.observability.logging import make_logger
from gateway.store.base import RecordStore

# Redis may be farther away than a gateway would put up with; a command is asked once and can wait.
CONNECT_SECONDS = 5.0
_LOOK_AGAIN_SECONDS = 0.02


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[RecordStore]:
    """Open the store to read. Raises StoreUnavailable.

    Where it cannot be read, before the block is entered.
    """
    if settings.store.kind == "embedded":
        yield Snapshot.of_directory(Path(settings.store.path))
        return
    async with _redis(settings) as store:
        yield store


@asynccontextmanager
async def writing(settings: Settings) -> AsyncIterator[RecordStore]:
    """Open the store to change it. Raises StoreUnavailable.

    Where that cannot be done here.
    """
    if settings.store.kind == "redis":
        async with _redis(settings) as store:
            yield store
        return
    try:
        embedded = record_store(settings, quiet_log())
    except ConfigError as error:
        raise StoreUnavailable("; ".join(error.problems)) from None
    try:
        yield embedded
    finally:
        await embedded.close()


def quiet_log() -> FilteringBoundLogger:
    """Return a log that drops all: commands report errors themselves."""
    return make_logger("console", level=logging.CRITICAL)


@asynccontextmanager
async def _redis(settings: Settings) -> AsyncIterator[RecordStore]:
    store = record_store(settings, quiet_log())
    try:
        await store.start()
        await _until_available(store)
        yield store
    finally:
        await store.close()


async def _until_available(store: RecordStore) -> None:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            # A store tells of its first failure as it does of success: in its state, which nobody can wait for.
            while not store.available and store.status().detail is None:  # noqa: ASYNC110 - it has no event for that
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    except TimeoutError:
        raise StoreUnavailable(f"Redis (`store.url`) did not answer within {CONNECT_SECONDS:g} s.") from None
    if not store.available:
        raise StoreUnavailable(f"Redis (`store.url`) cannot be asked: {store.status().detail}")
