"""Serve lists of top level from our own index (contract §12)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import orjson
from multidict import MultiMapping

from gateway.access.resolve import assigned
from gateway.api.kept.object_asks import is_made_under
from gateway.api.router import Hit, RouteHandler
from gateway.dialects import openai
from gateway.dialects.base import ListRules, Operation
from gateway.dialects.references import Position, Positions
from gateway.errors import InvalidRequest, NoModelGranted
from gateway.http.reply import Answer, Reply
from gateway.limits import call_terms
from gateway.objects.accounts import Accounts
from gateway.objects.index import Filter, Order
from gateway.objects.record import ObjectRecord
from gateway.proxy.ask import Ask
from gateway.proxy.attempt import own_fields
from gateway.proxy.keeping.answer_objects import METADATA, mark_of, records_in
from gateway.proxy.keeping.refresher import Refresher
from gateway.proxy.usage_meter import UsageMeter
from gateway.store.base import Catalogue
from gateway.types import Access, Model, id_text

MOST_REFRESHED = 10  # upstream calls of one list
_NOBODYS = Model(id="", name="")  # in the books of who has no model
_NO_BODY = openai.RequestBody(b"", {})
_JSON = ("content-type", "application/json")


def list_handler(operation: Operation, rules: ListRules) -> RouteHandler:
    """Answer with a page of the index, refreshed where needed."""

    async def handler(hit: Hit) -> Reply:
        runtime, lookups = hit.runtime, hit.runtime.lookups
        catalogue = lookups.catalogue or await lookups.find_catalogue(runtime.store)
        query, owner = hit.request.query, id_text(hit.caller.user.id)
        limit, order = _limit(query, rules), _order(query, rules)
        where = _filter(hit, query, rules, catalogue)
        ask = _ask(hit, operation, catalogue)
        account = await runtime.relay.accounts.open(hit.call, ask, streamed=False)
        meter = UsageMeter(answered=True)
        try:
            page = await runtime.objects.listed(
                owner,
                rules.kind,
                limit=limit,
                order=order,
                after=query.get("after") or None,
                before=query.get("before") or None,
                where=where,
            )
            if hit.request.held is not None:
                hit.request.held.grow(2 * sum(len(record.body or b"") for record in page.records))
            shown = await _refreshed(hit, catalogue, page.records)
            hit.call.status, hit.call.outcome = 200, "ok"
        finally:
            account.settle(meter, None, {}, body_size=0)
        own = own_fields(hit.call, ask, account.headers)
        return Answer(200, [_JSON, *own[1:]], _listed(shown, has_more=page.has_more))

    return handler


def _ask(hit: Hit, operation: Operation, catalogue: Catalogue) -> Ask:
    """Make the ledger's view of a list, which asks no endpoint."""
    try:
        access = assigned(hit.caller, catalogue)
    except NoModelGranted:
        access = Access(_NOBODYS, "global")
    return Ask(operation, _NO_BODY, hit.caller, access, catalogue, call_terms(hit.caller))


def _limit(query: MultiMapping[str], rules: ListRules) -> int:
    text = query.get("limit")
    if not text:
        return rules.usual
    try:
        return min(max(int(text), 1), rules.most)
    except ValueError:
        raise InvalidRequest("`limit` is a whole number.", param="limit") from None


def _order(query: MultiMapping[str], rules: ListRules) -> Order:
    if query.get("order_by", rules.orders[0]) not in rules.orders:
        raise InvalidRequest("`order_by` is `created_at` or `updated_at`.", param="order_by")
    match query.get("order") or ("desc" if rules.newest_first else "asc"):
        case "asc":
            return "asc"
        case "desc":
            return "desc"
    raise InvalidRequest("`order` is `asc` or `desc`.", param="order")


# -- filters


