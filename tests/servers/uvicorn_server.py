"""uvicorn (over h11, which shares no code with our parser) with the answers that the tests ask for; prints its port."""

from __future__ import annotations

import gzip
import hashlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

BODY = b"plain answer"
Message = dict[str, Any]
LENGTH = (b"content-length", b"%d" % len(BODY))

# path → status, headers, pieces of the body; without a content-length uvicorn sends chunks
ANSWERS: dict[str, tuple[int, list[tuple[bytes, bytes]], list[bytes]]] = {
    "/plain": (200, [LENGTH], [BODY]),
    "/chunked": (200, [], [b"one ", b"two ", b"three"]),
    "/empty": (204, [], [b""]),
    "/gzip": (200, [(b"content-encoding", b"gzip")], [gzip.compress(BODY)]),
    "/close": (200, [LENGTH, (b"connection", b"close")], [BODY]),
}


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    hashed = hashlib.sha256()
    more = True
    while more:
        message = await receive()
        hashed.update(message.get("body", b""))
        more = message.get("more_body", False)
    status, headers, pieces = ANSWERS.get(scope["path"], (200, [], [hashed.hexdigest().encode()]))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(listener.getsockname()[1], flush=True)  # noqa: T201 — how the test learns the port
    config = uvicorn.Config(app, http="h11", lifespan="off", log_level="error", timeout_keep_alive=1)
    uvicorn.Server(config).run(sockets=[listener])
