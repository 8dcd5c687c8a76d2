"""Pin a request to where its objects live; note what answers bring."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

import msgspec

from gateway.api.router import Hit
from gateway.dialects import openai
from gateway.dialects.base import Operation
from gateway.http.multipart import FormBody
from gateway.objects.accounts import Accounts
from gateway.objects.record import ObjectRecord
from gateway.proxy.ask import Ask
from gateway.proxy.keeping.object_keeper import Keeper, learnt_by
from gateway.proxy.keeping.pins import Found, Named, Pin, find, named_by, no_such_object, objects_apart
from gateway.store.base import Catalogue
from gateway.types import Caller, Model, id_text

# What may stand in a path: no slash, escaped or not, and no dots alone, by which a server could leave the object's.
_ID = re.compile(r"(?!\.+$)[\w.:~@=+,!-]{1,512}", re.ASCII)


async def with_objects(hit: Hit, ask: Ask) -> Ask:
    """Pin a request for a model to where its objects live.

    And note what its answers bring.

    Raises ObjectNotFound, ObjectsApart or StoreUnavailable.
    """
    operation, body, model = ask.operation, ask.body, ask.access.model
    raw = raw_of(body)
    if raw is None or len(raw) < openai.LARGE_BYTES:
        named = named_by(operation, hit.params, body.fields, raw)
    else:
        named = await hit.runtime.intake.do(lambda: named_by(operation, hit.params, body.fields, raw))
    ids = learnt_by(operation, body.fields)
    if not (named or ids or operation.contents):
        return ask
    accounts = hit.runtime.accounts.of(ask.catalogue.models)
    pin = None
    if named:
        found = await found_objects(hit, ask.catalogue, accounts, named)
        pin = await _pin_of_model(hit, accounts, found, model)
    keeper = None
    if ids or operation.contents:
        owner = id_text(ask.caller.user.id)
        keeper = Keeper(
            hit.runtime.objects,
            accounts,
            ids,
            operation.contents,
            owner=owner,
            model=id_text(model.id),
            metadata=body.fields.get("metadata"),
        )
    return msgspec.structs.replace(ask, pin=pin, keeper=keeper)


def raw_of(body: openai.RequestBody | FormBody) -> bytes | None:
    """The body's bytes, None of a form."""
    return body.raw if isinstance(body, openai.RequestBody) else None


def require_ids(operation: Operation, params: Mapping[str, str]) -> None:
    """Raise ObjectNotFound for what cannot be an id."""
    for segment in operation.segments:
        if _ID.fullmatch(params[segment.name]) is None:
            raise no_such_object(segment.name)


async def found_objects(hit: Hit, catalogue: Catalogue, accounts: Accounts, named: Named) -> Found:
    """Find what a request names. Raises ObjectNotFound, ObjectsApart or StoreUnavailable."""
    takes_unknown = hit.runtime.settings.surface.unknown_objects == "home"
    owner = id_text(hit.caller.user.id)
    may_see = partial(is_made_under, hit.caller, catalogue) if hit.caller.is_narrowed else None
    return await find(hit.runtime.objects, accounts, owner, named, takes_unknown=takes_unknown, may_see=may_see)


def is_made_under(caller: Caller, catalogue: Catalogue, record: ObjectRecord) -> bool:
    """Whether the caller's key is for the object's model."""
    model = catalogue.by_id(record.model) if record.model is not None else None
    return model is not None and caller.may_use(model)


async def _pin_of_model(hit: Hit, accounts: Accounts, found: Found, model: Model) -> Pin | None:
    if found.account is not None:
        pin = Pin(found.account)
        if not pin.is_at(model):
            raise objects_apart()
        return pin
    if found.unknown:  # made elsewhere: at the home, if that is one of this model's
        at_home = await hit.runtime.objects.home(id_text(hit.caller.user.id))
        account = accounts.find(at_home) if at_home is not None else None
        if account is not None and Pin(account).is_at(model):
            return Pin(account)
    return None
