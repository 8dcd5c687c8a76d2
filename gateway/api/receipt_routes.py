"""Routes of receipts: one request, and the latest ones."""

from __future__ import annotations

import msgspec

from gateway.api.middleware import require_ai
from gateway.api.router import Hit, Route
from gateway.api.usage_routes import JSON, days_in, limit_of, names_of, reading, until_caught_up
from gateway.errors import InsufficientScope, ReceiptNotFound
from gateway.http.reply import Answer, Reply
from gateway.types import Id, id_from_text, id_text
from gateway.usage.receipts import ReceiptQuery, RequestRecord
from gateway.usage.views import Receipt, Receipts, receipt_of, receipts_of

MOST_LISTED, USUALLY_LISTED = 100, 20
_WAIT_SECONDS = 1.0  # for what ended a moment ago to be in the database


async def one(hit: Hit) -> Reply:
    """Return the receipt of one's own request.

    Of anyone's with `usage:read`.
    """
    await _check(hit)
    wanted, caller = hit.params["id"], hit.caller
    with reading(hit):
        await until_caught_up(hit)
        ledger = hit.runtime.ledger
        record = await ledger.reader.request(wanted)
        if record is None and ledger.status().waiting:
            await _flushed(hit)
            record = await ledger.reader.request(wanted)
    is_own = record is not None and id_text(record.user) == id_text(caller.user.id)
    if record is None or not (is_own or caller.may("usage:read")):
        raise ReceiptNotFound("No request of yours has this id.")
    names, currency = await names_of(hit), hit.runtime.settings.usage.currency
    return Answer(200, [JSON], msgspec.json.encode(receipt_of(record, names, currency)))


async def listed(hit: Hit) -> Reply:
    """Return the caller's latest requests; anyone's with `usage:read` and `user`."""
    await _check(hit)
    query = hit.request.query
    first, last = days_in(hit)
    limit = limit_of(query.get("limit", str(USUALLY_LISTED)), MOST_LISTED)
    asked = ReceiptQuery(
        first,
        last,
        limit=limit + 1,
        user=_user(hit, query.get("user")),
        model=await _model(hit, query.get("model")),
        key=_id(query.get("key")),
        after=query.get("after"),
    )
    with reading(hit):
        await until_caught_up(hit)
        found: list[RequestRecord] = await hit.runtime.ledger.reader.requests(asked, whose=id_text(hit.caller.user.id))
    page = receipts_of(found, limit, await names_of(hit), hit.runtime.settings.usage.currency)
    return Answer(200, [JSON], msgspec.json.encode(page))


async def _check(hit: Hit) -> None:
    """Raise unless the caller may read usage.

    Operators may while the feature is off.
    """
    caller = hit.caller
    if caller.may("usage:read"):
        return
    if not caller.may("ai:use"):
        raise InsufficientScope("To see this usage a key needs the scope `usage:read`.")
    await require_ai(hit.runtime)


async def _flushed(hit: Hit) -> None:
    try:
        await hit.runtime.ledger.flushed(_WAIT_SECONDS)
    except TimeoutError:
        return


def _user(hit: Hit, wanted: str | None) -> Id:
    own = hit.caller.user.id
    if wanted is None or wanted == id_text(own):
        return own
    if not hit.caller.may("usage:read"):
        raise InsufficientScope("To see the requests of others a key needs the scope `usage:read`.")
    return id_from_text(wanted)


async def _model(hit: Hit, wanted: str | None) -> Id | None:
    """The model's id; by its name as well."""
    if not wanted:
        return None
    found = (await hit.runtime.store.catalogue()).find(wanted)
    return id_from_text(wanted) if found is None else found.id


def _id(text: str | None) -> Id | None:
    return id_from_text(text) if text else None


ROUTES = [
    Route("GET", "/api/ai/usage/requests", listed, scope="any", answer=Receipts, summary="One's latest requests"),
    Route("GET", "/api/ai/usage/requests/{id}", one, scope="any", answer=Receipt, summary="The receipt of a request"),
]
