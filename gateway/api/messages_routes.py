"""Anthropic's protocol (contract §13): messages, token counts, models."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from multidict import MultiMapping

from gateway.access.resolve import access_to, accessible, not_found
from gateway.api.openai_routes import OpenAIResponder, ask_for, body_of, relayed_answer, relayed_row
from gateway.api.router import ANTHROPIC_PREFIX, Hit, Route, RouteHandler
from gateway.dialects import anthropic, openai
from gateway.dialects.base import Operation
from gateway.errors import GatewayError, InvalidRequest
from gateway.http.reply import Answer, Reply
from gateway.limits import call_terms
from gateway.proxy.ask import Ask
from gateway.proxy.attempt import own_fields
from gateway.proxy.responder import Fields, Head
from gateway.proxy.upstreams import asked_of_own_model
from gateway.proxy.usage_meter import UsageMeter
from gateway.types import Model

_REQUEST_ID = "x-request-id"
_JSON = ("content-type", "application/json")
_USUAL_LIMIT, _MOST = 20, 1000
_PICKED = ("claude", "anthropic")


def messages_routes() -> list[Route]:
    """The rows that any request may match."""
    return [*_relayed("/v1"), *_relayed(ANTHROPIC_PREFIX), *_models(ANTHROPIC_PREFIX)]


def rows_by_version() -> list[Route]:
    """The rows below `/v1` for requests that bear `anthropic-version`."""
    return [*_relayed("/v1"), *_models("/v1")]


def _relayed(prefix: str) -> list[Route]:
    return [
        relayed_row(prefix + anthropic.MESSAGES.path, anthropic.MESSAGES, messages_handler),
        relayed_row(prefix + anthropic.COUNT_TOKENS.path, anthropic.COUNT_TOKENS, count_handler),
    ]


def _models(prefix: str) -> list[Route]:
    return [
        Route("GET", f"{prefix}/models", list_models, summary="The models that the caller may use, page by page"),
        Route("GET", f"{prefix}/models/{{id...}}", show_model, summary="One of them"),
    ]


def messages_handler(operation: Operation) -> RouteHandler:
    """body → model → objects → relay."""

    async def handler(hit: Hit) -> Reply:
        return await relayed_answer(hit, await _asked(hit, operation), MessagesResponder)

    return handler


def count_handler(operation: Operation) -> RouteHandler:
    """The same, but an estimate where Messages are translated.

    No chat upstream counts tokens. It runs no model, and so counts in the bound of such calls alone.
    """

    async def handler(hit: Hit) -> Reply:
        ask = msgspec.structs.replace(await _asked(hit, operation), terms=call_terms(hit.caller))
        asked = await asked_of_own_model(ask, hit.request.held)
        if asked.translated is None:
            return await relayed_answer(hit, ask, MessagesResponder)
        return await _estimated(hit, ask, asked.translated.prompt_tokens)

    return handler


async def _estimated(hit: Hit, ask: Ask, tokens: int) -> Answer:
    """Answer with an estimate: a limited call with its own row."""
    call, meter = hit.call, UsageMeter(ask.operation.usage)
    account = await hit.runtime.relay.accounts.open(call, ask, streamed=False)
    call.served, call.status, call.outcome, meter.answered = ask.access.model, 200, "ok", True
    account.settle(meter, call.served, ask.body.fields, body_size=ask.body.size)
    own = own_fields(call, ask, account.headers)[1:]  # its id is put there for what asked no upstream
    fields = [_JSON, *own, *request_id_field(call.request_id), ("x-gateway-estimated", "tokens")]
    return Answer(200, fields, b'{"input_tokens":%d}' % tokens)


async def _asked(hit: Hit, operation: Operation) -> Ask:
    body = await body_of(hit)
    ask = await ask_for(hit, operation, body)
    if anthropic.may_name_objects(body.raw):
        await _refuse_objects(hit, body)
    return ask


async def _refuse_objects(hit: Hit, body: openai.RequestBody) -> None:
    if len(body.raw) < openai.LARGE_BYTES:
        anthropic.refuse_objects(body.fields)
    else:
        await hit.runtime.intake.do(lambda: anthropic.refuse_objects(body.fields))


async def list_models(hit: Hit) -> Reply:
    models = [access.model for access in accessible(hit.caller, await hit.runtime.store.catalogue())]
    display_names = {name: model.name for model in models for name in shown_names(model)}
    page = page_of(_in_stages(list(display_names), hit.request.query), hit.request.query)
    return _answered(hit, anthropic.models_page(page, display_names))


async def show_model(hit: Hit) -> Reply:
    catalogue = await hit.runtime.store.catalogue()
    name = hit.params["id"]
    model = catalogue.find(name)
    if model is None:
        raise not_found(catalogue, "This model does not exist; `GET models` lists yours.")
    model = access_to(hit.caller, model).model
    shown = name if name in shown_names(model) else model.name
    return _answered(hit, anthropic.model_entry(shown, model.name))


def shown_names(model: Model) -> list[str]:
    """Return a model's name, and aliases that Claude Code's picker shows."""
    return [model.name] if is_picked(model.name) else [model.name, *filter(is_picked, model.aliases)]


def is_picked(name: str) -> bool:
    """Whether Claude Code's picker shows a model of this name."""
    return name.startswith(_PICKED)


