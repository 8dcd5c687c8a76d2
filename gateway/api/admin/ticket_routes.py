"""Tickets, with which a panel's users sign in at the pages."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from gateway.access.sessions import TICKET_SECONDS
from gateway.api.admin.typed import answer, raw_body, typed
from gateway.api.router import Hit, Route
from gateway.api.signed_in import NO_STORE, origin_of, refuse_without_pages
from gateway.errors import InvalidRequest
from gateway.http.reply import Reply
from gateway.types import Scope


class TicketBody(msgspec.Struct, forbid_unknown_fields=True):
    """`scopes`: besides `ai:use`, of those that the key has."""

    scopes: tuple[Scope, ...] = ()


class TicketMade(msgspec.Struct):
    """`url` signs in; it holds for a minute, once."""

    ticket: str
    url: str
    expires: int  # seconds since 1970


async def issue_ticket(hit: Hit) -> Reply:
    """Make a ticket for the pages, for the user acted for."""
    refuse_without_pages(hit.runtime)
    if "x-gateway-user" not in hit.request.headers:  # a slip of the panel's must not sign a browser in as the panel
        raise InvalidRequest("A ticket is for the user that the header `x-gateway-user` names.")
    body = typed(await raw_body(hit) or b"{}", TicketBody)
    ticket = await hit.runtime.sessions.issue_ticket(hit.caller, body.scopes)
    url = f"{origin_of(hit.runtime, hit.request)}/dashboard/session?ticket={quote(ticket)}"
    expires = int(hit.runtime.clock().timestamp() + TICKET_SECONDS)
    return answer(TicketMade(ticket, url, expires), 201, headers=NO_STORE)


ROUTES = [
    Route(
        "POST",
        "/api/ai/tickets",
        issue_ticket,
        "act:as",
        body=TicketBody,
        answer=TicketMade,
        statuses=(201,),
        summary="A ticket with which a user signs in at the pages",
    )
]
