"""The link with which one click signs in at the demo's pages.

It leads to a door of the demo's own, on loopback, which asks the gateway for a new ticket each time: so it holds as
long as the demo runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_urlsafe

import aiohttp
import msgspec
from aiohttp import web

from gateway.types import Secret

_SECONDS = 5.0
_BODY = b'{"scopes": ["ai:manage", "usage:read"]}'


class _Ticket(msgspec.Struct):
    url: str


class Door:
    """Let in at the pages who comes by its path."""

    def __init__(self, panels_key: Secret, user: str) -> None:
        self.gateway_url = ""  # known once the gateway listens
        self.url = ""
        self._path = f"/{token_urlsafe(16)}"
        self._panels_key = panels_key
        self._user = user

    @classmethod
    @asynccontextmanager
    async def opened(cls, panels_key: Secret, user: str) -> AsyncIterator[Door]:
        """Serve it on a free port of loopback."""
        door = cls(panels_key, user)
        application = web.Application()
        application.router.add_get(door._path, door._let_in)
        runner = web.AppRunner(application, handle_signals=False, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            door.url = f"http://127.0.0.1:{port}{door._path}"
            yield door
        finally:
            await runner.cleanup()

    async def _let_in(self, _request: web.Request) -> web.StreamResponse:
        ticket = await sign_in_link(self.gateway_url, self._panels_key, self._user)
        if ticket is None:
            return web.Response(status=503, text="The demo's gateway gives no ticket at the moment; try again.")
        return web.Response(status=303, headers={"location": ticket, "cache-control": "no-store"})


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
