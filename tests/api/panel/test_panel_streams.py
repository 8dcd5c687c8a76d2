"""Streamed chat and studio: section 6 of the contract, read as a panel's front end reads them."""

from __future__ import annotations

import asyncio
import codecs
import json
from pathlib import Path
from typing import Any

import aiohttp
import brotli
import pytest
from aiohttp_sse_client.client import EventSource  # type: ignore[import-untyped]  # it has no types
from kit import CLOSE, DONE, KEYS, RESET, UPSTREAM_WORDS, Stage, Wire, answer, event, events, raw
from kit.answers import STREAM_HEAD, TOOL_CALL, USAGE, chunk, delta, full, upstream_error, usage_only
from kit.nginx import nginx
from panel_kit import CHAT, STUDIO, UNAVAILABLE, flat, open_stream, post, talk, told

ROUTES = pytest.mark.parametrize("path", [CHAT, STUDIO])
PROMISED_SECONDS = 0.1
SCHEDULING_SECONDS = 0.05  # two processes and this test share the machine with other tests
SENTENCE = "Smile 😀, family 👨‍👩‍👧, flag 🇨🇭, and Zürich."


def bytewise(data: bytes) -> Any:
    """A stream of which each byte is a chunk and a write of its own."""
    return raw(STREAM_HEAD, *[chunk(data[at : at + 1]) for at in range(len(data))], b"0\r\n\r\n")


def finished(reason: str = "stop", **message: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": message, "finish_reason": reason}]})


# --- the shape


async def test_a_chat_in_events(panel: Stage) -> None:
    """Deltas as they come, then the whole reply with its usage, then the end; upstream the usage is asked for."""
    model = panel.model()
    reply = await post(panel, CHAT, talk(model, stream=True))
    assert told(reply.body) == [
        {"delta": "Hello"},
        *({"delta": f" {word}"} for word in ["from", "the", "fake", "upstream"]),
        {"reply": "Hello from the fake upstream", "usage": USAGE},
        "[DONE]",
    ]
    assert reply.header("content-type") == "text/event-stream"
    assert reply.header("cache-control") == "no-cache"
    assert reply.header("x-accel-buffering") == "no"
    assert reply.header("x-gateway-model") == model.name
    assert len({name for name, _ in reply.headers}) == len(reply.headers), "a header twice"
    asked = model.a.requests[0].json()
    assert (asked["stream"], asked["stream_options"]) == (True, {"include_usage": True})


async def test_the_studio_in_events(panel: Stage) -> None:
    """Its last event is what it answers whole."""
    model = panel.model()
    model.a.replies(events(delta("So."), finished("length"), usage_only(), DONE))
    reply = await post(panel, STUDIO, talk(model, stream=True))
    whole = {"reply": "So.", "model": model.name, "usage": USAGE, "finishReason": "length"}
    assert told(reply.body) == [{"delta": "So."}, whole, "[DONE]"]


async def test_each_delta_goes_out_when_it_comes(panel: Stage) -> None:
    """One word is there while the upstream still thinks about the next."""
    model = panel.model()
    go_on = asyncio.Event()
    model.a.replies(events(delta("One"), go_on, delta(" two"), DONE))
    async with Wire.open(panel.port) as wire:
        await open_stream(wire, CHAT, talk(model))
        assert await wire.event() == b'data: {"delta":"One"}\n\n'
        go_on.set()
        assert await wire.event() == b'data: {"delta":" two"}\n\n'
        assert await wire.event() == b'data: {"reply":"One two","usage":null}\n\n'
        assert await wire.event() == DONE
        assert await wire.event() == b""


async def test_nginx_passes_each_event_on_at_once(panel: Stage, tmp_path: Path) -> None:
    """With nginx's own settings, which buffer: the answer itself says not to."""
    model = panel.model()
    go_on = asyncio.Event()
    model.a.replies(events(delta("One"), go_on, delta(" two"), DONE))
    async with nginx(panel.port, tmp_path, "proxy_http_version 1.1;") as port, Wire.open(port) as wire:
        await open_stream(wire, CHAT, talk(model))
        assert await wire.event() == b'data: {"delta":"One"}\n\n'
        go_on.set()
        assert told((await wire.body()).body)[-2:] == [{"reply": "One two", "usage": None}, "[DONE]"]


async def test_usage_is_null_where_the_upstream_tells_none(panel: Stage) -> None:
    """An upstream that refuses to be asked for usage is served all the same."""
    plainspoken = panel.upstream.endpoint("plainspoken")
    reply = await post(panel, CHAT, talk(modelId="id-plainspoken", stream=True))
    assert told(reply.body)[-2:] == [{"reply": "Hello from the fake upstream", "usage": None}, "[DONE]"]
    assert "stream_options" not in plainspoken.requests[0].json()


async def test_a_stream_that_ends_without_done_is_complete(panel: Stage) -> None:
    """As on the OpenAI routes, a clean end is an end."""
    model = panel.model()
    model.a.replies(events(delta("All of it."), finished()))
    reply = await post(panel, CHAT, talk(model, stream=True))
    assert told(reply.body) == [{"delta": "All of it."}, {"reply": "All of it.", "usage": None}, "[DONE]"]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ([finished("tool_calls", tool_calls=[TOOL_CALL])], "use a tool (weather)"),
        ([finished("stop", refusal="I would rather not.")], "I would rather not."),
        ([finished("stop", content=[{"type": "text", "text": "In parts."}])], "In parts."),
        ([finished("stop")], "no answer to this"),
        ([finished("length", content=None)], "ran out of room"),
        ([event({"choices": [{"index": 0, "text": "Legacy."}]})], "Legacy."),
        ([event("not JSON"), event("[1]"), event({"choices": 7}), delta("Still.")], "Still."),
    ],
)
async def test_whatever_a_model_streams_becomes_text(panel: Stage, sent: list[bytes], said: str) -> None:
    """The deltas together are the reply, also where the words had to be ours."""
    model = panel.model()
    model.a.replies(events(*sent, DONE))
    *deltas, end, done = told((await post(panel, CHAT, talk(model, stream=True))).body)
    assert said in end["reply"]
    assert "".join(each["delta"] for each in deltas) == end["reply"]
    assert done == "[DONE]"


