"""Wrap every route: request id, admission, caller, errors, access line."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from time import perf_counter

from multidict import CIMultiDictProxy, istr

from gateway.access.authenticate import Shown
from gateway.access.client_address import Forwarded, client_address
from gateway.api.messages_responder import request_id_field
from gateway.api.panel import flat_body
from gateway.api.router import (
    ErrorShape,
    Hit,
    Route,
    Router,
    error_shape,
    find_route,
    is_ai_path,
    require_family,
    socket_route,
    wants_websocket,
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
from gateway.http.client.passed_on import NOTHING, passed_on
from gateway.http.framing import refuse_ambiguous
from gateway.http.memory_budget import FULL, REQUEST_BYTES, SPARE_BYTES, Held
from gateway.http.message import Headers, Request
from gateway.http.reply import Answer, Reply
from gateway.http.via import gateways_passed
from gateway.observability.calls import CLIENT_GONE, NO_ROUTE, Call
from gateway.observability.ended import access_line
from gateway.observability.tracing import trace_of
from gateway.types import Caller, Scope

_LONGEST_CLIENT_ID = 128
_REQUEST_ID, _CLIENT_REQUEST_ID = istr("x-request-id"), istr("x-client-request-id")  # quick to look up
_COOKIE = istr("cookie")
_SESSION, _SESSION_ID = istr("x-session-id"), istr("session_id")
_ANTHROPIC_VERSION = istr("anthropic-version")
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


class Reading:
    """The facts of a head, shared by requests that repeat it."""

    __slots__ = (
        "by_version",
        "client_request_id",
        "conversation",
        "error_shape",
        "family",
        "forwarded",
        "is_ai",
        "params",
        "passed",
        "route",
        "scope",
        "shown",
        "trace",
        "via",
        "wants_websocket",
    )

    def __init__(self, headers: CIMultiDictProxy[str], method: str, path: str) -> None:
        self.wants_websocket = wants_websocket(method, headers)
        self.client_request_id = client_request_id(headers.get(_REQUEST_ID) or headers.get(_CLIENT_REQUEST_ID))
        self.conversation = headers.get(_SESSION) or headers.get(_SESSION_ID)
        self.trace = trace_of(headers)
        self.via = gateways_passed(headers)
        self.is_ai = is_ai_path(path)
        self.by_version = _ANTHROPIC_VERSION in headers and path.startswith("/v1/")
        self.error_shape = error_shape(path, by_version=self.by_version)
        self.forwarded = Forwarded.of(headers)
        self.shown = Shown.of(headers, is_websocket=self.wants_websocket)
        self.route: Route | None = None  # once it was looked for
        self.family: str | None = None  # that `surface.extra` has to name for the route
        self.scope: Scope | None = None  # that the route asks for
        self.params: Mapping[str, str] = {}
        self.passed = NOTHING

    def find(self, runtime: Runtime, router: Router, request: Request) -> Route:
        """Find the route, and what of the head goes up on it.

        Raises RouteNotFound, MethodNotAllowed or UpgradeNotSupported.
        """
        head, self.params = request.head, {}
        route = socket_route(runtime, router, head.path) if self.wants_websocket else None
        if route is None:
            served = runtime.settings.surface.extra
            by_version = self.by_version
            route, self.params = find_route(router, head.method, head.path, head.headers, served, by_version=by_version)
        self.route, self.family = route, route.family
        self.scope = None if route.scope == "any" else route.scope
        if route.operation is not None:
            self.passed = passed_on(head.headers, head.target, route.operation.client_headers, self.shown.presented)
        return route


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
            reading = head.known = Reading(head.headers, head.method, head.path)
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


def client_request_id(text: str | None) -> str | None:
    """Return a client's request id, None where it is unusable.

    Usable: 1 to 128 printable ASCII characters.
    """
    if text is None or not 0 < len(text) <= _LONGEST_CLIENT_ID or not (text.isascii() and text.isprintable()):
        return None
    return text


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
