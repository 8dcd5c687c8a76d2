"""`gateway demo`: the whole thing on one machine, with a loopback upstream that says what it is.

Two endpoints serve the model `demo`. One is steady; the other answers 429 now and then, so that rotation and cooldown
can be seen in the log.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
from aiohttp import web
from structlog.typing import FilteringBoundLogger

from gateway.config import Settings, parse_settings
from gateway.serving import serve

MODEL = "demo"
ANSWER = (
    "Hello! This is the demo upstream of ecli-gateway, running on your own machine. No language model was asked: "
    "these words are fixed, and they arrive one by one to show that streaming works."
)
SECONDS_BETWEEN_WORDS = 0.05
REFUSES_EACH = 3  # the flaky endpoint answers 429 to each third request
RETRY_AFTER_SECONDS = 2


async def run_demo(sock: socket.socket, log: FilteringBoundLogger) -> None:
    """Serves gateway and upstream until SIGTERM or SIGINT; prints what to paste."""
    key = f"sk-demo-{secrets.token_urlsafe(24)}"
    host, port = sock.getsockname()[:2]
    with TemporaryDirectory(prefix="ecli-gateway-demo-") as directory:
        async with loopback_upstream() as upstream_url:
            settings = demo_settings(upstream_url, key, host, port, Path(directory))
            await serve(settings, log, sock, ready=lambda url: print(snippets(url, key), flush=True))


def demo_settings(upstream_url: str, key: str, host: str, port: int, directory: Path) -> Settings:
    """A configuration like one that an operator would write, made in memory."""
    text = f"""
server: {{host: "{host}", port: {port}, drain_seconds: 3}}
models:
  - id: 1
    name: {MODEL}
    global: true
    endpoints:
      - {{id: steady, url: "{upstream_url}/steady/v1"}}
      - {{id: flaky, url: "{upstream_url}/flaky/v1"}}
keys:
  - {{id: demo, user: demo, key: "{key}"}}
"""
    return parse_settings(text, "(demo)", {}, directory)


def snippets(url: str, key: str) -> str:
    """Ready to paste: a `curl` line and an `openai` program."""
    return f"""
The demo gateway serves the model `{MODEL}` at {url}/v1 — stop it with Ctrl-C. Ask it something:

curl -N {url}/v1/chat/completions \\
  -H "Authorization: Bearer {key}" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "{MODEL}", "stream": true, "messages": [{{"role": "user", "content": "Hello?"}}]}}'

Or in Python (pip install openai):

from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key="{key}")
stream = client.chat.completions.create(
    model="{MODEL}", messages=[{{"role": "user", "content": "Hello?"}}], stream=True
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
"""


@asynccontextmanager
async def loopback_upstream() -> AsyncIterator[str]:
    """Runs the upstream on a free loopback port; gives its base URL without a path."""
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
