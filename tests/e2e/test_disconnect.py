"""P3 and P9 with a real process: a client that leaves takes its upstream with it, one that stops reading stops it."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import pytest
from kit import DEADLINE_SECONDS, Received, Stage, Wire, events, raw
from kit.answers import STREAM_HEAD, chunk, delta, full
from kit.stage import FreshModel

PROMISED_SECONDS = 0.100
SCHEDULING_SECONDS = 0.050  # two processes and this test share the machine with other tests
KERNEL_BYTES = 32 << 20  # more than all socket buffers between upstream and client can hold

WAYS = pytest.mark.parametrize("way", ["FIN", "RST", "half-close"])


def leave(wire: Wire, way: str) -> float:
    """Leaves; the loop's time at which it did."""
    if way == "FIN":
        wire.writer.close()
    elif way == "RST":
        wire.reset()
    else:
        wire.half_close()
    return asyncio.get_running_loop().time()


async def assert_closed_in_time(request: Received, left: float) -> None:
    closed = await request.until_closed()
    assert closed - left <= PROMISED_SECONDS + SCHEDULING_SECONDS


@WAYS
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
async def test_leaving_before_the_first_byte(stage: Stage, way: str, streamed: bool) -> None:
    """Nothing has come yet: the upstream's connection is closed within 100 ms all the same."""
    model = stage.model()
    model.a.replies(raw(asyncio.Event()))
    async with stage.asking(model.chat(stream=streamed)) as wire:
        request = await model.a.request()
        await assert_closed_in_time(request, leave(wire, way))


@WAYS
async def test_leaving_in_mid_stream(stage: Stage, way: str) -> None:
    """The stream is live: the same bound."""
    model = stage.model()
    model.a.replies(events(delta("one"), asyncio.Event()))
    async with stage.asking(model.chat(stream=True)) as wire:
        await wire.head()
        assert await wire.event() == delta("one")
        await assert_closed_in_time(model.a.requests[0], leave(wire, way))


@WAYS
async def test_leaving_in_the_middle_of_a_held_body(stage: Stage, way: str) -> None:
    """Half of a plain answer is here and held: the client's leaving counts as before."""
    model = stage.model()
    sent = asyncio.Event()

    async def half(request: Received) -> None:
        await request.send(full(200, b"0" * 100_000)[:-50_000])
        sent.set()
        await asyncio.Event().wait()

    model.a.replies(half)
    async with stage.asking(model.chat()) as wire:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await sent.wait()
        await assert_closed_in_time(model.a.requests[0], leave(wire, way))


@WAYS
async def test_leaving_between_heartbeats(strict: Stage, way: str) -> None:
    """A stream that has only beaten so far is closed as well."""
    model = strict.model()
    model.a.replies(raw(asyncio.Event()))
    async with strict.asking(model.chat(stream=True)) as wire:
        await wire.head()
        assert (await wire.event()).startswith(b":")
        await assert_closed_in_time(model.a.requests[0], leave(wire, way))


async def test_leaving_with_the_last_byte_of_the_request(stage: Stage) -> None:
    """A FIN that comes together with the request counts too: the connection ends, and no upstream is left waiting."""
    model = stage.model()
    model.a.always(raw(asyncio.Event()))
    async with stage.asking(model.chat()) as wire:
        wire.half_close()
        await wire.ended()
    for request in model.a.requests:
        await request.until_closed()


async def test_leaving_says_nothing_against_the_endpoint(stage: Stage) -> None:
    """Clients who change their minds do not cool an endpoint, and none of them makes the gateway ask the next one."""
    model = stage.model("pair")
    model.a.replies(*[raw(asyncio.Event())] * 5)
    for number in range(1, 6):
        async with stage.asking(model.chat()) as wire:
            request = await model.a.request(number)
            wire.reset()
            await request.until_closed()
    assert (await stage.post(model.chat())).status == 200
    assert model.asked() == [6, 0]


async def test_many_clients_leaving_at_once(stage: Stage) -> None:
    """Each of thirty takes just its own upstream connection along; a stream beside them goes on."""
    model = stage.model()
    release = asyncio.Event()
    bystander = stage.model()
    bystander.a.replies(events(delta("one"), release, delta("two")))
    model.a.always(events(delta("x"), asyncio.Event()))

    async def visit() -> None:
        async with stage.asking(model.chat(stream=True)) as wire:
            await wire.head()
            await wire.event()

    async with stage.asking(bystander.chat(stream=True)) as watching:
        await watching.head()
        await asyncio.gather(*(visit() for _ in range(30)))
        for request in model.a.requests:
            await request.until_closed()
        release.set()
        assert (await watching.body()).body == delta("one") + delta("two")


# --- clients that stay and do not read


async def flood(request: Received) -> None:
    """Events without end, as fast as they are taken."""
    await request.send(STREAM_HEAD)
    piece = chunk(delta("f" * 60_000))
    while True:
        await request.send(piece)


async def until_paused(request: Received) -> None:
    """Waits until the upstream can send no more: a tenth of a second in which not a byte was taken."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        before = -1
        while request.sent_bytes != before:
            before = request.sent_bytes
            await asyncio.sleep(0.1)


async def test_a_client_that_stops_reading_pauses_the_upstream_and_is_ended(strict: Stage) -> None:
    """What is taken from the upstream is bounded by buffers, and `write` (here 0.4 s) ends both connections."""
    model = strict.model()
    model.a.replies(flood)
    async with strict.asking(model.chat(stream=True), receive_buffer=16_384) as wire:
        await wire.head()
        wire.stop_reading()
        await model.a.requests[0].until_closed()
    assert model.a.requests[0].sent_bytes < KERNEL_BYTES


async def test_a_flood_does_not_fill_the_memory(stage: Stage) -> None:
    """The gateway itself holds little of what the client does not take."""
    model = stage.model()
    model.a.replies(flood)
    before = resident_bytes(stage.gateway.process.pid)
    async with stage.asking(model.chat(stream=True), receive_buffer=16_384) as wire:
        await wire.head()
        wire.stop_reading()
        await until_paused(model.a.requests[0])
        assert resident_bytes(stage.gateway.process.pid) - before < 8 << 20
        assert model.a.requests[0].sent_bytes < KERNEL_BYTES


def resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))


async def test_a_slow_client_is_not_taken_for_a_silent_upstream(stage: Stage) -> None:
    """`idle` (0.3 s here) stands still while it is the client who is slow; afterwards every byte arrives."""
    model = stage.model("hasty")
    sent = [delta(f"{number} " + "f" * 60_000) for number in range(300)]
    model.a.replies(events(*sent))
    async with stage.asking(model.chat(stream=True), receive_buffer=16_384) as wire:
        await wire.head()
        wire.stop_reading()
        await until_paused(model.a.requests[0])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(model.a.requests[0].until_closed(), 1)
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        body = (await wire.body()).body
    assert sha256(body).digest() == sha256(b"".join(sent)).digest()


async def test_a_slow_uploader_does_not_hold_an_upstream(stage: Stage) -> None:
    """No endpoint is asked before the body is whole; a client that leaves in its middle has cost nothing."""
    model: FreshModel = stage.model()
    async with Wire.open(stage.port) as wire:
        await wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        wire.reset()
    assert (await stage.post(model.chat())).status == 200
    assert model.asked() == [1]
