"""The steady upstream, and a flaky one that answers 429 sometimes.

They stream word by word.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import orjson
from aiohttp import web

MODEL = "demo"
ANSWER = (
    "Hello! This is the demo upstream of ecli-gateway, running on your own machine. No language model was asked: "
    "these words are fixed, and they arrive one by one to show that streaming works."
)
SECONDS_BETWEEN_WORDS = 0.05
REFUSES_EACH = 3  # the flaky endpoint answers 429 to each third request
RETRY_AFTER_SECONDS = 2


@asynccontextmanager
async def loopback_upstream() -> AsyncIterator[str]:
    """Run the upstream on a loopback port; return its URL.

    The base URL, without a path.
    """
    application = web.Application()
    application.router.add_post("/steady/v1/chat/completions", chat)
    application.router.add_post("/flaky/v1/chat/completions", sometimes_refusing(count(1)))
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{site.port}"
    finally:
        await runner.cleanup()


def sometimes_refusing(numbers: count[int]):  # type: ignore[no-untyped-def]  # aiohttp's handler type, no more
    async def handler(request: web.Request) -> web.StreamResponse:
        if next(numbers) % REFUSES_EACH == 0:
            error = {"error": {"message": "The flaky demo endpoint is out of breath.", "type": "rate_limit_error"}}
            return web.json_response(error, status=429, headers={"retry-after": str(RETRY_AFTER_SECONDS)})
        return await chat(request)

    return handler


async def chat(request: web.Request) -> web.StreamResponse:
    """POST …/chat/completions, plain or streamed word by word."""
    body = orjson.loads(await request.read())
    if body.get("stream") is not True:
        return web.json_response(body=orjson.dumps(completion("chat.completion", message(ANSWER))))
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for word in ANSWER.split(" "):
        await send(response, completion("chat.completion.chunk", {"delta": {"content": f"{word} "}}))
        await asyncio.sleep(SECONDS_BETWEEN_WORDS)
    await send(response, completion("chat.completion.chunk", {"delta": {}, "finish_reason": "stop"}))
    if (body.get("stream_options") or {}).get("include_usage"):
        await send(response, completion("chat.completion.chunk", None) | {"usage": usage()})
    await response.write(b"data: [DONE]\n\n")
    return response


async def send(response: web.StreamResponse, event: dict[str, object]) -> None:
    await response.write(b"data: %b\n\n" % orjson.dumps(event))


def message(text: str) -> dict[str, object]:
    return {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}


def completion(kind: str, choice: dict[str, object] | None) -> dict[str, object]:
    """The OpenAI shape of a completion or of one piece of it."""
    shape: dict[str, object] = {"id": "chatcmpl-demo", "object": kind, "created": 0, "model": MODEL}
    shape["choices"] = [] if choice is None else [{"index": 0, "finish_reason": None} | choice]
    if kind == "chat.completion":
        shape["usage"] = usage()
    return shape


def usage() -> dict[str, int]:
    words = len(ANSWER.split(" "))
    return {"prompt_tokens": 1, "completion_tokens": words, "total_tokens": words + 1}