@ROUTES
async def test_an_upstream_that_does_not_stream(panel: Stage, path: str) -> None:
    """Its whole answer is told in events."""
    model = panel.model()
    choice = {"index": 0, "message": {"content": "At once."}, "finish_reason": "stop"}
    model.a.replies(answer(200, {"choices": [choice], "usage": USAGE}))
    reply = await post(panel, path, talk(model, stream=True))
    *deltas, end, done = told(reply.body)
    assert (deltas, end["reply"], end["usage"], done) == ([{"delta": "At once."}], "At once.", USAGE, "[DONE]")
    assert end.get("finishReason", "stop") == "stop"
    assert reply.header("x-gateway-model") == model.name
    assert reply.header("content-type") == "text/event-stream"


@ROUTES
async def test_a_caller_without_any_model_gets_a_friendly_stream(modest: Stage, path: str) -> None:
    """The same words as in a whole answer, in the events that were asked for."""
    reply = await post(modest, path, talk(stream=True), user="newcomer")
    first, end, done = told(reply.body)
    assert reply.status == 200
    assert first["delta"] == end["reply"]
    assert "administrator" in end["reply"]
    assert (end["usage"], done) == (None, "[DONE]")
    assert len(reply.all("x-request-id")) == 1


# --- reading it


async def test_a_foreign_reader_reads_it(panel: Stage) -> None:
    """aiohttp-sse-client, which nobody here wrote."""
    model = panel.model()
    model.a.replies(events(delta("Grüezi "), delta("😀"), usage_only(), DONE))
    async with (
        aiohttp.ClientSession() as session,
        EventSource(
            panel.url + CHAT,
            option={"method": "POST"},
            session=session,
            json=talk(model, stream=True),
            headers={"authorization": f"Bearer {KEYS['user']}"},
        ) as source,
    ):
        got = [(await anext(source)).data for _ in range(4)]
    assert [json.loads(each) for each in got[:3]] == [
        {"delta": "Grüezi "},
        {"delta": "😀"},
        {"reply": "Grüezi 😀", "usage": USAGE},
    ]
    assert got[3] == "[DONE]"


