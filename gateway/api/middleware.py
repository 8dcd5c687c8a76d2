"""Wrap every route: request id, admission, caller, errors, access line."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from time import perf_counter

from multidict import istr

from gateway.access.authenticate import Shown
from gateway.access.client_address import client_address
from gateway.api.head_reading import Reading
from gateway.api.messages_routes import request_id_field
from gateway.api.panel import flat_body
from gateway.api.router import (
    ErrorShape,
    Hit,
    Route,
    Router,
    require_family,
)
from gateway.api.runtime import Current, Runtime
from gateway.api.signed_in import signed_in
from gateway.dialects import anthropic, openai
from gateway.errors import (
    FeatureDisabled,
    GatewayError,
    InternalError,
    Overloaded,
    ShuttingDown,
)
from gateway.http.framing import refuse_ambiguous
from gateway.http.memory_budget import FULL, REQUEST_BYTES, SPARE_BYTES, Held
from gateway.http.message import Headers, Request
from gateway.http.reply import Answer, Reply
from gateway.observability.calls import CLIENT_GONE, NO_ROUTE, Call
from gateway.observability.ended import access_line
from gateway.types import Caller, Scope

_COOKIE = istr("cookie")  # quick to look up
_CLOSE = ("connection", "close")

_METHODS_ALLOWED = "GET, HEAD, POST, PUT, PATCH, DELETE"
_HEADERS_ALLOWED = ("authorization", "content-type", "x-api-key", "api-key", "x-gateway-user", "x-request-id")
_PREFLIGHT_SECONDS = "7200"  # the longest that any browser trusts a preflight's answer, but for Firefox' day
_HEADER_NAMES = re.compile(r"[\w!#$%&'*+.^`|~-]+(?: *, *[\w!#$%&'*+.^`|~-]+)*", re.ASCII)
_EXPOSED = ", ".join(
    (
        "x-request-id",
        "request-id",
        "x-upstream-request-id",
        "x-gateway-model",
        "x-gateway-attempts",
        "x-gateway-requested-model",
        "x-gateway-dropped",
        "x-gateway-estimated",
        *(f"x-ratelimit-{what}-{unit}" for unit in ("requests", "tokens") for what in ("limit", "remaining", "reset")),
        "retry-after",
        "x-should-retry",
        "server-timing",
        "openai-processing-ms",
        "openai-version",
    )
)


class Dispatcher:
    """The server's one handler. The order of refusals is the contract's, §3.

    A request is served to its end from the runtime that is current at its beginning.
    """

    def __init__(self, current: Current, router: Router, by_version: Router) -> None:
        self._current = current
        self._router = router
        self._by_version = by_version  # for what bears `anthropic-version`, below /v1

    async def __call__(self, request: Request) -> Reply:
        runtime, connection, head = self._current.runtime, request.connection, request.head
        server = runtime.settings.server
        origins = server.cors_origins
        connection.answer_fields = cross_origin_fields(origins, head.headers) if origins else ()
        reading: Reading | None = head.known
        if reading is None:
            reading = head.known = Reading.of(head)
        peer = connection.client
        if server.trusted_proxies and reading.forwarded.hops:
            peer = client_address(peer, reading.forwarded, server.trusted_proxies)
        call = Call(
            head.method,
            head.path,
            peer,
            reading.client_request_id,
            trace=reading.trace,
            conversation=reading.conversation,
            via=reading.via,
        )
        try:
            response = await self._answer(runtime, request, call, reading)
        except GatewayError as fault:
            response = rendered(fault, call, reading.error_shape)
            # Frames on its way may know it, and so keep what they held until somebody looks for cycles.
            fault.__traceback__ = fault.__context__ = None
        except asyncio.CancelledError:
            if not call.was_interrupted():
                call.outcome, call.status = "cancelled", CLIENT_GONE
                raise
            response = rendered(ShuttingDown(), call, reading.error_shape)
        except ConnectionResetError:
            call.outcome, call.status = "cancelled", CLIENT_GONE
            raise
        except Exception:
            runtime.log.exception("a mistake of the gateway", request_id=call.request_id)
            mistake = InternalError(f"The gateway made a mistake (request {call.request_id}).")
            response = rendered(mistake, call, reading.error_shape)
        finally:
            runtime.calls.leave(call)
            now = perf_counter()
            runtime.counters.finished(call, now)
            runtime.log.info(access_line(call, now))  # type: ignore[arg-type]  # ours take it, as structlog any object
        if runtime.calls.draining:
            response.force_close()
        return response

    async def _answer(self, runtime: Runtime, request: Request, call: Call, reading: Reading) -> Reply:
        lookups, route = runtime.lookups, reading.route
        lookups.begin()
        if route is None:
            route = await self._find(runtime, request, reading)
        elif reading.is_ai and not lookups.features.get("ai"):
            await require_ai(runtime)
        if reading.family is not None:
            require_family(runtime, reading.family)
        call.route = route.path
        if route.scope is not None:
            runtime.calls.enter(call, runtime.settings.server.max_in_flight)
            memory = runtime.memory
            if memory.held + REQUEST_BYTES > runtime.bounds.memory_bytes:
                raise Overloaded(FULL)
            memory.held += REQUEST_BYTES
            request.held = held = Held(memory, REQUEST_BYTES, SPARE_BYTES)
            known = lookups.callers.get(reading.shown)
            if known is not None and reading.scope in known.scopes:
                caller = known.caller
            else:
                caller = await self._caller(runtime, request, call, reading.shown, reading.scope)
            call.caller, held.owner = caller, caller.user.id
        response = await route.handler(Hit(runtime, request, call, reading.params, reading.passed))
        if call.attempts == 0 and isinstance(response, Answer):
            response.fields = (*response.fields, ("x-request-id", call.request_id))
        call.status = call.status or response.status
        return response

    async def _find(self, runtime: Runtime, request: Request, reading: Reading) -> Route:
        """Find the route of a head that is new."""
        head = request.head
        refuse_ambiguous(head.headers, http11=head.http11)
        if is_preflight(head.method, runtime.settings.server.cors_origins, head.headers):
            return _PREFLIGHT
        if reading.is_ai:
            await require_ai(runtime)
        return reading.find(runtime, self._by_version if reading.by_version else self._router, request)

    async def _caller(
        self, runtime: Runtime, request: Request, call: Call, shown: Shown, scope: Scope | None
    ) -> Caller:
        """Look the caller up: by its key, else by its session."""
        caller = runtime.authenticator.remembered(shown, scope, call.peer)
        if caller is not None:
            return caller
        if shown.presented is None and _COOKIE in request.headers:
            caller = await signed_in(runtime, request, call, scope, shown.acted_for)
            if caller is not None:
                return caller
        return await runtime.authenticator.caller(shown, scope, call.peer)


async def require_ai(runtime: Runtime) -> None:
    """Raise FeatureDisabled unless the feature `ai` is on.

    The store is asked only where it is not known.
    """
    features = runtime.lookups.features
    if "ai" not in features:
        features["ai"] = await runtime.store.feature("ai")
    if not features["ai"]:
        raise FeatureDisabled("The AI feature is switched off.")


def cross_origin_fields(allowed: tuple[str, ...], headers: Mapping[str, str]) -> Headers:
    """Return the CORS headers of every answer.

    Credentials in the browser's sense (cookies) are never allowed: a key is sent by the page that has it.
    """
    if "*" in allowed:
        return (("access-control-allow-origin", "*"), ("access-control-expose-headers", _EXPOSED))
    origin = headers.get("origin")
    if origin is None or origin not in allowed:
        return (("vary", "Origin"),)
    return (
        ("access-control-allow-origin", origin),
        ("access-control-expose-headers", _EXPOSED),
        ("vary", "Origin"),
    )


def is_preflight(method: str, allowed: tuple[str, ...], headers: Mapping[str, str]) -> bool:
    """Whether the request is a preflight from an allowed origin."""
    if method != "OPTIONS":
        return False
    origin = headers.get("origin")
    is_allowed = origin is not None and ("*" in allowed or origin in allowed)
    return is_allowed and "access-control-request-method" in headers


async def preflight_answer(hit: Hit) -> Answer:
    """Return 204 for a preflight of any path.

    The request itself finds out whether there is anything. Clients may send headers as they like (the `openai`
    libraries have a dozen of their own), so what is asked for is allowed.
    """
    asked = hit.request.headers.get("access-control-request-headers", "")
    extra = (name.strip().lower() for name in asked.split(",")) if _HEADER_NAMES.fullmatch(asked.strip()) else ()
    fields = (
        ("access-control-allow-methods", _METHODS_ALLOWED),
        ("access-control-allow-headers", ", ".join(dict.fromkeys((*_HEADERS_ALLOWED, *extra)))),
        ("access-control-max-age", _PREFLIGHT_SECONDS),
    )
    return Answer(204, fields, b"")


_PREFLIGHT = Route("OPTIONS", NO_ROUTE, preflight_answer, scope=None)


def rendered(fault: GatewayError, call: Call | None = None, shape: ErrorShape = "openai") -> Answer:
    """Render an error in the shape of its path."""
    if shape == "flat" and not isinstance(fault, FeatureDisabled):
        body = flat_body(fault)
    elif shape == "anthropic":
        body = anthropic.error_body(fault, call.request_id if call is not None else None)
    else:
        body = openai.error_body(fault)
    headers = [("content-type", "application/json"), *(field for field in fault.headers if field != _CLOSE)]
    if call is not None:
        call.status, call.code = fault.status, fault.code
        if not any(name == "x-request-id" for name, _ in headers):
            headers.append(("x-request-id", call.request_id))
        if shape == "anthropic":
            headers += request_id_field(call.request_id)
    answer = Answer(fault.status, headers, body)
    if _CLOSE in fault.headers:
        answer.force_close()
    return answer
