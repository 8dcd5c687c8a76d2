"""Reads that are one whole chunk of text go to the client as they came; every other read is looked at first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from kit.answers import DONE, LAST_CHUNK, chunk, delta, event, usage_only
from servers.scripted import Peer, closing, serving

from gateway.dialects.openai import CHAT_END_SIGNS
from gateway.http.client import Transport, request_head
from gateway.proxy.stream.chunks import chunk_passage
from gateway.proxy.stream.live import Live
from gateway.proxy.usage_meter import UsageMeter


class ClientTransport(asyncio.WriteTransport):
    """What is written to a client."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing


class Stream:
    """Is told when something came."""

    last_read = 0.0


def passage_of(meter: UsageMeter, client: ClientTransport, stream: Stream) -> Callable[[bytes], bool]:
    live = Live(meter, CHAT_END_SIGNS, is_numbered=False, take_usage_out=True)
    return chunk_passage(stream, live, client, lambda: 7.0)


def test_a_chunk_of_text_is_passed_on_framing_and_all_and_metered() -> None:
    meter, client, stream = UsageMeter(), ClientTransport(), Stream()
    events = delta("twelve bytes") + delta("and more")
    assert passage_of(meter, client, stream)(chunk(events))
    assert client.written == [chunk(events)]
    assert stream.last_read == 7.0
    meter.conclude()
    assert meter.text_bytes == len("twelve bytes" + "and more")


@pytest.mark.parametrize(
    "events",
    [
        usage_only(),
        DONE,
        delta("a") + DONE,
        event({"choices": [], "usage": {"prompt_tokens": 1}}) + delta("a"),
        delta("half")[:-1],
        delta("a") + b"data: {",
    ],
    ids=["usage", "the end", "text and the end", "usage and text", "half an event", "one and a half"],
)
def test_what_needs_a_look_is_left_to_it_whole(events: bytes) -> None:
    meter, client, stream = UsageMeter(), ClientTransport(), Stream()
    assert not passage_of(meter, client, stream)(chunk(events))
    assert client.written == []
    assert meter.waiting == []


def test_a_large_chunk_of_which_so_many_bytes_are_there_by_chance_is_no_whole_one() -> None:
    """Its size has a line longer than is looked for; what has come ends as a chunk does, and its rest is under way."""
    meter, client, stream = UsageMeter(), ClientTransport(), Stream()
    size = 0x10010
    begun = b"data: " + b"x" * (size - 14) + b"\n\n\r\n"
    assert not passage_of(meter, client, stream)(b"%x\r\n%b" % (size, begun))
    assert client.written == []


def test_nothing_is_written_to_a_client_that_has_gone() -> None:
    meter, client, stream = UsageMeter(), ClientTransport(), Stream()
    client.closing = True
    assert not passage_of(meter, client, stream)(chunk(delta("a")))
    assert client.written == []


def test_within_an_event_every_read_is_looked_at() -> None:
    meter, client, stream = UsageMeter(), ClientTransport(), Stream()
    live = Live(meter, CHAT_END_SIGNS, is_numbered=False, take_usage_out=True)
    assert live.feed(b"data: ") == b""
    assert not chunk_passage(stream, live, client, lambda: 7.0)(chunk(delta("a")))


class Body:
    """Receives a body; `lone` are the reads that it was offered."""

    def __init__(self, *, takes: bool) -> None:
        self.takes, self.lone, self.parts = takes, list[bytes](), list[bytes]()
        self.ended = asyncio.get_running_loop().create_future()
        self.news = asyncio.Queue[bytes]()

    def passage(self, read: bytes) -> bool:
        self.lone.append(read)
        self.news.put_nowait(read)
        return self.takes and read == chunk(b"second")

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None: ...

    def on_body(self, data: bytes) -> None:
        self.parts.append(data)
        self.news.put_nowait(data)

    def on_end(self) -> None:
        self.ended.set_result(None)

    def on_failure(self, error: Exception) -> None:
        self.ended.set_exception(error)


@pytest.mark.parametrize("takes", [True, False])
async def test_a_connection_offers_reads_between_chunks_and_gives_what_is_not_taken(takes: bool) -> None:
    """Head and first chunk by the parser, then one chunk a read, then two at once and the end by the parser again."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(b"first"))
        for piece in (chunk(b"second"), chunk(b"third") + chunk(b"fourth") + LAST_CHUNK):
            await go_on.wait()
            go_on.clear()
            await peer.send(piece)

    async with serving(script) as server, closing(Transport()) as transport:
        receiver, head = Body(takes=takes), request_head("GET", "/", [])
        exchange = await transport.exchange(server.origin, head, b"", receiver, connect_timeout=5)
        exchange.passage = receiver.passage
        await receiver.news.get()
        go_on.set()
        await receiver.news.get()
        go_on.set()
        await receiver.ended
    assert receiver.lone == [chunk(b"second"), chunk(b"third") + chunk(b"fourth") + LAST_CHUNK]
    assert b"".join(receiver.parts) == b"first" + b"second" * (not takes) + b"thirdfourth"
