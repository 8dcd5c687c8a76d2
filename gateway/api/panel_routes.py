"""Routes of a panel's front end (contract §6).

Chat, studio, discovery, and the relay with the model in the URL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import msgspec

from gateway.access.resolve import Named, accessible, resolve
from gateway.api.kept.object_asks import with_objects
from gateway.api.openai_routes import (
    ask_for,
    body_of,
    companions_of,
    form_or_body_of,
    relayed_answer,
    relayed_row,
    served_operations,
)
from gateway.api.panel import (
    Asked,
    ChatAnswer,
    ChatBody,
    ChatEnd,
    KeptAnswer,
    ModelView,
    MyModel,
    PanelStream,
    StudioAnswer,
    StudioBody,
    Transcript,
    chat_completion,
    my_model,
    reaches,
    read_as,
    studio_completion,
    usage_view,
    view,
)
from gateway.api.router import Hit, Route, RouteHandler
from gateway.dialects import openai
from gateway.dialects.base import Operation
from gateway.dialects.openai.operations import CHAT_COMPLETIONS, FORM
from gateway.errors import (
    AiUnavailable,
    InvalidJson,
    InvalidRequest,
    ModelRequired,
    NoModelGranted,
    TierRequired,
    UpstreamFault,
)
from gateway.http.multipart import FormBody
from gateway.http.reply import Answer, Reply
from gateway.limits import grant_scope, terms_of
from gateway.proxy.ask import Ask
from gateway.types import Access, Limits

JSON = ("content-type", "application/json")
NO_MODEL_REPLY = "No AI model has been set up for your account yet. Please ask your administrator for one."

_Asked = TypeVar("_Asked", bound=Asked)
_BY_THE_MONTH = Limits()  # a model without limits is counted by the month


class Said(NamedTuple):
    """An answer for the panel.

    `model` None: there was none to ask.
    """

    transcript: Transcript
    usage: openai.Usage | None
    model: str | None


class Words(NamedTuple):
    """The shapes of a route's answer: whole, and streamed."""

    whole: Callable[[Said], msgspec.Struct]
    end: Callable[[Said], msgspec.Struct]


# -- chat and studio


async def chat(hit: Hit) -> Reply:
    most = hit.runtime.settings.chat.max_tokens
    body = await asked_of(hit, ChatBody, lambda asked: chat_completion(asked, max_tokens=most))
    return await converse(hit, body, CHAT_WORDS)


async def studio(hit: Hit) -> Reply:
    settings = hit.runtime.settings
    if not reaches(hit.caller.user.tier, settings.studio.tier, settings.tiers):
        raise TierRequired(settings.studio.tier)
    return await converse(hit, await asked_of(hit, StudioBody, studio_completion), STUDIO_WORDS)


async def asked_of(
    hit: Hit, shape: type[_Asked], complete: Callable[[_Asked], openai.RequestBody]
) -> openai.RequestBody:
    """What a panel's body comes to. Raises InvalidRequest, and what `Intake.read` raises."""
    runtime, server = hit.runtime, hit.runtime.settings.server
    try:
        body = await runtime.intake.read(
            hit.request,
            max_bytes=server.max_body_mb * 2**20,
            seconds=server.timeouts.body,
            before_large=partial(runtime.relay.accounts.places.take, hit.call, hit.caller),
        )
    except InvalidJson as fault:
        raise InvalidRequest(fault.message) from None
    if len(body.raw) < openai.LARGE_BYTES:
        return complete(read_as(shape, body.fields))
    if hit.request.held is not None:
        hit.request.held.grow(2 * len(body.raw))  # it is written anew
    return await runtime.intake.do(lambda: complete(read_as(shape, body.fields)))


async def converse(hit: Hit, body: openai.RequestBody, words: Words) -> Reply:
    """Relay a conversation; answer without a model too.

    Raises AiUnavailable where no endpoint has an answer that could be shown, and whatever the relay refuses.
    """
    streamed = body.fields.get("stream") is True
    try:
        ask = await ask_for(hit, CHAT_COMPLETIONS, body)
    except (NoModelGranted, ModelRequired):
        return without_model(hit, words, streamed=streamed)
    return await (told_in_events(hit, ask, words) if streamed else told_whole(hit, ask, words))


async def told_whole(hit: Hit, ask: Ask, words: Words) -> Reply:
    kept = KeptAnswer()
    await hear(hit, ask, kept)
    told = said(hit, kept.transcript, kept.usage)
    return Answer(200, [JSON, *kept.fields], msgspec.json.encode(words.whole(told)))


async def told_in_events(hit: Hit, ask: Ask, words: Words) -> Reply:
    stream = PanelStream(
        hit.request, lambda transcript, usage: msgspec.json.encode(words.end(said(hit, transcript, usage)))
    )
    await hear(hit, ask, stream)
    return stream


