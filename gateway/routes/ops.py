"""For load balancers and operators: is it alive, can it serve?"""

from __future__ import annotations

import orjson
from aiohttp import web

from gateway import __version__
from gateway.errors import GatewayError
from gateway.routes.table import Hit, Route
from gateway.server import Answer

JSON = ("content-type", "application/json")


async def healthz(_: Hit) -> web.StreamResponse:
    return Answer(200, [JSON], b'{"status":"ok"}')


async def readyz(hit: Hit) -> web.StreamResponse:
    """200 while new requests are served, 503 while draining; more to those who may read usage."""
    draining = hit.state.calls.draining
    report: dict[str, object] = {"status": "draining" if draining else "ok"}
    if await _may_see_detail(hit):
        report["detail"] = {
            "version": __version__,
            "in_flight": len(hit.state.calls),
            "config": {"file": hit.state.settings.source, "models": len(hit.state.settings.models)},
        }
    return Answer(503 if draining else 200, [JSON], orjson.dumps(report))


async def _may_see_detail(hit: Hit) -> bool:
    try:
        await hit.state.authenticator.caller(hit.request.headers, "usage:read")
    except GatewayError:
        return False
    return True


ROUTES = [
    Route("GET", "/healthz", healthz, scope=None),
    Route("GET", "/readyz", readyz, scope=None),
]
