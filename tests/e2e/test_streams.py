"""The life of a stream: when its head goes out, how it beats while nothing comes, and how it ends when it breaks."""

from __future__ import annotations

import asyncio
import gzip
import json
import re

import pytest
from kit import CLOSE, DONE, RESET, Stage, answer, ask, event, events, raw
from kit.answers import End, chunk, delta, full, response_events, upstream_error, usage_only

ENDINGS = pytest.mark.parametrize("ending", [CLOSE, RESET], ids=["FIN", "RST"])


def assert_stream_incomplete(last: bytes) -> None:
    """The ending of a broken stream, to the letter."""
    assert last.startswith(b'data: {"error":{"message":')
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert (error["type"], error["param"], error["code"]) == ("server_error", None, "stream_incomplete")
    assert last.endswith(b"\n\n")


async def test_each_event_goes_out_when_it_is_complete(stage: Stage) -> None:
    """No event waits for another: the upstream sends the next only after the client has the one before."""
    model = stage.model()
    gates = [asyncio.Event() for _ in range(20)]
    steps = [step for number, gate in enumerate(gates) for step in (delta(str(number)), gate)]
    model.a.replies(events(*steps, DONE))
    async with stage.asking(model.chat(stream=True)) as wire:
        await wire.head()
        for number, gate in enumerate(gates):
            assert await wire.event() == delta(str(number))
            gate.set()
        assert await wire.event() == DONE
        assert await wire.event() == b""


async def test_half_an_event_waits_for_its_other_half(stage: Stage) -> None:
    """What is sent of an event is held until the event is whole."""
    model = stage.model()
    release = asyncio.Event()
    model.a.replies(events(delta("one"), delta("two")[:20], release, delta("two")[20:], DONE))
    async with stage.asking(model.chat(stream=True)) as wire:
        await wire.head()
        assert await wire.event() == delta("one")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.piece(), 0.2)
        release.set()
        assert await wire.event() == delta("two")


async def test_the_head_goes_out_with_the_first_event_that_has_data(stage: Stage) -> None:
    """Status, head and comments are held until there is data, since until then the attempt may still fail."""
    model = stage.model()
    release = asyncio.Event()
    model.a.replies(events(b": welcome\n\n", release, delta("one"), DONE))
    async with stage.asking(model.chat(stream=True)) as wire:
        await model.a.request()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.head(), 0.3)
        release.set()
        reply = await wire.reply()
    assert (reply.status, reply.body) == (200, b": welcome\n\n" + delta("one") + DONE)


async def test_the_heads_of_streams(stage: Stage) -> None:
    """Nothing on the way may buffer or keep a stream."""
    reply = await stage.post(stage.model().chat(stream=True))
    assert reply.header("content-type") == "text/event-stream"
    assert reply.header("cache-control") == "no-cache"
    assert reply.header("x-accel-buffering") == "no"
    assert reply.header("x-gateway-attempts") == "1"


async def test_a_clean_end_without_done_is_passed_on_as_it_is(stage: Stage) -> None:
    """Not every upstream says [DONE]."""
    model = stage.model()
    model.a.replies(events(delta("one"), delta("two")))
    assert (await stage.post(model.chat(stream=True))).body == delta("one") + delta("two")


async def test_a_last_event_without_its_blank_line_is_passed_on(stage: Stage) -> None:
    """The upstream ended cleanly: what it sent is what it meant, be it the only event or the last of several."""
    model = stage.model()
    release = asyncio.Event()
    unended = delta("end").rstrip(b"\n")
    model.a.replies(events(unended), events(delta("one"), release, unended))
    assert (await stage.post(model.chat(stream=True))).body == unended
    async with stage.asking(model.chat(stream=True)) as wire:
        await wire.head()
        assert await wire.event() == delta("one")
        release.set()
        assert (await wire.body()).body == unended


@ENDINGS
@pytest.mark.parametrize("route", ["chat/completions", "completions"])
async def test_a_stream_that_dies_is_not_tried_again_and_says_so(stage: Stage, ending: End, route: str) -> None:
    """After the first event no retry: the last whole event, then `stream_incomplete`, no [DONE], a clean end."""
    model = stage.model("pair")
    model.a.replies(events(delta("one"), delta("two"), delta("three")[:30], ending))
    reply = await stage.post(model.chat(stream=True), route)
    assert reply.status == 200
    whole = delta("one") + delta("two")
    assert reply.body.startswith(whole)
    assert_stream_incomplete(reply.body.removeprefix(whole))
    assert model.asked() == [1, 0]


