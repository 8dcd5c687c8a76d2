"""A panel with its own sign-in, nginx with names and https in front of both, and a browser that finds them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import trustme
from aiohttp import web
from browser_kit import browsing
from kit import KEYS, Stage
from kit.nginx import nginx
from kit.stage import endpoint, model
from playwright.async_api import Browser, Page

from bench.processes import free_port

RECIPE = Path(__file__).parents[2] / "config" / "nginx-panel-session.conf"
PANEL, NEIGHBOUR, FOREIGN = "panel.example", "ai.panel.example", "ai.elsewhere.example"
SERVICE_KEY = "sk-service-0123456789abcdefghijk"
_PROXY = """
server {{
    listen 127.0.0.1:{port} ssl;
    server_name {names};
    ssl_certificate {directory}/cert.pem;
    ssl_certificate_key {directory}/cert.pem;
    location / {{
        proxy_pass http://127.0.0.1:{behind};
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_buffering off;
        proxy_http_version 1.1;
    }}
}}
"""


class Panel:
    """Two people may sign in; each page that it has leads one of the three ways to the gateway."""

    def __init__(self, gateway_port: int) -> None:
        self.gateway_port = gateway_port
        self.origin_of_pages = ""  # at which host the gateway's pages are, once nginx listens

    def application(self) -> web.Application:
        application = web.Application()
        for path, handler in (
            ("/", self.home),
            ("/sign-in/{user}", self.sign_in),
            ("/session", self.session),
            ("/linked", self.linked),
            ("/framed", self.framed),
        ):
            application.router.add_get(path, handler)
        return application

    async def home(self, request: web.Request) -> web.Response:
        return _html(f"<p>panel of {request.cookies.get('panel', 'nobody')}</p><a href=/linked>AI</a>")

    async def sign_in(self, request: web.Request) -> web.Response:
        response = _html("<p>signed in</p>")
        response.set_cookie("panel", f"user-{request.match_info['user']}", httponly=True, secure=True, samesite="Lax")
        return response

    async def session(self, request: web.Request) -> web.Response:
        session = request.cookies.get("panel", "")
        if session == "unnamed":  # as a panel with a mistake would
            return web.Response(status=204)
        user = session.removeprefix("user-")
        return web.Response(status=204, headers={"x-panel-user": user}) if user else web.Response(status=401)

    async def linked(self, request: web.Request) -> web.Response:
        raise web.HTTPSeeOther(await self._ticket_url(request, "/dashboard/ai-chat"))

    async def framed(self, request: web.Request) -> web.Response:
        url = await self._ticket_url(request, "/dashboard/ai-chat")
        return _html(f'<h1>Panel</h1><iframe title="AI" width=900 height=700 src="{url}"></iframe>')

    async def _ticket_url(self, request: web.Request, onward: str) -> str:
        """As docs/beside-a-panel.md says: server to server, by the service key."""
        user = request.cookies["panel"].removeprefix("user-")
        headers = {"authorization": f"Bearer {SERVICE_KEY}", "x-gateway-user": user}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://127.0.0.1:{self.gateway_port}/api/ai/tickets", json={}, headers=headers) as answer,
        ):
            ticket = (await answer.json())["ticket"]
        return f"{self.origin_of_pages}/dashboard/session?ticket={ticket}&next={onward}"


def _html(text: str) -> web.Response:
    return web.Response(text=f"<!doctype html><title>Panel</title>{text}", content_type="text/html")


class Scene:
    """What a test stands in: addresses by name, a browser, the gateway behind."""

    def __init__(self, stage: Stage, panel: Panel, port: int, browser: Browser) -> None:
        self.stage, self.panel, self.port, self.browser = stage, panel, port, browser

    def at(self, name: str) -> str:
        return f"https://{name}:{self.port}"

    @asynccontextmanager
    async def visitor(self, user: int | None = 7) -> AsyncIterator[Page]:
        """A browser of one's own, signed in at the panel."""
        context = await self.browser.new_context(ignore_https_errors=True)
        page = await context.new_page()
        if user is not None:
            await page.goto(f"{self.at(PANEL)}/sign-in/{user}")
        yield page
        await context.close()


@asynccontextmanager
async def beside_a_panel(directory: Path, *, by_session: bool = False) -> AsyncIterator[Scene]:
    """`by_session`: nginx stands in front as the recipe has it; else the gateway has names of its own."""
    keys = [
        {"id": "service", "user": "panel", "key": SERVICE_KEY, "scopes": ["ai:use", "act:as"]},
        {"id": "user", "user": 42, "key": KEYS["user"]},
    ]
    users = [{"id": 7, "name": "Bob", "tier": "free"}, {"id": 42, "name": "Ada", "tier": "paid"}]
    settings: dict[str, Any] = {"trusted_proxies": ["127.0.0.1/32"]}
    (directory / "gateway").mkdir()
    authority = trustme.CA()
    authority.issue_cert(PANEL, NEIGHBOUR, FOREIGN).private_key_and_cert_chain_pem.write_to_path(directory / "cert.pem")
    port = free_port()  # of nginx: frames are named with it
    settings["dashboard_frames"] = [f"https://{PANEL}:{port}"]
    async with Stage.open(directory / "gateway", one_model, keys=keys, users=users, server=settings) as stage:
        panel = Panel(stage.port)
        runner = web.AppRunner(panel.application(), access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()

            def servers(_: int) -> str:
                known = {"directory": directory, "port": port}
                if by_session:
                    return _recipe(port, site.port, stage.port, directory)
                return _PROXY.format(names=PANEL, behind=site.port, **known) + _PROXY.format(
                    names=f"{NEIGHBOUR} {FOREIGN}", behind=stage.port, **known
                )

            async with (
                nginx(stage.port, directory, servers=servers, port=port),
                browsing("--host-resolver-rules=MAP *.example 127.0.0.1") as browser,
            ):
                scene = Scene(stage, panel, port, browser)
                panel.origin_of_pages = scene.at(FOREIGN)
                yield scene
        finally:
            await runner.cleanup()


def one_model(upstream: Any) -> list[dict[str, Any]]:
    return [model("gpt-4o", [endpoint(upstream, "first")])]


def _recipe(port: int, panel_port: int, gateway_port: int, directory: Path) -> str:
    text = RECIPE.read_text()
    for written, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("127.0.0.1:3000", f"127.0.0.1:{panel_port}"),
        ("127.0.0.1:8080", f"127.0.0.1:{gateway_port}"),
        ("/etc/nginx/panel.example.pem", f"{directory}/cert.pem"),
        ("/etc/nginx/panel.example.key", f"{directory}/cert.pem"),
        ("PANEL_KEY", SERVICE_KEY),
    ):
        assert written in text
        text = text.replace(written, here)
    return text
