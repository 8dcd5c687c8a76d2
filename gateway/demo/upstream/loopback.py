"""The steady upstream, and a flaky one that answers 429 sometimes.

They are one account: what one keeps the other knows. Streams come word by word.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count

import orjson
from aiohttp import web

from gateway.demo.upstream import chat, messages, pictures, responses, sounds, spoken
from gateway.demo.upstream.bodies import MAX_BODY_BYTES, answer, fields_of
from gateway.demo.upstream.desk import DESK, Desk, Json, Refused, desk_of
from gateway.demo.upstream.numbers import embeddings, moderations, rerank
from gateway.demo.upstream.objects import batches, conversations, file_search, kept_files
from gateway.demo.upstream.words import MODEL

SECONDS_BETWEEN_WORDS = 0.05
REFUSES_EACH = 3  # the flaky endpoint answers 429 to each third request
RETRY_AFTER_SECONDS = 2
_FORM_BYTES = 1 << 20  # what a form has beside its file

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def loopback_upstream(*, pause_seconds: float = SECONDS_BETWEEN_WORDS) -> AsyncIterator[str]:
    """Run the upstream on a loopback port; return its URL.

    The base URL, without a path: /steady/v1 and /flaky/v1 are below it. `pause_seconds`: between words.
    """
    desk = Desk(pause_seconds)
    runner = web.AppRunner(_application(desk), access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{site.port}"
    finally:
        await runner.cleanup()
        await desk.close()


def _application(desk: Desk) -> web.Application:
    whole = web.Application(middlewares=[in_its_shape], client_max_size=MAX_BODY_BYTES + _FORM_BYTES)
    whole[DESK] = desk
    for name, refuses in (("steady", None), ("flaky", count(1))):
        for route in _routes():
            handler = route.handler if refuses is None else sometimes_refusing(route.handler, refuses)
            whole.router.add_route(route.method, f"/{name}/v1{route.path}", handler)
    return whole


def _routes() -> list[web.RouteDef]:
    rows = [chat, responses, messages, conversations, pictures, sounds, kept_files, batches, file_search, spoken]
    plain = [("/embeddings", embeddings), ("/moderations", moderations), ("/rerank", rerank)]
    return [
        *(route for each in rows for route in each.ROUTES),
        *(web.post(path, _answering(answers)) for path, answers in plain),
        web.get("/models", list_models),
        web.get("/models/{id:.+}", show_model),
    ]


def _answering(answers: Callable[[Desk, Json], Json]) -> _Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return answer(answers(desk_of(request), await fields_of(request)))

    return handler


def _model(name: str) -> Json:
    return {"id": name, "object": "model", "created": 0, "owned_by": "demo"}


async def list_models(_: web.Request) -> web.StreamResponse:
    return answer({"object": "list", "data": [_model(MODEL)]})


async def show_model(request: web.Request) -> web.StreamResponse:
    if request.match_info["id"] != MODEL:
        raise Refused(f"The model '{request.match_info['id']}' does not exist.", status=404, param="model")
    return answer(_model(MODEL))


def sometimes_refusing(handler: _Handler, numbers: count[int]) -> _Handler:
    async def refusing(request: web.Request) -> web.StreamResponse:
        if next(numbers) % REFUSES_EACH == 0:
            error = {"message": "The flaky demo endpoint is out of breath.", "type": "rate_limit_error"}
            body = orjson.dumps({"error": error | {"param": None, "code": "rate_limit_exceeded"}})
            headers = {"retry-after": str(RETRY_AFTER_SECONDS)}
            return web.Response(status=429, body=body, content_type="application/json", headers=headers)
        return await handler(request)

    return refusing


@web.middleware
async def in_its_shape(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Answer refusals, and what aiohttp refuses, in the protocol's shape."""
    try:
        return await handler(request)
    except Refused as refused:
        return _refusal(refused, request)
    except web.HTTPRequestEntityTooLarge:
        return _refusal(Refused("The request is larger than 32 MB.", status=413), request)
    except web.HTTPException as fault:
        path = "/v1" + request.path.partition("/v1")[2]
        return _refusal(Refused(f"Invalid URL ({request.method} {path})", status=fault.status), request)


def _refusal(refused: Refused, request: web.Request) -> web.Response:
    is_messages = "/v1/messages" in request.path
    body = messages.error_body(refused) if is_messages else orjson.dumps({"error": refused.body})
    return web.Response(status=refused.status, body=body, content_type="application/json")
