"""The OpenAI surface (contract §4): relayed rows, one handler, and its answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial

import msgspec

from gateway.access.companions import Companion, companions, require_common_endpoint
from gateway.access.lookup_cache import Use
from gateway.access.resolve import access_to, accessible, named_model, not_found, resolve, serving
from gateway.api.kept.object_asks import with_objects
from gateway.api.router import DEPLOYMENT, OPENAI_PREFIXES, Hit, Route, RouteHandler
from gateway.dialects import openai
from gateway.dialects.base import EventRules, Operation, Usage
from gateway.dialects.openai.operations import FORM
from gateway.errors import GatewayError, UpstreamFailed
from gateway.http.memory_budget import MOST_TIMES_READ, VALUE_BYTES
from gateway.http.message import Request
from gateway.http.multipart import FormBody
from gateway.http.reply import Answer, EventStream, Reply
from gateway.limits import terms_of
from gateway.proxy.ask import Ask
from gateway.proxy.refusals.masking import readable
from gateway.proxy.responder import Head, Responder
from gateway.store.base import Catalogue
from gateway.types import Access, Caller, id_text

JSON = ("content-type", "application/json")
_STREAM_FIELDS = (("cache-control", "no-cache"), ("x-accel-buffering", "no"))
_HEARTBEAT = b": waiting for the model\n\n"


def openai_routes() -> list[Route]:
    """The same rows under both prefixes."""
    rows = []
    for prefix in OPENAI_PREFIXES:
        rows += [relayed_row(prefix + operation.path, operation, relay_handler) for operation in served_operations()]
        rows += [
            Route("GET", f"{prefix}/models", list_models, summary="The models that the caller may use"),
            Route("GET", f"{prefix}/models/{{id...}}", show_model, summary="One of them"),
        ]
    return rows


def served_operations() -> list[Operation]:
    """The surface's own POST paths."""
    return list(openai.OPERATIONS)


def relayed_row(path: str, operation: Operation, handler: Callable[[Operation], RouteHandler]) -> Route:
    """An operation's row at this path."""
    return Route("POST", path, handler(operation), summary=operation.summary, operation=operation)


def relay_handler(operation: Operation) -> RouteHandler:
    """body → model → relay."""

    async def handler(hit: Hit) -> Reply:
        body = body_here(hit) or await body_of(hit)
        ask = await ask_for(hit, operation, body)
        if body.size < openai.LARGE_BYTES:
            concerns_objects = body.may_concern_objects(operation)
        else:
            concerns_objects = await hit.runtime.intake.do(lambda: body.may_concern_objects(operation))
        if concerns_objects:
            ask = await with_objects(hit, ask)
        responder = OpenAIResponder(hit.request, operation.events)
        await relayed(responder, hit, ask)
        return responder.reply

    async def form_handler(hit: Hit) -> Reply:
        async with form_or_body_of(hit) as body:
            return await relayed_answer(hit, await with_objects(hit, await ask_for(hit, operation, body)))

    return form_handler if operation.body == FORM else handler


@asynccontextmanager
async def form_or_body_of(hit: Hit) -> AsyncIterator[openai.RequestBody | FormBody]:
    """Hold what is asked on a form's route until it is answered.

    A form, or JSON where the client says so. Raises what `body_of` does, and InvalidMultipart.
    """
    if asks_with_json(hit):
        yield await body_of(hit)
        return
    form = await form_of(hit)
    try:
        yield form
    finally:
        form.close()


def asks_with_json(hit: Hit) -> bool:
    """Whether the client says that its body is JSON."""
    return "json" in hit.request.headers.get("content-type", "").partition(";")[0].lower()


async def form_of(hit: Hit, *, adds_model: bool = True) -> FormBody:
    """Read a form, which the caller closes. `adds_model` False: none is added."""
    server, refused = hit.runtime.settings.server, hit.runtime.settings.routing.refuse_fields
    try:
        return await hit.runtime.forms.read(
            hit.request,
            max_bytes=server.max_upload_mb * 2**20,
            seconds=server.timeouts.body,
            refused=refused,
            before_large=partial(hit.runtime.relay.accounts.places.take, hit.call, hit.caller),
            adds_model=adds_model,
        )
    finally:
        if not hit.request.is_here:  # an upload that is not finished ends with its answer
            hit.request.keep_alive = False


