"""Settle batches and background responses when they are over.

Whether or not anybody asks. One worker of all looks after running work, each minute; whoever reads an object that has
ended settles it at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple, Self

import orjson
from structlog.typing import FilteringBoundLogger

from gateway.batches.batch_lines import OPERATIONS
from gateway.batches.kept_answers import KeptAnswers
from gateway.batches.output_file import OutputSum
from gateway.dialects import openai
from gateway.dialects.base import Operation
from gateway.errors import ClientFault, GatewayError
from gateway.limits import estimated_usage
from gateway.objects.index import ObjectIndex
from gateway.objects.record import ObjectRecord, Unsettled
from gateway.proxy.books.accounting import with_seen
from gateway.proxy.books.bookings import Bookings, Deferred, Used, card_of, deferred_in
from gateway.proxy.keeping.answer_objects import is_unfinished
from gateway.proxy.keeping.refresher import Refresher, Seen
from gateway.proxy.usage_meter import UsageMeter
from gateway.store.base import Catalogue
from gateway.types import Outcome, Usage
from gateway.usage import UsageSource

POLL_SECONDS = 60.0
LEASE_FACTOR = 1.5  # of the interval: so long nobody else looks after running work
AWAY_SECONDS = 86_400.0  # after that what cannot be read is settled by its reservation
CONTENT_SECONDS = 600.0


class View(NamedTuple):
    """The present configuration, and how to read objects by it."""

    catalogue: Catalogue
    refresher: Refresher


class Settler:
    """Looks after work that goes on after its request.

    `poll_seconds`: between two rounds. `away_seconds`: how long an upstream may be away.
    """

    def __init__(
        self,
        index: ObjectIndex,
        bookings: Bookings,
        view: Callable[[], Awaitable[View]],
        log: FilteringBoundLogger,
        *,
        poll_seconds: float = POLL_SECONDS,
        away_seconds: float = AWAY_SECONDS,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        """`view`: gives the present one. Raises StoreUnavailable."""
        self._index = index
        self._bookings = bookings
        self._view = view
        self._log = log
        self._poll_seconds = poll_seconds
        self._away_seconds = away_seconds
        self._epoch = epoch
        self._away_since: dict[str, float] = {}  # of what could not be read, by id
        self._polling: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._polling = asyncio.get_running_loop().create_task(self._poll_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._running, *([self._polling] if self._polling is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def poll(self) -> None:
        """Look at all running work, if that is this worker's to do."""
        if not await self._index.claim(self._poll_seconds * LEASE_FACTOR):
            return
        keeping = asyncio.get_running_loop().create_task(self._keep_claim())
        try:
            await self._look_at_all(await self._index.unsettled())
        finally:
            keeping.cancel()

    async def _keep_claim(self) -> None:
        """Renew the lease for as long as a round takes.

        It may read files of many minutes.
        """
        while True:
            await asyncio.sleep(self._poll_seconds / 2)
            with suppress(GatewayError):  # whoever else takes over books nothing twice
                await self._index.claim(self._poll_seconds * LEASE_FACTOR)

    async def _look_at_all(self, running: list[Unsettled]) -> None:
        known = {work.id for work in running}
        self._away_since = {each: since for each, since in self._away_since.items() if each in known}
        for work in running:
            for look_after in (self._bookings.hold, self.look):
                try:
                    await look_after(work)
                except GatewayError as fault:
                    self._log.warning("running work cannot be looked after now", object=work.id, because=fault.message)

    async def look(self, work: Unsettled, *, is_last: bool = False) -> None:
        """Read an object, and settle it where it is over.

        `is_last`: it is about to be deleted, so it is settled by what it shows. Raises StoreUnavailable.
        """
        view = await self._view()
        seen = await view.refresher.look(_record_of(work))
        if seen is not None and seen.status == 200:
            self._away_since.pop(work.id, None)
            await self._settle(work, seen, view, is_last=is_last)
        elif is_last or self._is_lost(work, seen):
            await self._book_reservation(work, view)

    def saw(self, work: Unsettled, body: bytes) -> None:
        """Settle by an answer that a client is given, beside its way."""
        if _is_over(work, body):
            task = asyncio.get_running_loop().create_task(self._settle_seen(work, body))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _settle_seen(self, work: Unsettled, body: bytes) -> None:
        try:
            await self._settle(work, Seen(200, body), await self._view(), is_last=False)
        except GatewayError as fault:
            self._log.warning("ended work is settled later", object=work.id, because=fault.message)

    async def _poll_on(self) -> None:
        while True:
            try:
                await self.poll()
            except GatewayError as fault:
                self._log.warning("running work cannot be looked after now", because=fault.message)
            except Exception:
                self._log.exception("a mistake of the gateway, looking after running work")
            await asyncio.sleep(self._poll_seconds)

    def _is_lost(self, work: Unsettled, seen: Seen | None) -> bool:
        """Whether an object cannot be read any more."""
        if seen is not None and seen.status == 404:
            return True
        since = self._away_since.setdefault(work.id, self._epoch())
        return self._epoch() - since >= self._away_seconds

    async def _settle(self, work: Unsettled, seen: Seen, view: View, *, is_last: bool) -> None:
        if not is_last and not _is_over(work, seen.body):
            return
        deferred = deferred_in(work)
        if deferred.is_batch:
            used = await self._used_by_batch(work, deferred, seen.body, view)
            if used is None and is_last:
                used = _reserved(deferred)
        else:
            used = _used_by_response(deferred, seen.body)
        if used is not None:
            await self._bookings.book(work, used, view.catalogue)
            self._log.info("work settled", object=work.id, tokens=used.usage.total_tokens, usage=used.source)

    async def _book_reservation(self, work: Unsettled, view: View) -> None:
        await self._bookings.book(work, _reserved(deferred_in(work)), view.catalogue)
        self._log.warning("work settled by its reservation: it cannot be read any more", object=work.id)

    async def _used_by_batch(self, work: Unsettled, deferred: Deferred, body: bytes, view: View) -> Used | None:
        """Return what a batch reports, else its output's sum. None: later."""
        fields = _loaded(body)
        output, reported = fields.get("output_file_id"), _reported_by_batch(fields, deferred, body)
        if not isinstance(output, str) or not output:
            return reported or _of_nothing(fields)
        operation = OPERATIONS.get(str(fields.get("endpoint")))
        if reported is None:
            return await self._summed(work, deferred, operation, output, view)
        card = card_of(deferred, view.catalogue)
        by_line = card is not None and card.is_by_request
        if operation is None or not (by_line or KeptAnswers(operation, work)):
            return reported
        summed = await self._summed(work, deferred, operation, output, view)
        is_priced = by_line and summed is not None and summed.source == "reported"
        return summed and (reported._replace(nano=summed.nano) if is_priced else reported)

    async def _summed(
        self, work: Unsettled, deferred: Deferred, operation: Operation | None, output: str, view: View
    ) -> Used | None:
        """Read the output, and remember what its answers are; None: later."""
        if operation is None:
            return _reserved(deferred)
        prompt = deferred.prompt_tokens // max(1, deferred.requests)
        kept = KeptAnswers(operation, work)
        found = OutputSum(operation, card_of(deferred, view.catalogue), prompt, kept.note if kept else None)
        try:
            status = await view.refresher.follow(work.account, work.model, output, found.feed)
            found.end()
        except ClientFault:  # no line of any batch is as long
            return _reserved(deferred)
        if status != 200:
            return _reserved(deferred) if self._is_lost(work, None if status is None else Seen(status, b"")) else None
        await kept.remember(self._index)
        source: UsageSource = "estimated" if found.is_estimated else "reported"
        return Used(found.usage, source, "ok", found.answers, found.nano)

    def __repr__(self) -> str:
        return f"<Settler, every {self._poll_seconds:g} s>"


