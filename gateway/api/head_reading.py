"""Read what a request's head says, and where it differs."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace
from multidict import CIMultiDictProxy, istr

from gateway.access.authenticate import Shown
from gateway.access.client_address import Forwarded
from gateway.api.router import (
    ErrorShape,
    Route,
    Router,
    error_shape,
    find_route,
    is_ai_path,
    socket_route,
    wants_websocket,
)
from gateway.api.runtime import Runtime
from gateway.http.client.passed_on import NOTHING, PassedOn, passed_on
from gateway.http.message import Head, Request
from gateway.http.via import gateways_passed
from gateway.observability.tracing import Trace, trace_of
from gateway.types import Scope

_LONGEST_CLIENT_ID = 128
_REQUEST_ID, _CLIENT_REQUEST_ID = istr("x-request-id"), istr("x-client-request-id")  # quick to look up
_SESSION, _SESSION_ID = istr("x-session-id"), istr("session_id")
_ANTHROPIC_VERSION = istr("anthropic-version")
# What a field decides, where it differs between heads that are alike otherwise (`Reading.varied`).
_REQUEST_IDS = frozenset((_REQUEST_ID, _CLIENT_REQUEST_ID))
_CREDENTIALS = frozenset(("authorization", "x-api-key", "api-key", "x-gateway-user"))
_TRACES, _CONVERSATIONS = frozenset(("traceparent", "tracestate")), frozenset((_SESSION, _SESSION_ID))
_OF_PROXIES = frozenset(("x-forwarded-for", "x-forwarded-proto", "forwarded"))
_READ = _CREDENTIALS | _TRACES | _CONVERSATIONS | _OF_PROXIES
_DECIDING = frozenset(
    (_ANTHROPIC_VERSION, "cookie", "origin", "sec-websocket-protocol", "via")
)  # the route, the answer


class Reading(msgspec.Struct, eq=False):
    """The facts of a head, shared by requests that repeat it."""

    wants_websocket: bool
    client_request_id: str | None
    conversation: str | None
    trace: Trace | None
    via: tuple[str, ...]
    is_ai: bool
    by_version: bool
    error_shape: ErrorShape
    forwarded: Forwarded
    shown: Shown
    route: Route | None = None  # once it was looked for
    family: str | None = None  # that `surface.extra` has to name for the route
    scope: Scope | None = None  # that the route asks for
    params: Mapping[str, str] = {}
    passed: PassedOn = NOTHING

    @classmethod
    def of(cls, head: Head) -> Reading:
        """Read a head; of one that is like another, what differs."""
        like: Reading | None = head.like.known if head.like is not None else None
        again = like.varied(head) if like is not None else None
        if again is not None:
            return again
        headers, path = head.headers, head.path
        wanted = wants_websocket(head.method, headers)
        by_version = _ANTHROPIC_VERSION in headers and path.startswith("/v1/")
        return cls(
            wants_websocket=wanted,
            client_request_id=_client_request_id(headers),
            conversation=_conversation(headers),
            trace=trace_of(headers),
            via=gateways_passed(headers),
            is_ai=is_ai_path(path),
            by_version=by_version,
            error_shape=error_shape(path, by_version=by_version),
            forwarded=Forwarded.of(headers),
            shown=Shown.of(headers, is_websocket=wanted),
        )

    def varied(self, head: Head) -> Reading | None:
        """Return the facts of a head like this one's.

        None where more than a request's own words differ.
        """
        varying, headers, route = head.varying, head.headers, self.route
        operation = route.operation if route is not None else None
        if operation is None or not varying.isdisjoint(_DECIDING):
            return None
        again = replace(self, passed=replace(self.passed, headers=headers))
        if not varying.isdisjoint(_REQUEST_IDS):
            again.client_request_id = _client_request_id(headers)
        if not varying.isdisjoint(_READ):
            again._read_again(headers, varying)
        if not (varying.isdisjoint(operation.client_headers) and varying.isdisjoint(_CREDENTIALS)):
            again.passed = passed_on(headers, head.target, operation.client_headers, again.shown.presented)
        return again

    def _read_again(self, headers: CIMultiDictProxy[str], varying: frozenset[str]) -> None:
        if not varying.isdisjoint(_TRACES):
            self.trace = trace_of(headers)
        if not varying.isdisjoint(_CREDENTIALS):
            self.shown = Shown.of(headers)
        if not varying.isdisjoint(_OF_PROXIES):
            self.forwarded = Forwarded.of(headers)
        if not varying.isdisjoint(_CONVERSATIONS):
            self.conversation = _conversation(headers)

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


def _client_request_id(headers: CIMultiDictProxy[str]) -> str | None:
    return client_request_id(headers.get(_REQUEST_ID) or headers.get(_CLIENT_REQUEST_ID))


def _conversation(headers: CIMultiDictProxy[str]) -> str | None:
    return headers.get(_SESSION) or headers.get(_SESSION_ID)


def client_request_id(text: str | None) -> str | None:
    """Return a client's request id, None where it is unusable.

    Usable: 1 to 128 printable ASCII characters.
    """
    if text is None or not 0 < len(text) <= _LONGEST_CLIENT_ID or not (text.isascii() and text.isprintable()):
        return None
    return text