def without_model(hit: Hit, words: Words, *, streamed: bool) -> Reply:
    """Not an error: a chat window shows it like any other answer."""
    transcript = Transcript()
    transcript.add_text(NO_MODEL_REPLY)
    nothing = Said(transcript, None, None)
    if not streamed:
        return Answer(200, [JSON], msgspec.json.encode(words.whole(nothing)))
    stream = PanelStream(hit.request, lambda _, __: msgspec.json.encode(words.end(nothing)))
    stream.send_whole([("x-request-id", hit.call.request_id)], transcript)
    return stream


async def hear(hit: Hit, ask: Ask, responder: KeptAnswer | PanelStream) -> None:
    """Relay what is asked. Raises AiUnavailable where there is no answer.

    Once something has gone out, the responder tells that itself.
    """
    try:
        client, memory = hit.request.connection, hit.request.held
        await hit.runtime.relay.run(hit.call, ask, responder, client=client, memory=memory)
    except UpstreamFault as fault:
        raise AiUnavailable(fault.message, headers=fault.headers) from None
    if responder.fault is not None and not responder.started:
        raise AiUnavailable(responder.fault.message, headers=tuple(responder.fields))


def said(hit: Hit, transcript: Transcript, usage: openai.Usage | None) -> Said:
    served = hit.call.served
    return Said(transcript, usage, served.name if served is not None else None)


def _studio_answer(said: Said) -> StudioAnswer:
    transcript = said.transcript
    return StudioAnswer(transcript.reply, said.model, usage_view(said.usage), transcript.finish_reason)


CHAT_WORDS = Words(
    whole=lambda said: ChatAnswer(said.transcript.reply),
    end=lambda said: ChatEnd(said.transcript.reply, usage_view(said.usage)),
)
STUDIO_WORDS = Words(whole=_studio_answer, end=_studio_answer)


# -- discovery


async def list_models(hit: Hit) -> Reply:
    """List every model, granted or not."""
    models = (await hit.runtime.store.catalogue()).models
    return Answer(200, [JSON], msgspec.json.encode([view(model) for model in models]))


async def list_my_models(hit: Hit) -> Reply:
    """The caller's models in order of assignment, with what their limits leave."""
    granted = accessible(hit.caller, await hit.runtime.store.catalogue())
    rows = await asyncio.gather(*[_counted(hit, access) for access in granted])
    return Answer(200, [JSON], msgspec.json.encode(rows))


async def _counted(hit: Hit, access: Access) -> MyModel:
    scope, now = grant_scope(access, hit.caller), hit.runtime.clock().timestamp()
    return my_model(access, await hit.runtime.limiter.used(scope, access.limits or _BY_THE_MONTH, now))


# -- the relay with the model in the URL


def proxy_handler(operation: Operation) -> RouteHandler:
    """Relay to the URL's model, whatever the body names."""

    async def handler(hit: Hit) -> Reply:
        return await relayed_by_id(hit, operation, await body_of(hit))

    async def form_handler(hit: Hit) -> Reply:
        async with form_or_body_of(hit) as body:
            return await relayed_by_id(hit, operation, body)

    return form_handler if operation.body == FORM else handler


async def relayed_by_id(hit: Hit, operation: Operation, body: openai.RequestBody | FormBody) -> Reply:
    catalogue = await hit.runtime.store.catalogue()
    named = Named(model_id=hit.params["modelId"], name=None, name_given=False)
    hit.call.access = access = resolve(
        hit.caller, catalogue, named, unknown_is_assigned=False, kind=operation.kind, is_text=operation.is_text
    )
    others = companions_of(operation, body, hit.caller, access, catalogue)
    ask = Ask(operation, body, hit.caller, access, catalogue, terms_of(access, hit.caller), others)
    return await relayed_answer(hit, await with_objects(hit, ask))


# The paths are rows, spelled out: one that is written in any other way (dots, escapes, doubled slashes) is not found.
ROUTES = [
    Route("POST", "/api/ai/chat", chat, body=ChatBody, answer=ChatAnswer, summary="Chat with a model"),
    Route("POST", "/api/ai/studio", studio, body=StudioBody, answer=StudioAnswer, summary="Chat, with settings"),
    Route("GET", "/api/ai/models", list_models, answer=list[ModelView], summary="Every model"),
    Route("GET", "/api/ai/my-models", list_my_models, answer=list[MyModel], summary="The caller's models"),
    *(
        msgspec.structs.replace(
            relayed_row(f"/api/ai/proxy/{{modelId}}{version}{operation.path}", operation, proxy_handler),
            summary=f"{operation.summary}, of the model in the path",
        )
        for operation in served_operations()
        if operation.family == "core"
        for version in ("", "/v1")
    ),
]