class OpenAIResponder(EventStream):
    """Answer byte for byte. `reply` is there once the relay is done."""

    def __init__(self, request: Request, rules: EventRules) -> None:
        self._request, self._rules = request, rules
        self._answer: Answer | None = None

    @property
    def reply(self) -> Reply:
        """The whole answer, or the stream that has been sent."""
        return self._answer or self

    def on_head(self, head: Head) -> None:
        self.start(self._request, head.status, [*head.passed, *_STREAM_FIELDS, *head.own])

    def on_heartbeat(self) -> None:
        self.send(_HEARTBEAT)

    @property
    def on_event(self) -> Callable[[bytes], None]:
        """Nothing stands between an upstream's read and the client's transport."""
        return self.send if self._connection is None else self._connection.send

    @property
    def chunked(self) -> asyncio.WriteTransport | None:
        """The client's transport, where its answer is chunked."""
        return self._connection.chunked if self._connection is not None else None

    def on_answer(self, head: Head, body: bytes, encoding: bytes) -> None:
        """Send a whole answer, or one event after a heartbeat.

        As one event of the stream that the heartbeat has begun.
        """
        if self._connection is None:
            self._answer = Answer(head.status, head.passed + head.own, body)
            return
        self.send_as_events(body, encoding, openai.whole_as_events)

    def send_as_events(self, body: bytes, encoding: bytes, as_events: Callable[[bytes], bytes | None]) -> None:
        """Send a whole answer on a stream that has begun."""
        content = readable(body, encoding)
        events = as_events(content) if content is not None else None
        if events is None:
            raise UpstreamFailed("The model could not answer this request.")
        self.send(events)

    def on_refusal(self, head: Head, body: bytes, text: bytes) -> None:
        if self.started:
            self.send(self._rules.refusal_event(text))
        else:
            self._answer = Answer(head.status, [*head.passed, *head.own], body)

    def on_error(self, fault: GatewayError, number: int | None) -> None:
        """End with an event, or cut the stream.

        It is cut where the client would take an event for a part of the answer.
        """
        if number is None:
            self.cut()
        else:
            self.send(self._rules.error_event(fault, number))
            self.finish()

    def on_end(self, usage: Usage | None) -> None:
        if self._connection is not None:
            self.finish()


async def relayed_answer(hit: Hit, ask: Ask, responds: type[OpenAIResponder] = OpenAIResponder) -> Reply:
    """Relay a request, and return what is answered."""
    responder = responds(hit.request, ask.operation.events)
    await relayed(responder, hit, ask)
    return responder.reply


def relayed(responder: Responder, hit: Hit, ask: Ask) -> Coroutine[None, None, None]:
    """Relay a request; its query may ask for a stream."""
    request, passed = hit.request, hit.passed
    if not passed.is_plain:
        asked = request.query.get("stream", "")
        ask = msgspec.structs.replace(ask, streams_by_query=asked.lower() in ("true", "1"))
        user, refused = id_text(ask.caller.user.id), hit.runtime.settings.routing.refuse_fields
        passed = passed.of_request(user, ask.operation.route, refused)
    relay = hit.runtime.relay
    return relay.run(hit.call, ask, responder, client=request.connection, memory=request.held, passed=passed)


async def body_of(hit: Hit) -> openai.RequestBody:
    """What is asked.

    Raises RateLimited (before a large one is read), BodyTooLarge, ClientTooSlow, Overloaded, InvalidJson or
    FieldNotAllowed.
    """
    runtime, request = hit.runtime, hit.request
    server, refused = runtime.settings.server, runtime.settings.routing.refuse_fields
    return await runtime.intake.read(
        request,
        max_bytes=server.max_body_mb * 2**20,
        seconds=server.timeouts.body,
        refused=refused,
        before_large=partial(hit.runtime.relay.accounts.places.take, hit.call, hit.caller),
    )


