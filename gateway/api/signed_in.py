"""Take a session's cookie as a credential, safe from other sites."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie

from gateway.access.client_address import Forwarded, is_within
from gateway.api.runtime import Runtime
from gateway.config import ServerSettings
from gateway.errors import CrossSite, InvalidRequest, RouteNotFound
from gateway.http.message import Request
from gateway.observability.calls import Call
from gateway.types import Caller, Scope

SECURE_COOKIE = "__Host-gw"
NO_STORE = (("cache-control", "no-store"),)
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_OTHER_PROTOCOLS = ("/api/ai/openai/", "/api/ai/anthropic/")
_LONGEST_COOKIES = 8192


def takes_session(method: str, path: str) -> bool:
    """Whether a session is a credential for this request."""
    if path.startswith("/api/ai/"):
        return not path.startswith(_OTHER_PROTOCOLS)
    return path.startswith(("/dashboard/", "/api/admin/", "/api/soc/")) or (
        path == "/v1/chat/completions" and method == "POST"
    )


def origin_of(runtime: Runtime, request: Request) -> str:
    """Return the gateway's own address as this client knows it."""
    server = runtime.settings.server
    if server.public_url is not None:
        return server.public_url
    said = Forwarded.of(request.headers).scheme
    trusted = server.trusted_proxies and is_within(request.connection.client, server.trusted_proxies)
    scheme = said if said is not None and trusted else "http"
    return f"{scheme}://{request.headers.get('host', '')}"


def refuse_without_pages(runtime: Runtime) -> ServerSettings:
    """Return the server's settings. Raises RouteNotFound without pages."""
    server = runtime.settings.server
    if not server.dashboard:
        raise RouteNotFound("The pages of this gateway are switched off.")
    return server


def is_https(runtime: Runtime, request: Request) -> bool:
    return origin_of(runtime, request).startswith("https://")


def cookie_name(runtime: Runtime, request: Request) -> str:
    """Return the name of the session's cookie.

    It bears the port, for browsers share cookies between ports.
    """
    if is_https(runtime, request):
        return SECURE_COOKIE
    port = request.headers.get("host", "").rpartition(":")[2]
    return f"gw-{port if port.isdecimal() else 80}"


def token_of(runtime: Runtime, request: Request) -> str | None:
    """Return the session's secret, where the browser sent one."""
    header = request.headers.get("cookie", "")
    if not header or len(header) > _LONGEST_COOKIES:
        return None
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(header)
    except CookieError:
        return None
    morsel = jar.get(cookie_name(runtime, request))
    return morsel.value if morsel is not None and morsel.value else None


async def signed_in(
    runtime: Runtime, request: Request, call: Call, scope: Scope | None, acted_for: str | None
) -> Caller | None:
    """Return the caller of a session, None where there is no session.

    Raises CrossSite, InvalidRequest, and what `Sessions.caller` raises.
    """
    token = token_of(runtime, request) if takes_session(request.method, call.path) else None
    if token is None:
        return None
    request.connection.answer_fields = NO_STORE
    if acted_for is not None:
        raise InvalidRequest("The header `x-gateway-user` does not go with a session.")
    refuse_cross_site(runtime, request)
    return await runtime.sessions.caller(token, scope, call.peer)


def refuse_cross_site(runtime: Runtime, request: Request) -> None:
    """Raise CrossSite for a change that another site may ask."""
    if request.method in _SAFE_METHODS:
        return
    headers = request.headers
    site, content = headers.get("sec-fetch-site"), headers.get("content-type", "")
    is_ours = site == "same-origin" if site is not None else headers.get("origin") == origin_of(runtime, request)
    if not is_ours:
        raise CrossSite("This request did not come from a page of this gateway.")
    if content.partition(";")[0].strip().lower() != "application/json":
        raise CrossSite("A request of a session must have the content type application/json.")
