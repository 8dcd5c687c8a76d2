"""P11 and P12 for answers: no upstream's bytes hold up another client, and the process does not grow with them."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import brotli
import pytest
import pytest_asyncio
from kit import KEYS, FakeUpstream, GatewayProcess, Received, Stage, ask, request_bytes
from kit.answers import LAST_CHUNK, STREAM_HEAD, chunk, delta, head
from kit.stage import Record, endpoint, model

pytestmark = pytest.mark.asyncio(loop_scope="session")

MEBIBYTE = 1 << 20
AT_ONCE_SECONDS = 0.050
SECONDS_A_MEBIBYTE = 0.020
FLOOD_MEBIBYTES = 6
LOADED = 3  # how much more CPU the same work takes on a machine that is shared with other tests
GROWTH_BYTES = 128 * MEBIBYTE  # beyond `server.memory_mb`, of which these answers need next to nothing
TRIES = 4
OWN_SECONDS = 0.0005  # what a request of the other client's takes itself
HELD_BYTES = 16 * MEBIBYTE


def one_model(upstream: FakeUpstream) -> Iterator[Record]:
    yield model("m", [endpoint(upstream, "m")])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with Stage.open(tmp_path_factory.mktemp("p11"), one_model) as stage:
        yield stage


def usage_events() -> bytes:
    return b"".join(b'data: {"choices":[],"usage":{"prompt_tokens":%d}}\n\n' % number for number in range(1_300))


# What is sent again and again behind a first event; 64 KB or so.
FLOODS = {
    "newlines": b"\n" * 65_536,
    "carriage returns": b"\r" * 65_536,
    "events of one letter": b"a\n\n" * 21_000,
    "comments": b": c\n\n" * 13_000,
    "empty objects": b"data: {}\n\n" * 6_500,
    "quotes": b'"\n\n' * 21_000,
    "lines without end": b"data\n" * 13_000,
    "the shortest texts": b'data:{"choices":[{"text":"x"}]}\n\n' * 1_900,
    "no JSON": b"data: {no JSON at all, all the time}\n\n" * 1_700,
    "data in many lines": b'data: {"choices":\ndata: [{"text":"a"}]}\n\n' * 1_600,
    "usage that differs": usage_events(),
}
PACKED = {
    "gzip": gzip.compress(delta("x") + b"\n" * (64 * MEBIBYTE), 9),
    "br": bytes(brotli.compress(delta("x") + b"a\n\n" * (20 * MEBIBYTE), quality=5)),
}


def flood(block: bytes, mebibytes: int = FLOOD_MEBIBYTES) -> tuple[float, list[bytes]]:
    return mebibytes, [STREAM_HEAD, chunk(delta("x")), *[chunk(block)] * (mebibytes * MEBIBYTE // len(block))]


def scenes() -> Iterator[tuple[str, bool, float, list[bytes]]]:
    """A name, whether a stream is asked for, the MiB that are sent, and the pieces."""
    for name, block in FLOODS.items():
        yield (name, True, *flood(block))
    for encoding, packed in PACKED.items():
        start = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: %b\r\n\r\n" % encoding.encode())
        pieces = [chunk(packed[at : at + 3_000]) for at in range(0, len(packed), 3_000)]
        yield f"packed by {encoding}", True, len(packed) / MEBIBYTE, [start, *pieces]
    for name, block in {"objects": b"{}," * 21_000, "quotes": b'"' * 65_536, "reports": b'"usage":{' * 7_000}.items():
        start = head(200, [("content-type", "application/json"), ("transfer-encoding", "chunked")])
        yield f"a body of {name}", False, 20, [start, chunk(b'{"choices":['), *[chunk(block)] * 320]


SCENES = list(scenes())


@contextmanager
def another_client(gateway: GatewayProcess) -> Iterator[list[float]]:
    """Asks for `/healthz` again and again, on a thread and a connection of its own; for how long it was held up.

    That is the time for which the gateway worked while it waited: in the rest of it the machine was busy with others.
    """
    waits: list[float] = []
    over = threading.Event()

    def go_on() -> None:
        connection = HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        while not over.is_set():
            began = cpu_seconds(gateway)
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            waits.append(cpu_seconds(gateway) - began)
            over.wait(0.005)
        connection.close()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join()


def cpu_seconds(gateway: GatewayProcess) -> float:
    """Of its one thread that serves."""
    return int(Path(f"/proc/{gateway.process.pid}/schedstat").read_text().split()[0]) / 1e9


def peak_bytes(gateway: GatewayProcess) -> int:
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:"))


async def relay(stage: Stage, pieces: list[bytes], *, stream: bool) -> int:
    async def behave(request: Received) -> None:
        for piece in pieces:
            await request.send(piece)
            await asyncio.sleep(0)
        await request.send(LAST_CHUNK)

    stage.upstream.endpoint("m").replies(behave)
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    asked = request_bytes("POST", "/v1/chat/completions", ask("m", stream=stream), key=KEYS["user"])
    writer.write(asked.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    got = 0
    while data := await reader.read(MEBIBYTE):
        got += len(data)
    writer.close()
    return got


@pytest.mark.parametrize(("name", "stream", "mebibytes", "pieces"), SCENES, ids=[scene[0] for scene in SCENES])
async def test_no_answer_holds_up_another_client(
    stage: Stage, name: str, stream: bool, mebibytes: float, pieces: list[bytes]
) -> None:
    """The other client waits for no more than one read's work, and each MiB costs what P11 allows.

    A try in which the machine held up one of the three processes says nothing: the best of some counts.
    """
    most_a_wait = most_in_all = float("inf")
    for _ in range(TRIES):
        before = cpu_seconds(stage.gateway)
        with another_client(stage.gateway) as waits:
            sent = await relay(stage, pieces, stream=stream)
        assert sent > 0.9 * mebibytes * MEBIBYTE or name == "usage that differs"  # which is all ours to take out
        own = len(waits) * OWN_SECONDS
        most_a_wait = min(most_a_wait, max(waits))
        most_in_all = min(most_in_all, cpu_seconds(stage.gateway) - before - own)
        if most_a_wait < AT_ONCE_SECONDS and most_in_all < mebibytes * SECONDS_A_MEBIBYTE:
            return
    assert most_a_wait < LOADED * AT_ONCE_SECONDS
    if not name.startswith("packed"):  # what those cost is up to what they unfold to, a bounded step at a time
        assert most_in_all < LOADED * mebibytes * SECONDS_A_MEBIBYTE


async def test_the_process_does_not_grow_with_what_upstreams_send(stage: Stage) -> None:
    """All of the scenes, eight at a time: beyond what it holds of whole answers, next to nothing."""
    before = peak_bytes(stage.gateway)
    for at in range(0, len(SCENES), 8):
        group = SCENES[at : at + 8]
        await asyncio.gather(*(relay(stage, pieces, stream=stream) for _, stream, _, pieces in group))
    bodies = sum(not stream for _, stream, _, _ in SCENES)
    assert peak_bytes(stage.gateway) - before < GROWTH_BYTES + 2 * bodies * HELD_BYTES