def _filter(hit: Hit, query: MultiMapping[str], rules: ListRules, catalogue: Catalogue) -> Filter | None:
    """Return what an object must meet to be listed, if anything."""
    wanted: list[Filter] = []
    if hit.caller.is_narrowed:
        wanted.append(partial(is_made_under, hit.caller, catalogue))
    for name in rules.filters:
        value = query.get(name)
        if name == "metadata":
            metadata = {key[9:-1]: text for key, text in query.items() if key.startswith("metadata[")}
            if metadata:
                wanted.append(partial(_has_metadata, metadata))
        elif value and name == "model":
            model = catalogue.find(value)
            wanted.append(partial(_is_of_model, id_text(model.id) if model is not None else None))
        elif value:
            wanted.append(partial(_is_about, name, value))
    return partial(_meets, tuple(wanted)) if wanted else None


def _meets(wanted: Iterable[Filter], record: ObjectRecord) -> bool:
    return all(meets(record) for meets in wanted)


def _is_about(name: str, value: str, record: ObjectRecord) -> bool:
    return record.about.get(name) == value


def _is_of_model(model: str | None, record: ObjectRecord) -> bool:
    return model is not None and record.model == model


def _has_metadata(wanted: Mapping[str, str], record: ObjectRecord) -> bool:
    marks = record.about.get(METADATA)
    if marks is not None:
        return all(mark_of(key, value) in marks for key, value in wanted.items())
    has = _fields(record).get(METADATA)  # one that was seen before marks were kept
    return isinstance(has, dict) and all(has.get(key) == value for key, value in wanted.items())


# -- what is shown


async def _refreshed(hit: Hit, catalogue: Catalogue, records: tuple[ObjectRecord, ...]) -> list[ObjectRecord]:
    """Read again what may have changed; what is gone is forgotten."""
    changing = [record for record in records if not record.final or not record.body][:MOST_REFRESHED]
    if not changing:
        return list(records)
    relay, accounts = hit.runtime.relay, hit.runtime.accounts.of(catalogue.models)
    refresher = Refresher(relay.transport, relay.upstreams, accounts, catalogue, relay.via.line(hit.call.via))
    looked = await asyncio.gather(*(_looked_at(hit, refresher, accounts, record) for record in changing))
    now = {record.id: seen for record, seen in zip(changing, looked, strict=True)}
    shown = [now.get(record.id, record) for record in records]
    return [record for record in shown if record is not None]


async def _looked_at(hit: Hit, refresher: Refresher, accounts: Accounts, record: ObjectRecord) -> ObjectRecord | None:
    seen = await refresher.look(record)
    if seen is None:
        return record
    if seen.status == 404:
        await hit.runtime.objects.forget(record.id)
        return None
    fields = _loaded(seen.body) if seen.status == 200 else {}
    if fields.get("id") != record.id:
        return record
    position = Positions((Position("id", record.kind),))
    found = records_in(
        fields,
        seen.body,
        position,
        owner=record.owner,
        account=record.account,
        model=record.model,
        metadata=record.about.get(METADATA),
    )
    fresh = next(iter(found))
    await hit.runtime.objects.remember([fresh])
    return fresh


def _listed(records: list[ObjectRecord], *, has_more: bool) -> bytes:
    first, last = (orjson.dumps(records[place].id if records else None) for place in (0, -1))
    data = b",".join([record.body or _least(record) for record in records])
    more = b"true" if has_more else b"false"
    return b'{"object":"list","data":[%b],"first_id":%b,"last_id":%b,"has_more":%b}' % (data, first, last, more)


def _least(record: ObjectRecord) -> bytes:
    """Describe an object whose body is not at hand.

    It has what clients need of its kind: a batch or an item has named it, and nobody has read it yet.
    """
    about: dict[str, Any] = {"id": record.id, "object": record.kind, "created_at": record.created}
    match record.kind:
        case "file":
            about |= {"bytes": 0, "filename": record.id, "purpose": "batch_output", "status": "processed"}
        case "container":
            about |= {"name": record.id, "status": "active"}
    return orjson.dumps(about)


def _fields(record: ObjectRecord) -> dict[str, Any]:
    return _loaded(record.body or b"")


def _loaded(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}
