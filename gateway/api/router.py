"""What a route is, and how a path finds its own."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Container, Iterable, Mapping
from typing import Any, Literal
from urllib.parse import unquote

import msgspec

from gateway.api.runtime import Runtime
from gateway.dialects import openai
from gateway.dialects.base import Operation
from gateway.errors import MethodNotAllowed, RouteNotFound, UpgradeNotSupported
from gateway.http.client.passed_on import NOTHING, PassedOn
from gateway.http.message import Request
from gateway.http.reply import Reply
from gateway.observability.calls import Call
from gateway.types import Caller, Scope

ErrorShape = Literal["openai", "anthropic", "flat"]
OPENAI_PREFIXES = ("/api/ai/openai/v1", "/v1")
# Azure's clients ask below these for what is below /v1; the first takes a model's name before the route's path.
AZURE_DEPLOYMENTS, AZURE_PREFIXES = "/openai/deployments/", ("/openai/v1/", "/openai/")
DEPLOYMENT = "deployment"  # the parameter that it becomes
ANTHROPIC_PREFIX = "/api/ai/anthropic/v1"
_ANTHROPIC_STEMS = (ANTHROPIC_PREFIX.removesuffix("v1"), "/v1/messages/")
_OPENAI_STEM = OPENAI_PREFIXES[0].removesuffix("v1")
_SLASHES = re.compile(r"//++")
_BESIDE_AI = frozenset(("/api/ai/me", "/api/ai/tickets"))
_RECEIPTS = "/api/ai/usage/requests"  # operators see them while the feature is off; the handler asks for whom
_VERSIONS = re.compile(r"^(?:v1/)++")


class Hit(msgspec.Struct, frozen=True):
    """One request and all that its handler needs."""

    runtime: Runtime
    request: Request
    call: Call
    params: Mapping[str, str]  # from the path, percent-decoded
    passed: PassedOn = NOTHING  # what of its head goes up

    @property
    def caller(self) -> Caller:
        """The caller of a route that asks for a scope."""
        if self.call.caller is None:
            raise LookupError(f"{self.call.path} is open to everybody, so it has no caller")
        return self.call.caller


RouteHandler = Callable[[Hit], Awaitable[Reply]]


class Route(msgspec.Struct, frozen=True):
    """A row of the table of routes.

    In `path`, `{name}` is one segment and `{name...}` everything that is left, slashes included.

    `scope` None: open to everybody, and then neither counted among the calls in flight nor refused while draining.
    "any": needs a key, and the handler looks at its scopes.

    `body` and `answer` are the types of what is sent and answered, `statuses` those of a good answer: for the schema.
    Of a relayed row `operation` says all of that.
    """

    method: str
    path: str
    handler: RouteHandler
    scope: Scope | Literal["any"] | None = "ai:use"
    body: type | None = None
    answer: Any = None
    statuses: tuple[int, ...] = (200,)
    summary: str = ""
    operation: Operation | None = None

    @property
    def family(self) -> str | None:
        """The family that `surface.extra` must name for this row, None for most."""
        family = self.operation.family if self.operation is not None else "core"
        return None if family in ("core", "objects") else family


class RelayedPaths:
    """The paths of relayed rows, an Azure deployment's among them."""

    __slots__ = ("_exact",)

    def __init__(self, exact: frozenset[str]) -> None:
        self._exact = exact

    def __contains__(self, path: object) -> bool:
        return path in self._exact or (isinstance(path, str) and path.startswith(AZURE_DEPLOYMENTS))


