"""The answer that leaves HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from gateway.http.reply import Reply

if TYPE_CHECKING:
    from aiohttp import web


class Upgrade(Reply):
    """Hand the connection over to `converse` until it returns.

    Then the connection ends.

    `converse` gets aiohttp's request, for `WebSocketResponse.prepare`, and returns that response. It is cancelled where
    the client leaves. The request's path must be among the server's `upgrades`. `abandon` is called where it cannot
    begin.
    """

    status = 101
    keep_alive = False

    def __init__(
        self,
        converse: Callable[[web.Request], Awaitable[web.StreamResponse]],
        abandon: Callable[[], None] = lambda: None,
    ) -> None:
        self.converse = converse
        self.abandon = abandon