def read_by_fetch(pieces: list[bytes]) -> list[Any]:
    """What a page does: `reader.read()`, `decoder.decode(piece, {stream: true})`, cut at blank lines."""
    decoder, text, found = codecs.getincrementaldecoder("utf-8")("strict"), "", []
    for piece in pieces:
        text += decoder.decode(piece)
        *whole, text = text.split("\n\n")
        found += [each.removeprefix("data: ") for each in whole]
    assert (decoder.decode(b"", final=True), text) == ("", "")
    return [json.loads(each) for each in found[:-1]] + found[-1:]


async def test_a_page_reads_it_wherever_the_network_cuts(panel: Stage) -> None:
    """Byte by byte from the upstream, and cut at every place on the way to the reader: no emoji breaks."""
    model = panel.model()
    words = [f"{word} " for word in SENTENCE.split(" ")]
    sent = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in words]
    unescaped = [event(json.dumps(each, ensure_ascii=False)) for each in sent]
    model.a.replies(bytewise(b"".join([*unescaped, DONE])))
    body = (await post(panel, CHAT, talk(model, stream=True))).body
    expected = [*({"delta": word} for word in words), {"reply": SENTENCE + " ", "usage": None}, "[DONE]"]
    assert "😀".encode() in body
    for cut in range(len(body)):
        assert read_by_fetch([body[:cut], body[cut:]]) == expected
    assert read_by_fetch([body[at : at + 1] for at in range(len(body))]) == expected


async def test_a_character_cut_in_two_between_deltas(panel: Stage) -> None:
    """Servers that cut text by UTF-16 units send half a pair at the end of one delta; it waits for its other half."""
    model = panel.model()
    model.a.replies(events(*[delta(each) for each in ("a\ud83d", "\ude00b", "\ud83d")], DONE))
    assert told((await post(panel, CHAT, talk(model, stream=True))).body) == [
        {"delta": "a"},
        {"delta": "😀b"},
        {"delta": "\N{REPLACEMENT CHARACTER}"},
        {"reply": "a😀b\N{REPLACEMENT CHARACTER}", "usage": None},
        "[DONE]",
    ]


async def test_bytes_that_are_no_utf8_are_replaced(panel: Stage) -> None:
    """What goes to the page is UTF-8, whatever came."""
    model = panel.model()
    model.a.replies(events(delta("@").replace(b"@", b"\xf0\x9f"), delta("."), DONE))
    *_, end, _ = told((await post(panel, CHAT, talk(model, stream=True))).body)
    assert end["reply"] == "\N{REPLACEMENT CHARACTER}."


# --- failing


@ROUTES
@pytest.mark.parametrize("ending", [CLOSE, RESET])
@pytest.mark.parametrize("rest", [b"", b'data: {"choices":[{"del'], ids=["between events", "within one"])
async def test_a_stream_that_breaks_says_so(panel: Stage, path: str, ending: Any, rest: bytes) -> None:
    """The last event tells it; there is no reply, no `[DONE]`, and the body ends cleanly."""
    model = panel.model()
    model.a.replies(events(delta("Half an"), rest, ending))
    reply = await post(panel, path, talk(model, stream=True))
    first, last = told(reply.body)
    assert first == {"delta": "Half an"}
    assert last["error"] == "stream_incomplete"
    assert last["message"]
    assert "reply" not in last


async def test_a_stream_that_breaks_in_an_event_of_megabytes_says_so(panel: Stage) -> None:
    """Bytes as they are would have to be cut there; the panel's client has had whole events alone."""
    model = panel.model()
    model.a.replies(events(delta("Half an"), b'data: {"choices":[{"delta":{"content":"' + b"x" * 3 * 2**20, RESET))
    reply = await post(panel, CHAT, talk(model, stream=True))
    first, last = told(reply.body)
    assert (first, last["error"]) == ({"delta": "Half an"}, "stream_incomplete")


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_whole_answer_is_read_however_it_is_compressed(panel: Stage, streamed: bool) -> None:
    """Though none of it was asked for."""
    model = panel.model()
    body = json.dumps({"choices": [{"message": {"content": "Squeezed."}}]}).encode()
    model.a.replies(answer(200, brotli.compress(body), [("content-encoding", "br")]))
    reply = await post(panel, CHAT, talk(model, stream=streamed))
    last = told(reply.body)[-2] if streamed else reply.json()
    assert (reply.status, last["reply"]) == (200, "Squeezed.")


