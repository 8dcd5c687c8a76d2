"""Make spans of a finished call, as plain values.

By the conventions of HTTP and GenAI: https://opentelemetry.io/docs/specs/semconv/. No word of a client's or an
upstream's own choice is among them: a model that nobody knows is not named, an endpoint is shown by its id.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from gateway.observability.calls import NO_ROUTE
from gateway.observability.otel.conventions import GenAI, operation_of, provider_of
from gateway.observability.otel.finished import FinishedCall
from gateway.observability.tracing import span_id
from gateway.types import Endpoint, Model, id_text, names_model

Value = str | int | float | bool
Attributes = dict[str, Value]

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"))
_NANOSECONDS = 1_000_000_000
_ANSWERED = ("ok", "upstream_error")  # outcomes with which the status is the upstream's


class Span(NamedTuple):
    """A span; times in nanoseconds since 1970."""

    name: str
    kind: Literal["server", "client"]
    id: int
    began: int
    ended: int
    attributes: Attributes
    is_error: bool


class Spans(NamedTuple):
    """Those of one request. `parent`: the client's span, where it named one."""

    trace: int
    parent: int | None
    request: Span
    attempts: list[Span]


def spans_of(call: FinishedCall) -> Spans:
    trace, about = call.trace, _operation(call)
    return Spans(
        int(call.request_id if trace is None else trace.trace_id, 16),
        None if trace is None else int(trace.parent_id, 16),
        _request(call, about),
        list(_attempts(call, about)),
    )


def _operation(call: FinishedCall) -> GenAI | None:
    # The one route whose last segment is a path of its own.
    return operation_of(call.method, call.path if call.route.endswith("{path}") else call.route)


def _request(call: FinishedCall, about: GenAI | None) -> Span:
    method = call.method if call.method in _METHODS else "_OTHER"
    attributes: Attributes = {"http.request.method": method, "gateway.request_id": call.request_id}
    if call.route != NO_ROUTE:
        attributes["http.route"] = call.route
    if call.status:
        attributes["http.response.status_code"] = call.status
    if call.outcome is not None:
        attributes["gateway.outcome"] = call.outcome
    error = _error(call)
    if error is not None:
        attributes["error.type"] = error
    model = _asked_model(call)
    if about is not None:
        attributes |= _genai(call, about, model)
        name = f"{about.operation} {model}" if model else about.operation
    else:
        name = f"{method} {call.route}" if call.route != NO_ROUTE else method
    # A client's own mistake is none of the server's, as the conventions have it.
    is_error = call.status >= 500 or (error is not None and call.status < 400)
    return Span(name, "server", _id(call), _moment(call, call.began), call.clock, attributes, is_error)


def _genai(call: FinishedCall, about: GenAI, model: str | None) -> Attributes:
    found: Attributes = {"gen_ai.operation.name": about.operation}
    if about.output is not None:
        found["gen_ai.output.type"] = about.output
    if model is not None:
        found["gen_ai.request.model"] = model
    if call.endpoint is not None:
        found["gen_ai.provider.name"] = provider_of(call.endpoint, is_messages=_is_messages(call))
    if call.served is not None and call.first_byte is not None:
        found["gen_ai.response.model"] = _writable(call.served.name)
    if call.streamed:
        found["gen_ai.request.stream"] = True
        if call.first_byte is not None:
            found["gen_ai.response.time_to_first_chunk"] = call.first_byte - call.began
    return found | _tokens(call)


def _tokens(call: FinishedCall) -> Attributes:
    usage = call.usage
    if usage is None or not usage.total_tokens:
        return {}
    found: Attributes = {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
    }
    if usage.cached_tokens:
        found["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
    if usage.reasoning_tokens:
        found["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
    details = usage.details
    if details is not None:
        written = details.cache_write_tokens + details.cache_write_1h_tokens + details.cache_write_12h_tokens
        if written:
            found["gen_ai.usage.cache_creation.input_tokens"] = written
    return found


def _attempts(call: FinishedCall, about: GenAI | None) -> Iterator[Span]:
    for number, failed in enumerate(call.failures, 1):
        began = failed.ended - failed.milliseconds / 1000
        yield _attempt(call, about, number, failed.asked, (began, failed.ended), failed.status, failed.reason)
    number = len(call.failures) + 1
    if call.attempts >= number and call.served is not None and call.endpoint is not None:
        has_answer = call.first_byte is not None and call.outcome in _ANSWERED
        times = call.attempt_began or call.began, call.ended
        status, error = (call.status if has_answer else 0), _error(call)
        yield _attempt(call, about, number, (call.served, call.endpoint), times, status, error)


def _attempt(
    call: FinishedCall,
    about: GenAI | None,
    number: int,
    asked: tuple[Model, Endpoint],
    times: tuple[float, float],
    status: int,
    error: str | None,
) -> Span:
    """`status`: 0 for none. `error`: why it failed, if so."""
    (model, endpoint), (began, ended) = asked, times
    provider_model = _writable(endpoint.provider_model or model.provider_model or model.name)
    attributes: Attributes = {
        "gen_ai.provider.name": provider_of(endpoint, is_messages=_is_messages(call)),
        "gen_ai.request.model": provider_model,
        "server.address": _writable(id_text(endpoint.id)),
    }
    name = provider_model
    if about is not None:
        attributes["gen_ai.operation.name"] = about.operation
        name = f"{about.operation} {provider_model}"
    if status:
        attributes["http.response.status_code"] = status
    if error is not None:
        attributes["error.type"] = error
    began, ended = _moment(call, began), _moment(call, ended)
    return Span(name, "client", _id(call, number), began, ended, attributes, error is not None)


def _error(call: FinishedCall) -> str | None:
    """Why the request failed: our code, an upstream's status, or the outcome."""
    if call.code is not None:
        return call.code
    if call.outcome in ("cancelled", "interrupted"):
        return call.outcome
    if call.status >= 400:
        return str(call.status)
    return call.outcome if call.outcome == "upstream_error" else None


def _asked_model(call: FinishedCall) -> str | None:
    """The model, as the client named it if by a known name."""
    model = call.resolved or call.served
    if model is None:
        return None
    is_known = call.named is not None and names_model((call.named,), model)
    return _writable(call.named if is_known and call.named is not None else model.name)


def _is_messages(call: FinishedCall) -> bool:
    return call.route.endswith("/messages")


def _id(call: FinishedCall, attempt: int = 0) -> int:
    return int(span_id(call.request_id, attempt), 16)


def _moment(call: FinishedCall, moment: float) -> int:
    """Nanoseconds since 1970 of a time of `perf_counter`."""
    return call.clock - round((call.ended - moment) * _NANOSECONDS)


def _writable(text: str) -> str:
    """Names from YAML may hold what UTF-8 cannot write."""
    return text.encode("utf-8", "backslashreplace").decode()
