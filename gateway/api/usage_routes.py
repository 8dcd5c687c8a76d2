"""Routes of usage: a user's, an organisation's, everybody's, the caller's (contract §6).

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
from gateway.usage import Group, Groups, Order, UsageQuery
from gateway.usage.receipts import RequestRecord
from gateway.usage.row_pages import Paging
from gateway.usage.views import CSV_HEADER, UsageAnswer, answer_of, csv_line, days_asked

JSON = ("content-type", "application/json")
# So many characters of an export leave at once; what a slow reader does not take is not read from the database.
SENT_AT_ONCE = 32 * 1024
# At the start: what a report waits for the usage that the last process left in its journal.
FIRST_ROUND_SECONDS = 5.0

# Rows of everybody's report, which may be as many as there are users.
USUALLY_LISTED, MOST_LISTED = 1000, 10_000

_GROUPS: tuple[Group, ...] = get_args(Group)
_ORDERS: tuple[Order, ...] = get_args(Order)


class Subject(NamedTuple):
    """Whose usage is asked for."""

    user: Id | None = None
    organisation: Id | None = None

    @property
    def is_everybody(self) -> bool:
        return self.user is None and self.organisation is None


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


async def everybody(hit: Hit) -> Subject:
    _check_reads_anyones(hit.caller)
    return Subject()


def _check_reads_anyones(caller: Caller) -> None:
    if not caller.may("usage:read"):
        raise InsufficientScope("To see this usage a key needs the scope `usage:read`.")


# -- how it is told


def report(find: FindSubject) -> RouteHandler:
    """Totals and rows by `group` (default: `day`)."""

    async def handler(hit: Hit) -> Reply:
        subject = await find(hit)
        usage, groups, wanted = _asked(hit, subject), _groups(hit), _paging(hit, subject)
        if hit.request.method == "HEAD":
            return head_alone(hit, [JSON, ("x-request-id", hit.call.request_id)])
        with reading(hit):
            await until_caught_up(hit)
            try:
                page = await hit.runtime.ledger.reader.page(usage, groups, wanted, whose=id_text(hit.caller.user.id))
            except ValueError as mistake:
                raise InvalidRequest(str(mistake)) from None
        names = await names_of(hit) if {"model", "endpoint"} & {*groups} else {}
        told = answer_of(usage, page, groups, names, is_page=wanted.limit is not None)
        return Answer(200, [JSON], msgspec.json.encode(told))

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
            await until_caught_up(hit)
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


async def until_caught_up(hit: Hit) -> None:
    """Wait for what dead processes left for the ledger. Raises QueryFailed.

    After a start, until the table is there and what the last process left behind is in it.
    """
    ledger = hit.runtime.ledger
    if ledger.status().caught_up:
        return
    try:
        await ledger.flushed(FIRST_ROUND_SECONDS)
    except TimeoutError:
        raise QueryFailed("the database has not had yet what the last process left") from None


async def names_of(hit: Hit) -> dict[str, str]:
    """Models' public names, by id as text."""
    return {id_text(model.id): model.name for model in (await hit.runtime.store.catalogue()).models}


async def _blocks(records: AsyncIterator[RequestRecord]) -> AsyncIterator[bytes]:
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


def _groups(hit: Hit) -> Groups:
    """Read `group=day,model`, or `group=day&group=model`."""
    asked = [name.strip() for text in hit.request.query.getall("group", ["day"]) for name in text.split(",")]
    found = tuple(group for name in asked for group in _GROUPS if group == name)
    if len(found) != len(asked) or len(found) > 2 or len({*found}) != len(found):
        raise InvalidRequest(f"`group` must be one of {', '.join(_GROUPS)}, or two of them with a comma in between.")
    return found


def _paging(hit: Hit, subject: Subject) -> Paging:
    query = hit.request.query
    asked, limit = query.get("order"), query.get("limit")
    order = next((each for each in _ORDERS if each == asked), None)
    if asked is not None and order is None:
        raise InvalidRequest(f"`order` must be one of {', '.join(_ORDERS)}.")
    usual = USUALLY_LISTED if subject.is_everybody else None
    return Paging(order, usual if limit is None else limit_of(limit, MOST_LISTED), query.get("after"))


def limit_of(text: str, most: int) -> int:
    """Read how many are wanted, from 1 to `most`. Raises InvalidRequest."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise InvalidRequest("`limit` must be a whole number.")
    return min(max(int(text), 1), most)


ROUTES = [
    Route("GET", path + ending, handler(find), scope="any", answer=answer, summary=f"What {whose} used{how}")
    for path, find, whose in (
        ("/api/soc/usage/user/{id}", user_in_path, "a user"),
        ("/api/soc/usage/org/{id}", organisation_in_path, "an organisation"),
        ("/api/soc/usage", everybody, "everybody"),
        ("/api/ai/usage", the_caller, "the caller"),
    )
    for ending, handler, answer, how in (
        ("", report, UsageAnswer, ""),
        ("/export.csv", export, None, ", every request as a line"),
    )
]
