"""Serve rows that need no model, or merely name one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import quote

import msgspec

from gateway.access.resolve import access_to, assigned
from gateway.api.kept import batch_files
from gateway.api.kept.list_handler import list_handler
from gateway.api.kept.object_asks import found_objects, raw_of, require_ids, with_objects
from gateway.api.openai_routes import ask_for, asks_with_json, body_of, form_of, relayed_answer
from gateway.api.router import OPENAI_PREFIXES, Hit, Route, RouteHandler
from gateway.dialects import openai
from gateway.dialects.base import Operation
from gateway.dialects.openai.operations import FORM
from gateway.errors import ModelNotFound, NoModelGranted, StoreUnavailable
from gateway.http.multipart import FormBody
from gateway.http.reply import Reply
from gateway.limits import call_terms
from gateway.objects.accounts import Account, Accounts
from gateway.proxy.ask import Ask
from gateway.proxy.keeping import home
from gateway.proxy.keeping.answer_objects import KINDS_OF_WORK
from gateway.proxy.keeping.object_keeper import Keeper, learnt_by
from gateway.proxy.keeping.pins import Found, Pin, models_at, named_by
from gateway.store.base import Catalogue
from gateway.types import Access, id_text

_NO_BODY = openai.RequestBody(b"", {})


def kept_routes() -> list[Route]:
    """The same rows under both prefixes."""
    return [
        Route(
            operation.method,
            prefix + operation.path,
            kept_handler(operation) if operation.lists is None else list_handler(operation, operation.lists),
            summary=operation.summary,
            operation=operation,
        )
        for prefix in OPENAI_PREFIXES
        for operation in openai.KEPT_OPERATIONS
    ]


def kept_handler(operation: Operation) -> RouteHandler:
    """body → objects → relay."""

    async def handler(hit: Hit) -> Reply:
        require_ids(operation, hit.params)
        async with _body_of(hit, operation) as body:
            ask = await _ask(hit, operation, body)
            if operation.segments and operation.segments[0].kind in KINDS_OF_WORK:
                await _look_after_work(hit, operation, ask)
            return await relayed_answer(hit, ask)

    return handler


async def _look_after_work(hit: Hit, operation: Operation, ask: Ask) -> None:
    """Settle running work by what its owner is given to see.

    What is deleted is read and settled first; where the index cannot tell now, it raises StoreUnavailable. Others are
    served all the same.
    """
    try:
        work = await hit.runtime.objects.find_unsettled(hit.params[operation.segments[0].name])
    except StoreUnavailable:
        if operation.deletes:
            raise
        return
    if work is None:
        return
    if operation.deletes:
        await hit.runtime.settler.look(work, is_last=True)
    elif ask.keeper is not None and len(operation.segments) == 1:
        ask.keeper.on_seen = partial(hit.runtime.settler.saw, work)


async def _ask(hit: Hit, operation: Operation, body: openai.RequestBody | FormBody) -> Ask:
    """Return the request as its objects' account is asked."""
    if operation.method == "POST" and body.fields.get("purpose") == batch_files.PURPOSE:
        if operation.path == "/files" and isinstance(body, FormBody):
            return await batch_files.ask_of_input(hit, operation, body)
        if operation.path in ("/uploads", "/files"):
            raise batch_files.no_upload()
    if operation.is_billed and isinstance(body, openai.RequestBody):
        return await batch_files.ask_of_batch(hit, operation, body)
    if names_model(operation, body):
        ask = await ask_for(hit, operation, body)
        return await with_objects(hit, msgspec.structs.replace(ask, terms=call_terms(hit.caller)))
    return await _ask_without_model(hit, operation, body)


@asynccontextmanager
async def _body_of(hit: Hit, operation: Operation) -> AsyncIterator[openai.RequestBody | FormBody]:
    """Hold what is asked until it is answered.

    Nothing, JSON, or a form to which no model is added.
    """
    if operation.body is None or (hit.request.length == 0 and operation.model == "none"):
        yield _NO_BODY
    elif operation.body != FORM or asks_with_json(hit):
        yield await body_of(hit)
    else:
        form = await form_of(hit, adds_model=False)
        try:
            yield form
        finally:
            form.close()


def names_model(operation: Operation, body: openai.RequestBody | FormBody) -> bool:
    """Whether the request is for a model.

    Text without one is for the assigned.
    """
    if operation.model == "none":
        return False
    fields = body.fields
    return operation.is_text or fields.get("model") is not None or fields.get("modelId") is not None


async def _ask_without_model(hit: Hit, operation: Operation, body: openai.RequestBody | FormBody) -> Ask:
    """Raise ObjectNotFound, ObjectsApart, ModelRequired, StoreUnavailable or LedgerUnavailable."""
    runtime, caller, lookups = hit.runtime, hit.caller, hit.runtime.lookups
    catalogue = lookups.catalogue or await lookups.find_catalogue(runtime.store)
    accounts, owner = runtime.accounts.of(catalogue.models), id_text(caller.user.id)
    named = named_by(operation, hit.params, body.fields, raw_of(body))
    found = await found_objects(hit, catalogue, accounts, named) if named else Found(None, (), ())
    account, first = found.account, next((each.model for each in found.records if each.model is not None), None)
    if account is None:
        account, first = await _home(hit, catalogue, accounts)
    models = models_at(account, catalogue.models, first)
    if not models:
        raise home.model_required()
    forgets = hit.params[operation.segments[0].name] if operation.deletes else None
    ids = learnt_by(operation, body.fields)
    keeper = None
    if ids or forgets is not None:
        keeper = Keeper(
            runtime.objects,
            accounts,
            ids,
            operation.contents,
            owner=owner,
            model=first,
            forgets=forgets,
            metadata=body.fields.get("metadata"),
        )
    return Ask(
        operation,
        body,
        caller,
        Access(models[0], "global"),
        catalogue,
        call_terms(caller),
        target=_target(operation, hit.params),
        pin=Pin(account, models),
        keeper=keeper,
    )


async def _home(hit: Hit, catalogue: Catalogue, accounts: Accounts) -> tuple[Account, str | None]:
    """Return where things are made, and the model to go by."""
    index, owner = hit.runtime.objects, id_text(hit.caller.user.id)
    name = hit.request.headers.get(home.MODEL_HEADER)
    if name is not None:
        model = catalogue.find(name)
        if model is None:
            raise ModelNotFound(f"The model named in `{home.MODEL_HEADER}` does not exist.", param="model")
        access = access_to(hit.caller, model)
        return await home.home_at(index, accounts, owner, access.model), id_text(model.id)
    access_by_default = _assigned(hit, catalogue)
    first = id_text(access_by_default.model.id) if access_by_default is not None else None
    return await home.home_of(index, accounts, owner, access_by_default), first


def _assigned(hit: Hit, catalogue: Catalogue) -> Access | None:
    try:
        return assigned(hit.caller, catalogue)
    except NoModelGranted:
        return None


def _target(operation: Operation, params: Mapping[str, str]) -> str:
    target = operation.path
    for segment in operation.segments:
        target = target.replace(f"{{{segment.name}}}", quote(params[segment.name], safe=":~@=+,!"))
    return target
