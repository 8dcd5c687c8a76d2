"""Routes of usage: a user's, an organisation's, the caller's (contract §6).

As JSON, and whole as CSV.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from datetime import date
from typing import NamedTuple, get_args

import msgspec

from gateway.admin_records.editor import refuse_long_id
from gateway.api.router import Hit, Route, RouteHandler
from gateway.errors import InsufficientScope, InvalidRequest, Overloaded, QueryFailed, StoreUnavailable, TooManyQueries
from gateway.http.message import Headers
from gateway.http.reply import Answer, EventStream, Reply
from gateway.types import Caller, Id, id_from_text, id_text
from gateway.usage import Group, UsageQuery, UsageRecord
from gateway.usage.views import CSV_HEADER, UsageAnswer, answer_of, csv_line, days_asked

JSON = ("content-type", "application/json")
# So many characters of an export leave at once; what a slow reader does not take is not read from the database.
SENT_AT_ONCE = 32 * 1024
# At the start: what a report waits for the usage that the last process left in its journal.
FIRST_ROUND_SECONDS = 5.0

_GROUPS: tuple[Group, ...] = get_args(Group)


class Subject(NamedTuple):
    """Whose usage is asked for."""

    user: Id | None = None
    organisation: Id | None = None


FindSubject = Callable[[Hit], Awaitable[Subject]]


# -- whose: each of these lets nobody through who may not see it


async def user_in_path(hit: Hit) -> Subject:
    """Return the path's user, if the key may read it.

    One's own, with a key that may use models or read usage; another's with `usage:read` alone.
    """
    caller, wanted = hit.caller, hit.params["id"]
    if id_text(caller.user.id) == wanted:
        return await the_caller(hit)
    _check_reads_anyones(caller)
    refuse_long_id(wanted)
    store = hit.runtime.store
    return Subject(user=(await store.user(store.user_id(wanted))).id)


async def organisation_in_path(hit: Hit) -> Subject:
    """Return the path's organisation, for `usage:read` alone.

    Being a member is not enough to see what the others use.
    """
    _check_reads_anyones(hit.caller)
    wanted = hit.params["id"]
    refuse_long_id(wanted)
    known = await hit.runtime.store.organisation(wanted)
    return Subject(organisation=id_from_text(wanted) if known is None else known.id)


async def the_caller(hit: Hit) -> Subject:
    caller = hit.caller
    if not caller.may("ai:use"):
        _check_reads_anyones(caller)
    return Subject(user=caller.user.id)


def _check_reads_anyones(caller: Caller) -> None:
    if not caller.may("usage:read"):
        raise InsufficientScope("To see this usage a key needs the scope `usage:read`.")


# -- how it is told


def report(find: FindSubject) -> RouteHandler:
    """Totals and rows by `group` (default: `day`)."""

    async def handler(hit: Hit) -> Reply:
        usage = _asked(hit, await find(hit))
        group = _group(hit)
        if hit.request.method == "HEAD":
            return head_alone(hit, [JSON, ("x-request-id", hit.call.request_id)])
        with reading(hit):
            await until_reached(hit)
            found = await hit.runtime.ledger.reader.report(usage, group, whose=id_text(hit.caller.user.id))
        names = {} if group == "day" else await names_of(hit)
        return Answer(200, [JSON], msgspec.json.encode(answer_of(usage, found, group, names)))

    return handler


def export(find: FindSubject) -> RouteHandler:
    """Stream every request as a line of CSV.

    In order of time, sent as fast as it is read.
    """

    async def handler(hit: Hit) -> Reply:
        usage = _asked(hit, await find(hit))
        if hit.request.method == "HEAD":
            return head_alone(hit, _csv_headers(hit, usage))
        stream = EventStream()
        with reading(hit):
            await until_reached(hit)
            reader = hit.runtime.ledger.reader
        with reading(hit), reader.exporting(id_text(hit.caller.user.id)):
            try:
                async with aclosing(reader.export(usage)) as records:
                    async for block in _blocks(records):
                        if not stream.started:
                            stream.start(hit.request, 200, _csv_headers(hit, usage))
                        stream.send(block)
                        await stream.drained()
                stream.finish()
            except BaseException:
                if stream.started:
                    stream.cut()  # nobody must take a part for the whole
                raise
        return stream

    return handler


def head_alone(hit: Hit, fields: Headers) -> Reply:
    """Answer HEAD without a query."""
    stream = EventStream()
    stream.start(hit.request, 200, fields)
    stream.finish()
    return stream


@contextmanager
def reading(hit: Hit) -> Iterator[None]:
    try:
        yield
    except TooManyQueries:
        raise Overloaded("Too many reports are being made; ask again in a moment.") from None
    except QueryFailed as failure:
        hit.runtime.log.error("usage cannot be read", request_id=hit.call.request_id, error=str(failure))
        raise StoreUnavailable("Usage cannot be read at the moment; it goes on being counted.") from None


async def until_reached(hit: Hit) -> None:
    """Wait until the ledger's table is up to date. Raises QueryFailed.

    After a start, until the table is there and what the last process left behind is in it.
    """
    ledger = hit.runtime.ledger
    if ledger.status().database_reached:
        return
    try:
        await ledger.flushed(FIRST_ROUND_SECONDS)
    except TimeoutError:
        raise QueryFailed("the database has not been reached yet") from None


async def names_of(hit: Hit) -> dict[str, str]:
    """Models' public names, by id as text."""
    return {id_text(model.id): model.name for model in (await hit.runtime.store.catalogue()).models}


async def _blocks(records: AsyncIterator[UsageRecord]) -> AsyncIterator[bytes]:
    """The file in pieces: the first comes once the database has answered."""
    lines, size = [CSV_HEADER], len(CSV_HEADER)
    async for record in records:
        line = csv_line(record)
        lines.append(line)
        size += len(line)
        if size >= SENT_AT_ONCE:
            yield "".join(lines).encode()
            lines, size = [], 0
    yield "".join(lines).encode()


def _csv_headers(hit: Hit, usage: UsageQuery) -> list[tuple[str, str]]:
    name = f"usage_{usage.from_day}_{usage.to_day}.csv"
    return [
        ("content-type", "text/csv; charset=utf-8"),
        ("content-disposition", f'attachment; filename="{name}"'),
        ("x-request-id", hit.call.request_id),
    ]


def _asked(hit: Hit, subject: Subject) -> UsageQuery:
    return UsageQuery(*days_in(hit), user=subject.user, organisation=subject.organisation)


def days_in(hit: Hit) -> tuple[date, date]:
    """Return the first and last day that are asked for."""
    query = hit.request.query
    try:
        return days_asked(query.get("from"), query.get("to"), hit.runtime.clock().date())
    except ValueError as mistake:
        raise InvalidRequest(str(mistake)) from None


def _group(hit: Hit) -> Group:
    asked = hit.request.query.get("group", "day")
    for group in _GROUPS:
        if group == asked:
            return group
    raise InvalidRequest(f"`group` must be one of {', '.join(_GROUPS)}.")


ROUTES = [
    Route("GET", path + ending, handler(find), scope="any", answer=answer, summary=f"What {whose} used{how}")
    for path, find, whose in (
        ("/api/soc/usage/user/{id}", user_in_path, "a user"),
        ("/api/soc/usage/org/{id}", organisation_in_path, "an organisation"),
        ("/api/ai/usage", the_caller, "the caller"),
    )
    for ending, handler, answer, how in (
        ("", report, UsageAnswer, ""),
        ("/export.csv", export, None, ", every request as a line"),
    )
]
