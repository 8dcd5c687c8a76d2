"""The gallery's server: each state at a host of its own.

Hosts under `localhost` are this machine by RFC 6761, in browsers without a resolver: so each state has its own cookies,
storage and databases, and the pages ask their routes as they always do.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from gateway.dashboard.assets import TYPES, Assets
from gateway.dashboard.pages import PAGES, SIGN_IN
from gateway.dashboard.shell import page_headers, shell
from gateway.demo.gallery.answers import InTurn, respond
from gateway.demo.gallery.desk_states import DESK_STATES
from gateway.demo.gallery.fixtures import me, usual
from gateway.demo.gallery.states import STATES, State
from gateway.errors import RouteNotFound

ALL_STATES: tuple[State, ...] = (*STATES, *DESK_STATES)
_STATIC = Path(__file__).with_name("static")
_LIST_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "frame-src http://*.localhost:{port}; base-uri 'none'; form-action 'none'"
)


class Gallery:
    """Every state by its host's first name."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._states = {each.name: each for each in ALL_STATES}
        self._pages = {page.name: page for page in (*PAGES, SIGN_IN)}
        self._assets = Assets()
        self._usual = usual()
        self._turns: dict[tuple[str, str], int] = {}  # how often a route was asked since its page was loaded

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/"

    def put(self, state: State) -> None:
        """Show one more state, or another one by that name."""
        self._states[state.name] = state

    def url_of(self, state: State) -> str:
        return f"http://{state.name}.localhost:{self.port}/dashboard/{state.page}{state.query}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        state = self._states.get(request.host.partition(".")[0])
        if request.path.startswith("/dashboard/static/"):
            return self._asset(request.path)
        if request.path.startswith("/gallery/") and request.path != "/gallery/scene.json":
            return _own_file(request.path.removeprefix("/gallery/"))
        if state is None:
            return self._list()
        if request.path == "/gallery/scene.json":
            return web.json_response(self._scene(state))
        if request.method == "GET" and request.path.startswith("/dashboard/"):
            return self._page(request.path.removeprefix("/dashboard/"), state)
        answer = self._answer(state, request)
        return await respond(request, answer(request.query) if callable(answer) else answer)

    def _answer(self, state: State, request: web.Request) -> Any:
        """Find what a route answers; the state's own word comes first."""
        asked = f"{request.method} {request.path}"
        for answers in (state.answers, self._usual):
            found = _best(answers, asked)
            if found is not None:
                break
        else:
            return {"success": True}
        answer = answers[found]
        if not isinstance(answer, InTurn):
            return answer
        turn = self._turns.get((state.name, found), 0)
        self._turns[state.name, found] = turn + 1
        return answer.answers[min(turn, len(answer.answers) - 1)]

    def _page(self, name: str, state: State) -> web.Response:
        page = self._pages.get(name)
        if page is None:
            raise web.HTTPNotFound
        self._turns = {at: turn for at, turn in self._turns.items() if at[0] != state.name}
        script = self._assets.url(f"pages/{page.name}.js")
        content = shell(page, self._assets)
        if name == state.page:  # another page, to which a link led, is as it usually is
            content = content.replace(f'src="{script}"'.encode(), b'src="/gallery/scene.js"')
        headers = dict(page_headers((self.url.rstrip("/"),)))
        return web.Response(body=content, headers=headers)

    def _scene(self, state: State) -> dict[str, Any]:
        return {
            "script": self._assets.url(f"pages/{state.page}.js"),
            "steps": state.steps,
            "database": f"ecli-chat:{me()['user']}",
            "conversations": state.conversations,
        }

    def _asset(self, path: str) -> web.Response:
        asset = self._assets.find(path.removeprefix("/dashboard/static/").partition("/")[2])
        if asset is None:
            raise RouteNotFound(f"There is no {path}.")
        return web.Response(body=asset.body, headers={"content-type": asset.content_type})

    def _list(self) -> web.Response:
        titles = {page.name: page.title for page in self._pages.values()}
        rows = [
            {"name": each.name, "page": titles[each.page], "about": each.about, "url": self.url_of(each)}
            for each in ALL_STATES
        ]
        content = (_STATIC / "list.html").read_bytes().replace(b"{style}", self._assets.url("style.css").encode())
        content = content.replace(b"{states}", orjson.dumps(rows).replace(b"<", b"\\u003c"))
        policy = _LIST_POLICY.format(port=self.port)
        return web.Response(
            body=content, headers={"content-type": "text/html; charset=utf-8", "content-security-policy": policy}
        )


def _best(answers: Mapping[str, Any], asked: str) -> str | None:
    if asked in answers:
        return asked
    return next((each for each in answers if each.endswith("*") and asked.startswith(each[:-1])), None)


def _own_file(name: str) -> web.Response:
    file = _STATIC / name
    if "/" in name or file.suffix not in TYPES or not file.is_file():
        raise web.HTTPNotFound
    return web.Response(body=file.read_bytes(), headers={"content-type": TYPES[file.suffix]})


@asynccontextmanager
async def gallery_served(sock: socket.socket) -> AsyncIterator[Gallery]:
    """Serve the gallery on this socket."""
    gallery = Gallery(sock.getsockname()[1])
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", gallery.handle)
    runner = web.AppRunner(
        application, handle_signals=False, access_log=None, shutdown_timeout=0, handler_cancellation=True
    )
    await runner.setup()
    try:
        await web.SockSite(runner, sock).start()
        yield gallery
    finally:
        await runner.cleanup()


async def run_gallery(sock: socket.socket) -> None:
    """Serve the gallery until SIGTERM or SIGINT; print where."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with gallery_served(sock) as gallery:
        print(f"Every state of every page, with made-up answers and no gateway behind them: {gallery.url}", flush=True)
        await ended.wait()