def _reported_by_batch(fields: dict[str, Any], deferred: Deferred, body: bytes) -> Used | None:
    """Return what a batch says of itself; None where that is nothing."""
    contents = openai.USAGE_READER.contents(body)
    usage = contents.usage if contents is not None else None
    if usage is None or not usage.total_tokens:
        return None
    counts = fields.get("request_counts")
    done = counts.get("completed") if isinstance(counts, dict) else None
    requests = done if isinstance(done, int) and 0 <= done <= deferred.requests else deferred.requests
    return Used(usage, "reported", "ok", requests)


def _of_nothing(fields: dict[str, Any]) -> Used:
    """Return the use of a batch that has written nothing."""
    outcome: Outcome = "upstream_error" if fields.get("status") == "failed" else "ok"
    return Used(Usage(), "none" if fields.get("usage") is None else "reported", outcome, 0)


def _used_by_response(deferred: Deferred, body: bytes) -> Used:
    """Return what a response reports, else what its output shows."""
    meter = UsageMeter()
    view = meter.body_view(b"")
    view.feed(body)
    view.end()
    with suppress(ValueError):
        meter.whole(view, is_text=True)
    failed = _loaded(body).get("status") == "failed"
    if meter.usage is not None and meter.usage.total_tokens:
        return Used(with_seen(meter.usage, meter), "reported", "upstream_error" if failed else "ok")
    estimate = estimated_usage(deferred.prompt_tokens, meter.text_bytes)
    usage = Usage(estimate.prompt_tokens, estimate.completion_tokens, estimate.total_tokens)
    return Used(usage, "estimated", "upstream_error" if failed else "ok")


def _reserved(deferred: Deferred) -> Used:
    return Used(deferred.reserved, "estimated", "ok", deferred.requests, deferred.cost_nano)


def _record_of(work: Unsettled) -> ObjectRecord:
    return ObjectRecord(id=work.id, kind=work.kind, owner=work.owner, account=work.account, model=work.model)


def _is_over(work: Unsettled, body: bytes) -> bool:
    fields = _loaded(body)
    return fields.get("id") == work.id and not is_unfinished(work.kind, fields)


def _loaded(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}
