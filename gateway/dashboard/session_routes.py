"""Signing in by key or ticket, and out."""

from __future__ import annotations

import msgspec

from gateway.api.admin.typed import answer, raw_body, typed
from gateway.api.router import Hit, Route
from gateway.api.signed_in import NO_STORE, cookie_name, is_https, refuse_cross_site, refuse_without_pages, token_of
from gateway.errors import InvalidRequest
from gateway.http.reply import Answer, Reply
from gateway.types import SCOPES, Id, Scope

_COOKIE = "{name}={value}; Path=/; HttpOnly; Max-Age={seconds}; SameSite={same_site}{more}"
_SECONDS = 7 * 86_400
_MOST_BYTES = 16_384  # of a body that anybody may send; no key is longer than a quarter of it


class SignIn(msgspec.Struct, forbid_unknown_fields=True):
    """Either is given. `next`: a path below /dashboard/ to go on to."""

    key: str | None = None
    ticket: str | None = None
    next: str | None = None


class SignedIn(msgspec.Struct):
    user: Id
    name: str | None
    scopes: list[Scope]
    next: str


async def sign_in(hit: Hit) -> Reply:
    """Begin a session by key or ticket; set its cookie."""
    hit.request.connection.answer_fields = NO_STORE
    refuse_without_pages(hit.runtime)
    refuse_cross_site(hit.runtime, hit.request)
    body = typed(await raw_body(hit, most_bytes=_MOST_BYTES), SignIn)
    framed = is_framed_by_another_site(hit)
    sessions, address = hit.runtime.sessions, hit.call.peer
    if body.ticket is not None and body.key is None:
        token, caller = await sessions.begin_by_ticket(body.ticket, address, framed=framed)
    elif body.key is not None and body.ticket is None:
        token, caller = await sessions.begin_by_key(body.key.strip(), address, framed=framed)
    else:
        raise InvalidRequest("Give either `key` or `ticket`.")
    old = token_of(hit.runtime, hit.request)
    if old is not None:
        await sessions.end(old)
    user = caller.user
    scopes = [scope for scope in SCOPES if scope in caller.key.scopes]
    made = SignedIn(user.id, user.name, scopes, safe_next(body.next))
    return answer(made, headers=(("set-cookie", cookie(hit, token, _SECONDS, framed=framed)),))


async def sign_out(hit: Hit) -> Reply:
    """End the session, and take its cookie back."""
    hit.request.connection.answer_fields = NO_STORE
    refuse_cross_site(hit.runtime, hit.request)
    token = token_of(hit.runtime, hit.request)
    if token is not None:
        await hit.runtime.sessions.end(token)
    gone = cookie(hit, "", 0, framed=is_framed_by_another_site(hit))
    return Answer(204, [("set-cookie", gone), ("content-type", "application/json")], b"")


def safe_next(given: str | None) -> str:
    """Return a path below /dashboard/, else that of the first page."""
    is_safe = given is not None and given.startswith("/dashboard/") and given.isprintable() and "\\" not in given
    if not is_safe or given is None or "//" in given or ".." in given.lower().replace("%2e", "."):
        return "/dashboard/ai-chat"
    return given


def is_framed_by_another_site(hit: Hit) -> bool:
    """Whether a page of one of `dashboard_frames` has framed this one."""
    frames = hit.runtime.settings.server.dashboard_frames
    return bool(frames) and is_https(hit.runtime, hit.request) and "x-gateway-framed" in hit.request.headers


def cookie(hit: Hit, value: str, seconds: int, *, framed: bool) -> str:
    """Return the `set-cookie` of a session."""
    secure = is_https(hit.runtime, hit.request)
    more = ("; Secure" if secure else "") + ("; Partitioned" if framed else "")
    return _COOKIE.format(
        name=cookie_name(hit.runtime, hit.request),
        value=value,
        seconds=seconds,
        same_site="None" if framed else "Strict",
        more=more,
    )


def session_routes() -> list[Route]:
    return [
        Route("POST", "/dashboard/session", sign_in, None, body=SignIn, answer=SignedIn, summary="Sign in"),
        Route("DELETE", "/dashboard/session", sign_out, None, statuses=(204,), summary="Sign out"),
    ]
