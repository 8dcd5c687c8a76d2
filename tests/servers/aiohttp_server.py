"""aiohttp's server with the answers that the transport's tests ask for; prints its port."""

from __future__ import annotations

import asyncio
import gzip
import hashlib

from aiohttp import web

BODY = b"plain answer"


async def plain(request: web.Request) -> web.Response:
    return web.Response(body=BODY)


async def chunked(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    for piece in (b"one ", b"two ", b"three"):
        await response.write(piece)
    await response.write_eof()
    return response


async def empty(request: web.Request) -> web.Response:
    return web.Response(status=204)


async def compressed(request: web.Request) -> web.Response:
    return web.Response(body=gzip.compress(BODY), headers={"content-encoding": "gzip"})


async def close(request: web.Request) -> web.Response:
    response = web.Response(body=BODY)
    response.force_close()
    return response


async def digest(request: web.Request) -> web.Response:
    return web.Response(text=hashlib.sha256(await request.read()).hexdigest())


async def main() -> None:
    app = web.Application(client_max_size=1 << 26)
    handlers = {
        "/plain": plain,
        "/chunked": chunked,
        "/empty": empty,
        "/gzip": compressed,
        "/close": close,
        "/digest": digest,
    }
    app.add_routes([web.post(path, handler) for path, handler in handlers.items()])
    runner = web.AppRunner(app, keepalive_timeout=0.3)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)  # noqa: T201 — how the test learns the port
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