class Router:
    """Match routes: whole paths by dictionary, parameters by pattern.

    `sockets`: the rows of WebSockets, which are found where a client wants one.
    """

    def __init__(self, routes: Iterable[Route], sockets: Iterable[Route] = ()) -> None:
        self._sockets = {route.path: route for route in sockets}
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: dict[str, tuple[re.Pattern[str], dict[str, Route]]] = {}
        for route in routes:
            rows = self._rows(route.path)
            if route.method in rows:
                raise ValueError(f"{route.method} {route.path} is there twice")
            rows[route.method] = route

    def match(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """Return the route and its parameters.

        Raises RouteNotFound or MethodNotAllowed (with `allow`).
        """
        params: Mapping[str, str] = {}
        rows = self._exact.get(path)
        if rows is None and path.startswith(AZURE_DEPLOYMENTS):
            rows, params = self._of_deployment(path)
        elif rows is None:
            rows, params = self._found(_without_azure(path))
        route = rows.get("GET" if method == "HEAD" else method)
        if route is None:
            raise MethodNotAllowed(f"This path does not take {method}.", headers=(("allow", _allowed(rows)),))
        return route, params

    def families_at(self, path: str) -> frozenset[str]:
        """Return the families of `surface.extra` that rows at this path belong to."""
        try:
            rows = self._found(_without_azure(path))[0]
        except RouteNotFound:
            return frozenset()
        return frozenset([row.family for row in rows.values() if row.family is not None])

    def below_base(self, path: str) -> str | None:
        """Return what is behind the base URL of the OpenAI surface.

        None for any other path.
        """
        plain = _without_azure(path)
        for prefix in OPENAI_PREFIXES:
            if plain.startswith(f"{prefix}/"):
                return plain.removeprefix(prefix)
        return None

    @property
    def upgrades(self) -> frozenset[str]:
        """The paths on which clients may have a WebSocket."""
        return frozenset(self._sockets)

    def socket(self, path: str) -> Route | None:
        """Return the row of a WebSocket at this path."""
        return self._sockets.get(path)

    @property
    def relayed(self) -> Container[str]:
        """The paths that are relayed, but for those with parameters."""
        relayed = {
            path for path, rows in self._exact.items() if any(row.operation is not None for row in rows.values())
        }
        below = [path.removeprefix("/v1/") for path in relayed if path.startswith("/v1/")]
        return RelayedPaths(frozenset(relayed.union(prefix + path for prefix in AZURE_PREFIXES for path in below)))

    def _found(self, path: str) -> tuple[dict[str, Route], Mapping[str, str]]:
        rows = self._exact.get(path)
        return (rows, {}) if rows is not None else self._by_pattern(path)

    def _of_deployment(self, path: str) -> tuple[dict[str, Route], Mapping[str, str]]:
        """Find the relayed row behind a deployment's name.

        There may be slashes in it.
        """
        segments = path.removeprefix(AZURE_DEPLOYMENTS).split("/")
        for length in range(1, len(segments)):
            rows = self._exact.get("/v1/" + "/".join(segments[length:]), {})
            if all(segments[:length]) and any(map(_is_openais, rows.values())):
                rows = {method: row for method, row in rows.items() if row.operation is not None and method == "POST"}
                return rows, {DEPLOYMENT: unquote("/".join(segments[:length]))}
        raise RouteNotFound("There is nothing at this path.")

    def _rows(self, path: str) -> dict[str, Route]:
        if "{" not in path:
            return self._exact.setdefault(path, {})
        return self._patterns.setdefault(path, (_pattern(path), {}))[1]

    def _by_pattern(self, path: str) -> tuple[dict[str, Route], dict[str, str]]:
        for pattern, rows in self._patterns.values():
            found = pattern.fullmatch(path)
            if found is not None:
                params = {name: unquote(text) for name, text in found.groupdict().items()}
                if not _leads_elsewhere(params, rows):
                    return rows, params
        raise RouteNotFound("There is nothing at this path.")

    def base_path_meant(self, path: str, *, by_version: bool = False) -> str | None:
        """Return the prefix that a mistyped path meant.

        Where `path` is one but for its slashes or its `/v1`. Anthropic's clients append the version themselves.
        """
        plain = _SLASHES.sub("/", path)
        for stem in (_OPENAI_STEM, _ANTHROPIC_STEMS[0], "/openai/", "/"):
            if not plain.startswith(stem):
                continue
            rest = _VERSIONS.sub("", plain.removeprefix(stem))
            # Azure's clients write the deployment into the path themselves, behind a base URL without a version.
            prefix = "/openai" if rest.startswith("deployments/") and stem == "/openai/" else f"{stem}v1"
            if self._has(f"{prefix}/{rest}"):
                appends = by_version or f"{prefix}/{rest}/".startswith(_ANTHROPIC_STEMS)
                return prefix.removesuffix("/v1") if appends else prefix
        return None

    def _has(self, path: str) -> bool:
        try:
            self._of_deployment(path) if path.startswith(AZURE_DEPLOYMENTS) else self._found(_without_azure(path))
        except RouteNotFound:
            return False
        return True


def _leads_elsewhere(params: Mapping[str, str], rows: Mapping[str, Route]) -> bool:
    """Whether an object's id would lead to another path upstream."""
    slashed = any("/" in text for name, text in params.items() if name != "modelId")
    return slashed and any(row.operation is not None for row in rows.values())


def find_route(
    router: Router, method: str, path: str, headers: Mapping[str, str], extra: Collection[str], *, by_version: bool
) -> tuple[Route, Mapping[str, str]]:
    """Return the route and its parameters; raise RouteNotFound or MethodNotAllowed.

    `extra`: the families that are served; of others there is no method to be wrong about.
    """
    try:
        return router.match(method, path)
    except RouteNotFound:
        raise _no_such_route(router, method, path, headers, by_version=by_version) from None
    except MethodNotAllowed as refusal:
        for family in router.families_at(path).difference(extra):
            raise _family_off(family) from None
        raise _no_such_method(router, method, path, refusal) from None


def socket_route(runtime: Runtime, router: Router, path: str) -> Route | None:
    """Return the row of a WebSocket. Raises UpgradeNotSupported where they are off."""
    route = router.socket(path)
    if route is not None and not runtime.settings.server.websockets:
        raise UpgradeNotSupported("WebSockets are not served here; send the same as a POST.")
    return route


def _no_such_route(
    router: Router, method: str, path: str, headers: Mapping[str, str], *, by_version: bool
) -> RouteNotFound:
    """Return the 404 of a path without a row.

    It corrects a wrong `base_url`, and gives the reason for what official libraries can ask for.
    """
    meant, below = router.base_path_meant(path, by_version=by_version), router.below_base(path)
    if meant is None and below is not None and not by_version:
        return _not_served(openai.why_not_served(method, below))
    return _wrong_base(meant, headers)


def _no_such_method(
    router: Router, method: str, path: str, refusal: MethodNotAllowed
) -> RouteNotFound | MethodNotAllowed:
    """Return the 405, or the 404 of what is left out."""
    below = router.below_base(path)
    reason = openai.why_not_served(method, below) if below is not None else None
    return refusal if reason is None else _not_served(reason)


def require_family(runtime: Runtime, family: str) -> None:
    """Raise RouteNotFound unless `surface.extra` names the family."""
    if family not in runtime.settings.surface.extra:
        raise _family_off(family)


def _family_off(family: str) -> RouteNotFound:
    return _not_served(f"`surface.extra` of gateway.yaml does not name `{family}`")


def _not_served(reason: str | None) -> RouteNotFound:
    """Return the 404 of what has no row here, with its reason."""
    return RouteNotFound(f"This gateway has no such route (not_served{f': {reason}' if reason else ''}).")


def _wrong_base(base_path: str | None, headers: Mapping[str, str]) -> RouteNotFound:
    """Return the 404, which corrects a wrong `base_url`."""
    host = headers.get("host")
    if base_path is None or not host:
        return RouteNotFound("There is nothing at this path.")
    scheme = "https" if headers.get("x-forwarded-proto", "").lower() == "https" else "http"
    return RouteNotFound(f"There is nothing at this path. Set the client's `base_url` to {scheme}://{host}{base_path}")


def wants_websocket(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a client asks to leave HTTP for a WebSocket."""
    wanted = headers.get("upgrade")
    if method != "GET" or wanted is None:
        return False
    return "websocket" in (token.strip().partition("/")[0].lower() for token in wanted.split(","))


def error_shape(path: str, *, by_version: bool = False) -> ErrorShape:
    """Return the error shape of a path: OpenAI's, Anthropic's or the panel's.

    OpenAI's under its prefixes and for unknown paths. `by_version`: the request bears `anthropic-version`.
    """
    if f"{path}/".startswith(_ANTHROPIC_STEMS) or (by_version and path.startswith("/v1/")):
        return "anthropic"
    if path.startswith(("/api/", "/dashboard")) and not path.startswith(_OPENAI_STEM):
        return "flat"
    return "openai"


def is_ai_path(path: str) -> bool:
    """Whether the feature flag `ai` rules this path."""
    return (
        path.startswith(("/v1/", "/api/ai/", "/openai/")) and path not in _BESIDE_AI and not path.startswith(_RECEIPTS)
    )


def _is_openais(route: Route) -> bool:
    return route.operation is not None and route.operation.dialect.protocol == "openai"


def _without_azure(path: str) -> str:
    """Return the path below /v1 that one of Azure's means."""
    for prefix in AZURE_PREFIXES:
        if path.startswith(prefix) and not (below := f"/v1/{path.removeprefix(prefix)}/").startswith(_ANTHROPIC_STEMS):
            return below[:-1]
    return path


def _pattern(path: str) -> re.Pattern[str]:
    escaped = re.escape(path).replace(r"\{", "{").replace(r"\}", "}")
    rest = re.sub(r"\{(\w+)\\\.\\\.\\\.\}", r"(?P<\1>.+)", escaped)
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", rest))


def _allowed(rows: Mapping[str, Route]) -> str:
    methods = set(rows)
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))