async def test_an_error_in_mid_stream_ends_it(panel: Stage) -> None:
    """The upstream's words stay with us, and nothing follows."""
    model = panel.model()
    failed = event({"error": {"message": UPSTREAM_WORDS, "code": "upstream_code"}})
    model.a.replies(events(delta("Well, "), failed, delta("more"), DONE))
    reply = await post(panel, CHAT, talk(model, stream=True))
    first, last = told(reply.body)
    assert (first, last["error"]) == ({"delta": "Well, "}, "stream_incomplete")
    assert UPSTREAM_WORDS.encode() not in reply.body


@pytest.mark.parametrize(
    "behaviour", [upstream_error(500), upstream_error(400), events(event({"error": {"message": UPSTREAM_WORDS}}))]
)
async def test_a_stream_that_never_began_is_an_answer(panel: Stage, behaviour: Any) -> None:
    """502 as JSON: no head has gone out, so the status can tell it."""
    model = panel.model()
    model.a.replies(behaviour)
    reply = await post(panel, CHAT, talk(model, stream=True))
    assert flat(reply) == (502, "ai_unavailable")
    assert reply.json()["reply"] == UNAVAILABLE


async def test_an_event_stream_that_nobody_can_read(panel: Stage) -> None:
    """A compressed one: it is told in the stream, as the head has gone out."""
    model = panel.model()
    about = [("content-type", "text/event-stream"), ("content-encoding", "gzip"), ("transfer-encoding", "chunked")]
    lines = "".join(f"{name}: {value}\r\n" for name, value in about)
    model.a.replies(raw(f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode() + chunk(b"\x1f\x8b...") + b"0\r\n\r\n"))
    (last,) = told((await post(panel, CHAT, talk(model, stream=True))).body)
    assert (last["error"], last["reply"]) == ("ai_unavailable", UNAVAILABLE)


async def test_heartbeats_are_comments_and_a_late_answer_still_comes(hasty: Stage) -> None:
    """A reader that waits sees signs of life which are no events."""
    model = hasty.model()
    go_on = asyncio.Event()
    model.a.replies(raw(go_on, STREAM_HEAD, chunk(delta("Late.")), chunk(DONE), b"0\r\n\r\n"))
    async with Wire.open(hasty.port) as wire:
        head = await open_stream(wire, CHAT, talk(model))
        assert (head.status, head.header("content-type")) == (200, "text/event-stream")
        for _ in range(2):
            assert (await wire.event()).startswith(b":")
        go_on.set()
        rest = told((await wire.body()).body)
    assert rest == [{"delta": "Late."}, {"reply": "Late.", "usage": None}, "[DONE]"]


@pytest.mark.parametrize("behaviour", [full(500, b"{}"), full(400, {"error": {"message": UPSTREAM_WORDS}}), full(200)])
async def test_a_failure_after_heartbeats_is_told_in_the_stream(hasty: Stage, behaviour: bytes) -> None:
    """The head is out, so the event says what the status would have said."""
    model = hasty.model()
    go_on = asyncio.Event()
    model.a.replies(raw(go_on, behaviour))
    async with Wire.open(hasty.port) as wire:
        await open_stream(wire, CHAT, talk(model))
        assert (await wire.event()).startswith(b":")
        go_on.set()
        rest = (await wire.body()).body
    (last,) = told(rest)
    assert (last["error"], last["reply"]) == ("ai_unavailable", UNAVAILABLE)
    assert UPSTREAM_WORDS.encode() not in rest


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_a_page_that_is_closed_closes_the_upstream(panel: Stage, how: str) -> None:
    """P3 holds here too: nobody pays for what nobody reads."""
    model = panel.model()
    model.a.replies(events(delta("One"), asyncio.Event()))
    async with Wire.open(panel.port) as wire:
        await open_stream(wire, CHAT, talk(model))
        await wire.event()
        left_at = asyncio.get_running_loop().time()
        wire.reset() if how == "RST" else wire.writer.close()
        closed_at = await (await model.a.request()).until_closed()
    assert closed_at - left_at < PROMISED_SECONDS + SCHEDULING_SECONDS
