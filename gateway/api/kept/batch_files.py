"""Take the input files of batches: judged, rewritten, sent up."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial

import msgspec

from gateway.access.resolve import access_to, serving
from gateway.api.kept.object_asks import found_objects
from gateway.api.router import Hit
from gateway.batches.batch_lines import at_line
from gateway.batches.input_file import Input, Judge, Rules, judged, rewritten
from gateway.dialects import openai
from gateway.dialects.base import Operation
from gateway.errors import ClientFault, InvalidBatch, ModelNotFound, QuotaUsedUp
from gateway.http.multipart import FormBody, Part
from gateway.limits import Demand, call_terms, expected_refusal, terms_of
from gateway.objects.accounts import Account, Accounts
from gateway.objects.record import ObjectRecord
from gateway.proxy.ask import Ask, Reserved
from gateway.proxy.keeping.object_keeper import Keeper, learnt_by
from gateway.proxy.keeping.pins import Named, Pin, named_by, objects_apart
from gateway.types import id_text

PURPOSE = "batch"
_INPUT_KIND = "batch_input"  # a record of ours beside the file's own
_ABOUT = "input"
_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Input)


def input_id(file_id: str) -> str:
    """Return the id of what is remembered of an input file.

    No upstream's id has a blank, and no path can name one.
    """
    return f"batch input {file_id}"


def input_of(record: ObjectRecord) -> Input:
    return _decoder.decode(record.about[_ABOUT])


async def ask_of_input(hit: Hit, operation: Operation, form: FormBody) -> Ask:
    """Judge and rewrite a form whose file is a batch's input.

    Raises InvalidBatch, which names the line; InvalidMultipart, StoreUnavailable, Overloaded.
    """
    runtime, caller, part = hit.runtime, hit.caller, form.part("file")
    catalogue = runtime.lookups.catalogue or await runtime.lookups.find_catalogue(runtime.store)
    rules = Rules(
        caller,
        catalogue,
        runtime.settings.routing.refuse_fields,
        runtime.settings.routing.unknown_model == "assigned",
        runtime.settings.server.max_body_mb * 2**20,
    )
    accounts, judge = runtime.accounts.of(catalogue.models), Judge(rules)
    places = _Places(hit, accounts, rules)
    await judged(form.content(part), judge, rules, runtime.intake.do, places.note, hit.request.held)
    access, summed = judge.end()
    hit.call.access = access
    await _require_quota(hit, terms_of(access, caller).demands, summed.lines)
    owner, model = id_text(caller.user.id), id_text(access.model.id)
    keeper = Keeper(
        runtime.objects,
        accounts,
        learnt_by(operation, form.fields),
        operation.contents,
        owner=owner,
        model=model,
        beside=partial(_beside, summed),
    )
    ask = Ask(
        operation,
        form,
        caller,
        access,
        catalogue,
        call_terms(caller),
        tuple(judge.companions.values()),
        pin=Pin(places.account) if places.account is not None else None,
        keeper=keeper,
        keeps=True,
    )
    await _rewrite(hit, ask, form, part, rules, judge.companions.keys())
    return ask


async def ask_of_batch(hit: Hit, operation: Operation, body: openai.RequestBody) -> Ask:
    """Admit a batch with all its lines, where its file is.

    Raises InvalidBatch, ObjectNotFound, ModelNotAccessible, ObjectsApart or StoreUnavailable.
    """
    runtime, caller, fields = hit.runtime, hit.caller, body.fields
    catalogue = runtime.lookups.catalogue or await runtime.lookups.find_catalogue(runtime.store)
    accounts, owner, file_id = (
        runtime.accounts.of(catalogue.models),
        id_text(caller.user.id),
        fields.get("input_file_id"),
    )
    if not isinstance(file_id, str):
        raise _no_input("`input_file_id` is the id of a file of yours with the purpose `batch`.")
    named = named_by(operation, hit.params, fields, body.raw)
    found = await found_objects(hit, catalogue, accounts, named)
    record = (await runtime.objects.find([input_id(file_id)])).get(input_id(file_id))
    if record is None or record.owner != owner or found.account is None:
        raise _no_input("This file was not uploaded as the input of a batch (`POST files`, purpose `batch`).")
    runtime.objects.touch([record])
    summed = input_of(record)
    if fields.get("endpoint") != summed.url:
        raise _no_input(f"The file's lines are for `{summed.url}`, so `endpoint` must be that.")
    model = catalogue.by_id(summed.model)
    if model is None:
        raise ModelNotFound("The model of the file's lines does not exist any more.", param="model")
    access = hit.call.access = serving(access_to(caller, model), summed.operation.kind)
    pin = Pin(found.account)
    if not pin.is_at(model):
        raise objects_apart()
    body.adds_model = False
    keeper = Keeper(
        runtime.objects, accounts, learnt_by(operation, fields), operation.contents, owner=owner, model=summed.model
    )
    reserved = Reserved(summed.lines, summed.prompt_tokens, summed.completion_tokens, summed.cost_nano)
    terms = terms_of(access, caller)
    return Ask(operation, body, caller, access, catalogue, terms, pin=pin, keeper=keeper, reserved=reserved, keeps=True)


def _no_input(why: str) -> InvalidBatch:
    return InvalidBatch(why, param="input_file_id")


def no_upload() -> InvalidBatch:
    """Return the error for a batch's file whose lines cannot be read.

    It comes in parts, or is JSON and no form.
    """
    return InvalidBatch(
        "The file of a batch is uploaded whole, as a form of `POST files` of purpose `batch`: its lines are read.",
        param="input_file_id",
    )


async def _require_quota(hit: Hit, demands: Sequence[Demand], lines: int) -> None:
    """Raise QuotaUsedUp where these lines could not be asked in this period."""
    now = time.time()
    refusal = expected_refusal(demands, await hit.runtime.limiter.standing(demands, now), now, lines)
    if isinstance(refusal, QuotaUsedUp):
        raise refusal


async def _rewrite(hit: Hit, ask: Ask, form: FormBody, part: Part, rules: Rules, others: Iterable[str]) -> None:
    """Rewrite the file once for each set of names that endpoints have.

    `others`: the ids of models that lines name besides, in the order of `ask.companions`.
    """
    model = ask.access.model
    left_out = ask.endpoints_left_out(model)
    endpoints = [each for each in model.endpoints if id_text(each.id) not in left_out]
    if not endpoints:
        raise objects_apart() if ask.pin is not None else _no_place(model.name)
    for name, *named in dict.fromkeys(
        (ask.names_at(each, model)[0], *ask.names_at(each, model)[1]) for each in endpoints
    ):
        pieces = rewritten(
            form.content(part), rules, name, dict(zip(others, named, strict=True)), hit.runtime.intake.do
        )
        await form.add_version(part, (name, *named), pieces)


def _no_place(model: str) -> InvalidBatch:
    return InvalidBatch(
        f"No endpoint of the model `{openai.printable(model)}` takes batches with all that these lines name.",
    )


class _Places:
    """The one account at which all objects live that lines name."""

    def __init__(self, hit: Hit, accounts: Accounts, rules: Rules) -> None:
        self.account: Account | None = None
        self._hit = hit
        self._accounts = accounts
        self._rules = rules

    async def note(self, number: int, named: Named) -> None:
        """Raise InvalidBatch where they are not the caller's, or apart."""
        try:
            found = await found_objects(self._hit, self._rules.catalogue, self._accounts, named)
            if found.account is not None and self.account is not None and found.account is not self.account:
                raise objects_apart()
        except ClientFault as fault:
            raise at_line(number, fault.message) from None
        self.account = self.account or found.account


def _beside(summed: Input, file: ObjectRecord) -> ObjectRecord:
    """Return what is remembered of an input file beside its own record."""
    return ObjectRecord(
        id=input_id(file.id),
        kind=_INPUT_KIND,
        owner=file.owner,
        account=file.account,
        model=summed.model,
        final=True,
        in_lists=False,
        about={_ABOUT: _encode(summed).decode()},
    )
