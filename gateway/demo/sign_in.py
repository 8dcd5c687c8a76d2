"""The link with which one click signs in at the demo's pages."""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec

from gateway.types import Secret

_SECONDS = 5.0
_BODY = b'{"scopes": ["ai:manage", "usage:read"]}'


class _Ticket(msgspec.Struct):
    url: str


async def sign_in_link(url: str, panels_key: Secret, user: str) -> str | None:
    """Ask the gateway for a ticket, as a panel does.

    It holds for a minute, once. None where there is none.
    """
    headers = {
        "authorization": f"Bearer {panels_key.reveal()}",
        "content-type": "application/json",
        "x-gateway-user": user,
    }
    limit = aiohttp.ClientTimeout(total=_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.post(f"{url}/api/ai/tickets", data=_BODY, headers=headers) as answer,
        ):
            content = await answer.read()
            return msgspec.json.decode(content, type=_Ticket).url if answer.status == 201 else None
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError, asyncio.IncompleteReadError):
        return None
