"""What the ledger's tests share: records with defaults, rows as they lie in the database, a log that can be read."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine, create_engine, text
from structlog.testing import LogCapture
from structlog.typing import FilteringBoundLogger

from gateway.types import Secret
from gateway.usage import Admission, Ledger, Settlement
from gateway.usage.journal.journal import Journal
from gateway.usage.sql.drivers import drivername_of
from gateway.usage.sql.table import TRANSACTION

OpenLedger = Callable[..., Awaitable[Ledger]]
PATIENCE_SECONDS = 20
_numbers = itertools.count(1)


def admission(request_id: str | None = None, **fields: Any) -> Admission:
    defaults: dict[str, Any] = {
        "client_request_id": None,
        "time": time.time(),
        "user": 42,
        "organisation": 10,
        "key": "laptop",
        "model": "gpt-4o",
        "route": "/v1/chat/completions",
        "streamed": False,
        "counted_on": "user:42",
    }
    return Admission(request_id=request_id or f"{next(_numbers):08d}{os.urandom(8).hex()}", **(defaults | fields))


def settlement(request_id: str, **fields: Any) -> Settlement:
    defaults: dict[str, Any] = {
        "served_model": "gpt-4o",
        "endpoint": "openai-a",
        "status": 200,
        "outcome": "ok",
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "usage_source": "reported",
        "cost_nano": 1_000,
        "attempts": 1,
    }
    return Settlement(request_id=request_id, **(defaults | fields))


def serve(ledger: Ledger, count: int = 1, **fields: Any) -> list[str]:
    """Admits and settles requests. Returns their ids."""
    admitted = [admission(**fields) for _ in range(count)]
    for each in admitted:
        ledger.admit(each)
        ledger.settle(settlement(each.request_id))
    return [each.request_id for each in admitted]


def stored(url: Secret) -> list[dict[str, Any]]:
    """All rows, seen by a connection of the test's own; without what PostgreSQL writes by itself."""
    engine = engine_of(url)
    try:
        with engine.connect() as connection:
            rows = connection.execute(text("select * from ai_usage order by time_ms")).mappings().all()
        return [{name: value for name, value in row.items() if name != TRANSACTION} for row in rows]
    finally:
        engine.dispose()


def engine_of(url: Secret) -> Engine:
    """A way to the database beside the gateway's own."""
    scheme, _, rest = url.reveal().partition("://")
    return create_engine(f"{drivername_of(scheme)}://{rest}")


def outcomes(url: Secret) -> dict[str, str]:
    return {row["request_id"]: row["outcome"] for row in stored(url)}


def sqlite_url(path: Path) -> Secret:
    return Secret(f"sqlite:///{path}")


def capturing_log() -> tuple[FilteringBoundLogger, list[Any]]:
    capture = LogCapture()
    log: FilteringBoundLogger = structlog.wrap_logger(
        None, processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(0)
    )
    return log.bind(), capture.entries


async def eventually(condition: Callable[[], object]) -> None:
    """Waits for something that the ledger's threads do and tell nobody."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - threads set no asyncio.Event
            await asyncio.sleep(0.01)


def program(name: str, *arguments: object) -> subprocess.Popen[bytes]:
    """Starts one of the programs beside this file, with pipes."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name(name)), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def segment_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.journal"))


def leave_journal(directory: Path, lines: Iterable[bytes]) -> Path:
    """A journal as a dead process leaves it."""
    journal = Journal(directory, max_bytes=10**9)
    for line in lines:
        journal.carry(line)
    (segment,) = journal.segments.all()
    journal.segments.close(keep=True)
    return segment.path