def body_here(hit: Hit) -> openai.RequestBody | None:
    """A small body that has come with its head; as `body_of`."""
    request = hit.request
    raw = request.body
    if raw is None or len(raw) >= openai.LARGE_BYTES:
        return None
    if (held := request.held) is not None:
        # More than it can become when it is read, and still there is room as a rule.
        most = (raw.count(b",") + raw.count(b"{") + raw.count(b"[")) * VALUE_BYTES + len(raw) * MOST_TIMES_READ
        if most <= held.spare:
            held.spare -= most
        else:
            held.grow_by_json(raw)
    body = openai.read_body(raw)
    rules = openai.allowed_fields(hit.runtime.settings.routing.refuse_fields)
    if not rules.harmless.issuperset(body.fields):
        body.mentions = rules.examine(body.fields)
    return body


async def ask_for(hit: Hit, operation: Operation, body: openai.RequestBody | FormBody) -> Ask:
    """Resolve the model that the body means.

    Raises ModelNotFound, ModelNotAccessible, NoModelGranted or ModelRequired.
    """
    call, lookups, fields = hit.call, hit.runtime.lookups, body.fields
    caller = call.caller or hit.caller
    catalogue = lookups.catalogue or await lookups.find_catalogue(hit.runtime.store)
    name = (hit.params and hit.params.get(DEPLOYMENT)) or fields.get("model")
    plain_name = call.requested_model = name if isinstance(name, str) and "modelId" not in fields else None
    use = lookups.use(caller, plain_name) if plain_name is not None else None
    if use is None:
        use = _looked_up(hit, operation, body, catalogue, plain_name)
    elif use.access.model.operations is not None:  # it may have been found for another operation
        serving(use.access, operation.kind)
    access = call.access = use.access
    others = companions_of(operation, body, caller, access, catalogue) if body.mentions else ()
    return Ask(operation, body, caller, access, catalogue, use.terms, others)


def companions_of(
    operation: Operation, body: openai.RequestBody | FormBody, caller: Caller, access: Access, catalogue: Catalogue
) -> tuple[Companion, ...]:
    """Resolve the models that the body names besides `model`.

    Raises ModelNotAccessible where no endpoint serves all of them.
    """
    found = companions(caller, catalogue, body.mentions)
    pools = [access.model.endpoints]
    if operation.has_fallbacks:
        fallbacks = (catalogue.by_id(reference) for reference in access.model.fallbacks)
        pools += [model.endpoints for model in fallbacks if model is not None]
    require_common_endpoint(found, [endpoint for pool in pools for endpoint in pool])
    return found


def _looked_up(
    hit: Hit, operation: Operation, body: openai.RequestBody | FormBody, catalogue: Catalogue, plain_name: str | None
) -> Use:
    """Resolve the model; keep what its plain name leads to."""
    access = _resolved(hit, operation, body, catalogue)
    use = Use(hit.caller, access, terms_of(access, hit.caller))
    if plain_name is not None and catalogue.find(plain_name) is access.model:
        hit.runtime.lookups.remember(plain_name, use)
    return use


def _resolved(hit: Hit, operation: Operation, body: openai.RequestBody | FormBody, catalogue: Catalogue) -> Access:
    deployment = hit.params.get(DEPLOYMENT)
    named = named_model(body.fields if deployment is None else {**body.fields, "model": deployment})
    if named.model_id is None and named.name is not None:
        hit.call.requested_model = str(named.name)
    unknown_is_assigned = operation.is_text and hit.runtime.settings.routing.unknown_model == "assigned"
    return resolve(
        hit.caller,
        catalogue,
        named,
        unknown_is_assigned=unknown_is_assigned,
        kind=operation.kind,
        is_text=operation.is_text,
    )


async def list_models(hit: Hit) -> Reply:
    models = [access.model for access in accessible(hit.caller, await hit.runtime.store.catalogue())]
    return Answer(200, [JSON], openai.models_list(model.name for model in models))


async def show_model(hit: Hit) -> Reply:
    catalogue = await hit.runtime.store.catalogue()
    model = catalogue.find(hit.params["id"])
    if model is None:
        raise not_found(catalogue, "This model does not exist; `GET models` lists yours.")
    return Answer(200, [JSON], openai.model_entry(access_to(hit.caller, model).model.name))