@ENDINGS
async def test_a_dying_stream_of_responses_ends_with_a_named_event(stage: Stage, ending: End) -> None:
    """On `/responses` errors are events with a name and a number, the next one."""
    model = stage.model()
    created, first, *_ = response_events("m", "Hi there")
    model.a.replies(events(created, first, ending))
    reply = await stage.post(model.chat(stream=True), "responses")
    name, data = reply.body.removeprefix(created + first).split(b"\n", 1)
    assert name == b"event: error"
    told = json.loads(data.removeprefix(b"data: "))
    assert (told["type"], told["sequence_number"]) == ("error", 2)
    assert_stream_incomplete(b'data: {"error":%b}\n\n' % json.dumps(told["error"], separators=(",", ":")).encode())


async def test_a_stream_that_falls_silent_ends_as_incomplete(special: Stage) -> None:
    """`idle` ends a live stream in which nothing comes, and the upstream's connection with it."""
    drowsy = special.upstream.endpoint("drowsy").always(events(delta("one"), asyncio.Event()))
    reply = await special.post(ask("drowsy", stream=True))
    assert_stream_incomplete(reply.body.removeprefix(delta("one")))
    await drowsy.requests[0].until_closed()
    assert len(drowsy.requests) == 1


async def test_a_broken_chunk_in_mid_stream_ends_it_as_incomplete(stage: Stage) -> None:
    """Bytes that are no HTTP break the stream; none of them reaches the client."""
    model = stage.model()
    start = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    model.a.replies(raw(start, chunk(delta("one")), b"what is this\r\n"))
    reply = await stage.post(model.chat(stream=True))
    assert_stream_incomplete(reply.body.removeprefix(delta("one")))


async def test_an_event_too_large_to_hold_that_dies_cuts_the_connection(stage: Stage) -> None:
    """Such an event flows; nothing could be added that would not be read as a part of it."""
    model = stage.model()
    part, release = b"data: " + b"p" * (3 << 20), asyncio.Event()
    model.a.replies(events(delta("one"), part, release, RESET))
    async with stage.asking(model.chat(stream=True)) as wire:
        await wire.head()
        taken = b""
        while len(taken) < len(delta("one") + part):
            taken += await wire.piece()
        release.set()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await wire.body()
    assert taken == delta("one") + part


async def test_an_upstream_that_does_not_stream_is_relayed_all_the_same(stage: Stage) -> None:
    """Asked for a stream, it answers with a body: the client gets that body as it is, not an empty stream."""
    model = stage.model()
    model.a.replies(answer(200, b'{"object":"chat.completion"}'))
    reply = await stage.post(model.chat(stream=True))
    assert (reply.status, reply.header("content-type")) == (200, "application/json")
    assert reply.body == b'{"object":"chat.completion"}'


async def test_a_compressed_stream_is_relayed_as_it_is(stage: Stage) -> None:
    """Nothing can be looked for in it, so nothing is held back, taken out or added."""
    model = stage.model()
    packed = gzip.compress(delta("one") + usage_only() + DONE)
    model.a.replies(events(packed[:20], packed[20:], headers=[("content-encoding", "gzip")]))
    reply = await stage.post(model.chat(stream=True))
    assert (reply.header("content-encoding"), reply.body) == ("gzip", packed)


async def test_an_error_after_the_first_event_is_the_upstreams_own(stage: Stage) -> None:
    """A later event that tells of an error is passed on as it is, and not tried again."""
    model = stage.model("pair")
    failure = event({"error": {"message": "the upstream's own words", "type": "x", "param": None, "code": "y"}})
    model.a.replies(events(delta("one"), failure))
    reply = await stage.post(model.chat(stream=True))
    assert (reply.body, model.asked()) == (delta("one") + failure, [1, 0])


async def test_an_answer_beyond_what_is_held_that_dies_cuts_the_connection(stage: Stage) -> None:
    """More than 16 MB of a plain answer have begun to flow: no second answer, and nobody takes it for the whole."""
    model = stage.model("pair")
    megabyte = b"m" * (1 << 20)
    start = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 33554432\r\n\r\n"
    model.a.replies(raw(start, *[megabyte] * 20, RESET))
    async with stage.asking(model.chat()) as wire:
        assert (await wire.head()).status == 200
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await wire.body()
    assert model.asked() == [1, 0]


# --- heartbeats: the strict stage beats each 0.4 seconds