def page_of(names: Sequence[str], query: MultiMapping[str]) -> anthropic.Page:
    """Cut the page that `after_id`, `before_id` and `limit` ask for.

    Raises InvalidRequest. A cursor that nobody knows gives an empty page.
    """
    limit, after, before = _limit(query.get("limit")), query.get("after_id"), query.get("before_id")
    if after is not None and before is not None:
        raise InvalidRequest("`after_id` and `before_id` cannot be given together.", param="before_id")
    if after is not None:
        names = names[names.index(after) + 1 :] if after in names else []
    elif before is not None:
        names = names[: names.index(before)] if before in names else []
        return anthropic.Page(names[-limit:], has_more=len(names) > limit)
    return anthropic.Page(names[:limit], has_more=len(names) > limit)


def _limit(text: str | None) -> int:
    if text is None:
        return _USUAL_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _MOST):
        raise InvalidRequest(f"`limit` must be a number from 1 to {_MOST:,}.", param="limit")
    return int(text)


def _in_stages(names: list[str], query: MultiMapping[str]) -> list[str]:
    """All of ours are active, so another `lifecycle` alone has none."""
    stages = [*query.getall("lifecycle[]", []), *query.getall("lifecycle", [])]
    return names if not stages or "active" in stages else []


def _answered(hit: Hit, body: bytes) -> Answer:
    return Answer(200, [_JSON, ("request-id", hit.call.request_id)], body)


class MessagesResponder(OpenAIResponder):
    """The same byte for byte, with `request-id` and Anthropic's signs of life."""

    _request_id: str | None = None

    def on_head(self, head: Head) -> None:
        super().on_head(self._named(head))

    def on_heartbeat(self) -> None:
        self.send(anthropic.PING)

    def on_answer(self, head: Head, body: bytes, encoding: bytes) -> None:
        """Send a whole answer, or its events after a heartbeat."""
        if not self.started:
            self._answer = Answer(head.status, [*head.passed, *self._named(head).own], body)
            return
        self.send_as_events(body, encoding, anthropic.message_as_events)

    def on_refusal(self, head: Head, body: bytes, text: bytes) -> None:
        super().on_refusal(self._named(head), body, text)

    def on_error(self, fault: GatewayError, number: int | None) -> None:
        if number is None:
            self.cut()
        else:
            self.send(anthropic.error_event(fault, self._request_id))
            self.finish()

    def _named(self, head: Head) -> Head:
        """Return the head with `request-id`."""
        self._request_id = request_id = next((value for name, value in head.own if name == _REQUEST_ID), None)
        return msgspec.structs.replace(head, own=[*head.own, *request_id_field(request_id)])


def request_id_field(request_id: str | None) -> Fields:
    return [("request-id", request_id)] if request_id is not None else []
