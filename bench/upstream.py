"""A model provider that costs next to nothing: canned bytes on an asyncio protocol.

A chat completion gets one fixed JSON answer; with `"stream": true` it gets events, one at each tick. Where the request
asks for usage (the gateway adds that), the usage event goes out before `[DONE]`.

python -m bench.upstream --port PORT --events 100 --tick 0.02 --slots 1 --first 0 [--certificate FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, cast

import httptools
import uvloop

from bench.wire import ANSWER, USAGE_EVENT, stream_events

WHOLE_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(ANSWER),
    ANSWER,
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
LARGE_BODY_BYTES = 65536  # bodies with images: never streamed, so they need not be parsed
BACKLOG = 4096


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


class Frames(NamedTuple):
    """What goes out at each tick of one stream."""

    plain: tuple[bytes, ...]
    with_usage: tuple[bytes, ...]

    @classmethod
    def of(cls, events: int) -> Frames:
        first, *rest = map(chunk, stream_events(events))
        frames = (STREAM_HEAD + first, *rest[:-1], rest[-1] + LAST_CHUNK)
        return cls(frames, (*frames[:-1], chunk(USAGE_EVENT) + frames[-1]))


class Wish(NamedTuple):
    """What a request's body asks for."""

    stream: bool
    usage: bool


# A target sends the same body again and again: parsing it once keeps the upstream out of the figures.
@lru_cache(maxsize=64)
def small_wish(body: bytes) -> Wish:
    request = json.loads(body)
    return Wish(bool(request.get("stream")), bool((request.get("stream_options") or {}).get("include_usage")))


def wish(parts: Sequence[bytes]) -> Wish:
    """Raises ValueError for what is no JSON."""
    if sum(map(len, parts)) > LARGE_BODY_BYTES:
        return Wish(stream=False, usage=False)
    return small_wish(b"".join(parts))


class Pacer:
    """Gives every live stream its next frame at its tick: one timer for any number of streams.

    With one slot all streams share each tick. With more, a stream gets its first event after `first_seconds`, up to a
    slot earlier, and the others one tick after another.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, tick_seconds: float, slots: int, first_seconds: float) -> None:
        self._loop = loop
        self._slot_seconds = tick_seconds / slots
        self._first_slots = round(first_seconds / self._slot_seconds)
        self._live: list[list[tuple[asyncio.WriteTransport, Iterator[bytes]]]] = [[] for _ in range(slots)]
        self._slot = 0
        self._next_tick = loop.time()
        self._tick()

    def add(self, transport: asyncio.WriteTransport, frames: tuple[bytes, ...]) -> None:
        slot = (self._slot + self._first_slots) % len(self._live)
        self._live[slot].append((transport, iter(frames)))

    def _tick(self) -> None:
        self._slot = (self._slot + 1) % len(self._live)
        self._live[self._slot] = [stream for stream in self._live[self._slot] if self._advance(*stream)]
        self._next_tick += self._slot_seconds
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

    def __init__(self, pacer: Pacer, frames: Frames) -> None:
        self._pacer = pacer
        self._frames = frames
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, ValueError):
            self._transport.write(BAD_REQUEST)
            self._transport.close()

    def on_message_begin(self) -> None:
        self._body.clear()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        wished = wish(self._body)
        if not wished.stream:
            self._transport.write(WHOLE_ANSWER)
            return
        self._pacer.add(self._transport, self._frames.with_usage if wished.usage else self._frames.plain)


async def serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    pacer = Pacer(loop, options.tick, options.slots, options.first)
    frames = Frames.of(options.events)
    context = None
    if options.certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.certificate)
    server = await loop.create_server(
        lambda: Upstream(pacer, frames), "127.0.0.1", options.port, backlog=BACKLOG, ssl=context
    )
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.upstream", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--events", type=int, default=100, help="of a stream, [DONE] among them")
    parser.add_argument("--tick", type=float, default=0.02, help="seconds between two events of a stream")
    parser.add_argument("--slots", type=int, default=1, help="into which the streams' ticks are spread")
    parser.add_argument("--first", type=float, default=0, help="seconds to a stream's first event, less than a tick")
    parser.add_argument("--certificate", type=Path, help="PEM with key and chain: serve TLS")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