async def test_a_heartbeat_opens_the_stream_and_the_events_follow(strict: Stage) -> None:
    """An interval without an event sends the head and a comment; the answer that comes then is whole."""
    model = strict.model()
    release = asyncio.Event()
    model.a.replies(events(b": welcome\n\n", release, delta("one"), DONE))
    async with strict.asking(model.chat(stream=True)) as wire:
        assert (await wire.head()).status == 200
        beat = await wire.event()
        assert beat.startswith(b":")
        release.set()
        rest = (await wire.body()).body
    comments, events_sent = rest[: rest.index(b"data:")], rest[rest.index(b"data:") :]
    assert all(line.startswith(b":") or not line for line in comments.split(b"\n"))
    assert events_sent == delta("one") + DONE


async def test_what_a_heartbeat_waited_for_is_none_of_the_gateways_own_time(strict: Stage) -> None:
    """The head that a heartbeat sends tells the gateway's share alone, not the upstream's silence."""
    model = strict.model()
    model.a.replies(raw(asyncio.Event()))
    async with strict.asking(model.chat(stream=True)) as wire:
        share = re.fullmatch(r"gateway;dur=([0-9.]+)", (await wire.head()).header("server-timing") or "")
        assert share is not None
        assert float(share[1]) < 400, "milliseconds of silence before the head went out"


async def test_a_heartbeat_each_interval(strict: Stage) -> None:
    """Two intervals without an event are two comments."""
    model = strict.model()
    release = asyncio.Event()
    model.a.replies(raw(release))
    async with strict.asking(model.chat(stream=True)) as wire:
        await wire.head()
        for _ in range(2):
            assert (await wire.event()).startswith(b":")


async def test_no_heartbeat_after_the_first_event(strict: Stage) -> None:
    """A stream that has begun is the upstream's alone, however long it pauses."""
    model = strict.model()
    release = asyncio.Event()
    model.a.replies(events(delta("one"), release, delta("two"), DONE))
    async with strict.asking(model.chat(stream=True)) as wire:
        await wire.head()
        assert await wire.event() == delta("one")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.piece(), 1)
        release.set()
        assert (await wire.body()).body == delta("two") + DONE


async def test_no_heartbeat_after_the_answer(strict: Stage) -> None:
    """On the idle connection that stays behind there is not a byte that the next answer would be read after."""
    model = strict.model()
    model.a.replies(answer(400, b"{}"))
    async with strict.asking(model.chat(stream=True)) as wire:
        assert (await wire.reply()).status == 400
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.reader.read(1), 1)


async def test_after_a_heartbeat_other_endpoints_may_still_answer(strict: Stage) -> None:
    """A comment is no event: the second endpoint's stream is the answer."""
    model = strict.model("pair")
    release = asyncio.Event()
    model.a.always(raw(release, RESET))
    model.b.replies(events(delta("b"), DONE))
    async with strict.asking(model.chat(stream=True)) as wire:
        await wire.head()
        assert (await wire.event()).startswith(b":")
        release.set()
        assert (await wire.body()).body == delta("b") + DONE
    assert model.b.requests


@pytest.mark.parametrize("route", ["chat/completions", "responses"])
async def test_after_a_heartbeat_a_final_failure_is_told_in_band(strict: Stage, route: str) -> None:
    """The 200 has gone: the error is an event, without [DONE], and the body ends cleanly."""
    model = strict.model("pair")
    release = asyncio.Event()
    model.a.always(raw(release, RESET))
    model.b.replies(upstream_error(500))
    async with strict.asking(model.chat(stream=True), route) as wire:
        await wire.head()
        assert (await wire.event()).startswith(b":")
        release.set()
        body = (await wire.body()).body
    if route == "responses":
        assert body.startswith(b"event: error\n")
        body = body.removeprefix(b"event: error\n")
    assert body.endswith(b"\n\n")
    error = json.loads(body.removeprefix(b"data: "))["error"]
    assert (error["type"], error["code"]) == ("server_error", "upstream_error")


async def test_after_a_heartbeat_a_refusal_of_the_upstream_is_told_in_band(strict: Stage) -> None:
    """A 400 that can no longer be relayed is an error event with its own code; the next endpoint is spared."""
    model = strict.model("pair")
    release = asyncio.Event()
    model.a.replies(raw(release, full(400, {"error": {"message": "no such field", "code": "upstream_code"}})))
    async with strict.asking(model.chat(stream=True)) as wire:
        await wire.head()
        assert (await wire.event()).startswith(b":")
        release.set()
        body = (await wire.body()).body
    events_sent = body[body.index(b"data: ") :]
    assert json.loads(events_sent.removeprefix(b"data: "))["error"]["code"] == "upstream_code"
    assert model.asked() == [1, 0]
