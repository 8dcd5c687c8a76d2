"""A model provider that costs next to nothing: canned bytes on an asyncio protocol.

A chat completion gets one fixed JSON answer; with `"stream": true` it gets 100 events, one at each tick of a clock that
all streams share. Where the request asks for usage (the gateway adds that), the usage event goes out before `[DONE]`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, cast

import httptools
import uvloop

from bench.wire import ANSWER, EVENTS, TICK_SECONDS, USAGE_EVENT

WHOLE_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(ANSWER),
    ANSWER,
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
FRAMES = (*map(chunk, EVENTS[:-1]), chunk(EVENTS[-1]) + LAST_CHUNK)
FRAMES_WITH_USAGE = (*FRAMES[:-1], chunk(USAGE_EVENT) + FRAMES[-1])


class Wish(NamedTuple):
    """What a request's body asks for."""

    stream: bool
    usage: bool


@lru_cache(
    maxsize=64
)  # a target sends the same body again and again: parsing it once keeps the upstream out of the figures
def wish(body: bytes) -> Wish:
    request = json.loads(body)
    return Wish(bool(request.get("stream")), bool(request.get("stream_options", {}).get("include_usage")))


class Pacer:
    """Gives every live stream its next frame at each tick, all in one go: one timer for any number of streams."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._live: list[tuple[asyncio.WriteTransport, Iterator[bytes]]] = []
        self._next_tick = loop.time()
        self._tick()

    def add(self, transport: asyncio.WriteTransport, frames: tuple[bytes, ...]) -> None:
        self._live.append((transport, iter(frames)))

    def _tick(self) -> None:
        self._live = [stream for stream in self._live if self._advance(*stream)]
        self._next_tick += TICK_SECONDS
        self._loop.call_at(self._next_tick, self._tick)

    @staticmethod
    def _advance(transport: asyncio.WriteTransport, frames: Iterator[bytes]) -> bool:
        """Writes the next frame; False once there is none, or nobody to read it."""
        frame = next(frames, None)
        if frame is None or transport.is_closing():
            return False
        transport.write(frame)
        return True


class Upstream(asyncio.Protocol):
    """One connection from a proxy."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, ValueError):
            self._transport.write(BAD_REQUEST)
            self._transport.close()

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        wished = wish(self._body)
        if not wished.stream:
            self._transport.write(WHOLE_ANSWER)
            return
        self._transport.write(STREAM_HEAD)
        self._pacer.add(self._transport, FRAMES_WITH_USAGE if wished.usage else FRAMES)


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    pacer = Pacer(loop)
    server = await loop.create_server(lambda: Upstream(pacer), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.upstream", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
