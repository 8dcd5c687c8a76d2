"""Little things that unfold into much: compressed bodies, JSON that nests or teems, from clients and from upstreams.

Memory is looked at as the gateway's own process has it, with bounds so wide that only a bomb breaks them.
"""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable

import pytest
from attacks_kit import MEGABYTE, assert_serves, gzip_bomb, memory_mb
from kit import DONE, KEYS, Reply, Stage, Wire, assert_error, event, events, raw, request_bytes
from kit.answers import answer, delta, full
from kit.stage import FreshModel

GIGABYTE = 1 << 30
READ_OF_REFUSALS_BYTES = 64 << 10
CHAT = "/v1/chat/completions"
NESTED = b"[" * 100_000 + b"]" * 100_000
NESTED_OBJECTS = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
READABLE_DEPTH = b"[" * 300 + b"]" * 300  # deeper than orjson writes, not deeper than it reads
HUGE_NUMBER = b"9" * 1_000_000
MANY_KEYS = b"{" + b",".join(b'"k%d":%d' % (n, n) for n in range(300_000)) + b"}"

VALUES = {
    "nested arrays": NESTED,
    "nested objects": NESTED_OBJECTS,
    "nested, but readable": READABLE_DEPTH,
    "never closed": b"[" * 100_000,
    "a huge number": HUGE_NUMBER,
    "a huge exponent": b"1e999999999",
    "many keys": MANY_KEYS,
    "half a surrogate pair": b'"\\ud800"',
}


def assert_relayed(reply: Reply, status: int, body: bytes, about: str = "") -> None:
    """As it is; of a refusal too large to be read the status alone, in our words."""
    if status < 400 or len(body) <= READ_OF_REFUSALS_BYTES:
        assert (about, reply.status, reply.body == body) == (about, status, True)
    else:
        assert_error(reply, status, "upstream_error")


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """One megabyte that unfolds into a thousand."""
    packed = gzip_bomb(GIGABYTE)
    assert len(packed) < 2 * MEGABYTE
    return packed


# --- compressed


async def test_a_compressed_body_of_a_clients_is_not_unpacked(stage: Stage, bomb: bytes) -> None:
    """It is no JSON as it stands, and that is where it ends."""
    before = memory_mb(stage.gateway)
    for encoding in ("gzip", "deflate", "br", "identity, gzip", "gzip, gzip"):
        body = bomb if "gzip" in encoding else zlib.compress(b"{}")
        reply = await stage.post(body, headers=[("content-encoding", encoding)])
        assert_error(reply, 400, "invalid_json")
    assert memory_mb(stage.gateway) - before < 100
    await assert_serves(stage)


async def test_a_compressed_answer_is_relayed_and_only_a_little_of_it_unpacked(stage: Stage, bomb: bytes) -> None:
    """A gigabyte in a megabyte: the client gets the megabyte, byte for byte."""
    before = memory_mb(stage.gateway)
    for status in (200, 400):
        model = stage.model()
        model.a.replies(answer(status, bomb, [("content-encoding", "gzip")]))
        assert_relayed(await stage.post(model.chat()), status, bomb)
    assert memory_mb(stage.gateway) - before < 100
    await assert_serves(stage)


async def test_a_compressed_stream_is_relayed_and_only_a_little_of_it_unpacked(stage: Stage, bomb: bytes) -> None:
    before = memory_mb(stage.gateway)
    model = stage.model()
    pieces = [bomb[at : at + 65_536] for at in range(0, len(bomb), 65_536)]
    model.a.replies(events(*pieces, headers=[("content-encoding", "gzip")]))
    reply = await stage.post(model.chat(stream=True))
    assert reply.body == bomb
    assert memory_mb(stage.gateway) - before < 100
    await assert_serves(stage)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_compressed_answer_to_a_panel_is_told_to_be_unreadable(stage: Stage, bomb: bytes, stream: bool) -> None:
    """Here the answer is read, as far as it is sensible."""
    before = memory_mb(stage.gateway)
    model = stage.model()
    packed = gzip.compress(b'{"choices":[{"message":{"content":"') + bomb
    model.a.replies(answer(200, packed, [("content-encoding", "gzip")]))
    reply = await chat(stage, model, stream=stream)
    assert (reply.status, b"ai_unavailable" in reply.body) == (502, True)
    assert memory_mb(stage.gateway) - before < 200
    await assert_serves(stage)


async def chat(stage: Stage, model: FreshModel, **fields: object) -> Reply:
    return await stage.post({"message": "Hi", "modelId": f"id-{model.name}"} | fields, "/api/ai/chat", prefix="")


# --- JSON of a client's


@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings", "/api/ai/chat", "/api/ai/studio"])
async def test_a_clients_json_is_served_or_refused(stage: Stage, path: str) -> None:
    """400 or an answer, and never a mistake of ours."""
    model = stage.model()
    model.a.always(answer(200, b'{"choices":[]}'))
    for name, value in VALUES.items():
        body = b'{"message":"Hi","modelId":"id-%b","a":%b}' % (model.name.encode(), value)
        reply = await stage.post(body, path, prefix="")
        assert reply.status in (200, 400), (name, reply)
        assert reply.status == 400 or name in ("many keys", "a huge number", "a huge exponent"), (name, reply)
    await assert_serves(stage)


TEEMING: dict[str, Callable[[], bytes]] = {  # made when they are sent: they take seconds, and hundreds of megabytes
    "arrays": lambda: b'{"a":[' + b"[]," * 10_000_000 + b"1]}",
    "objects": lambda: b'{"a":[' + b'{"a":1},' * 3_900_000 + b"1]}",
    "keys": lambda: b"{" + b",".join(b'"%x":1' % number for number in range(3_000_000)) + b"}",
    "strings": lambda: b'{"a":[' + b'"ab",' * 6_000_000 + b"1]}",
    "numbers": lambda: b'{"a":[' + b"1.5," * 7_500_000 + b"1]}",
    "arrays that never close": lambda: b'{"a":' + b"[1," * 10_000_000,
    "strings that never close": lambda: b'{"a":"' + b'\\",' * 10_000_000,
}


@pytest.mark.parametrize("made", TEEMING.values(), ids=TEEMING)
async def test_thirty_megabytes_of_tiny_values_are_refused_unread(stage: Stage, made: Callable[[], bytes]) -> None:
    """As Python objects they would take a gigabyte, and the gateway whole seconds in which it serves nobody."""
    before = memory_mb(stage.gateway)
    assert_error(await stage.post(made()), 400, "invalid_json")
    assert memory_mb(stage.gateway) - before < 200
    await assert_serves(stage)


async def test_thirty_megabytes_of_text_and_a_million_tokens_are_served(stage: Stage) -> None:
    """What only looks like many values (a long text full of commas) is one, and large batches of tokens are real."""
    model = stage.model()
    text = "one, two: [three] {four} " * 1_200_000
    assert (await stage.post(model.chat(input=text))).status == 200
    tokens = [[number % 10 for number in range(8_000)] for _ in range(100)]
    assert (await stage.post({"model": model.name, "input": tokens}, "embeddings")).status == 200


# --- JSON of an upstream's: in an answer, in a refusal, in a stream


@pytest.mark.parametrize("place", [b"usage", b"response", b"choices", b"error", b"x"])
async def test_an_upstreams_json_is_relayed_as_it_is(stage: Stage, place: bytes) -> None:
    """Byte for byte where it is relayed at all, beside usage that would be looked for in it."""
    model = stage.model()
    for name, value in VALUES.items():
        body = b'{"%b":%b,"usage":{"prompt_tokens":1}}' % (place, value)
        if place == b"usage":
            body = b'{"usage":%b}' % value
        for status in (200, 400, 422):
            model.a.replies(answer(status, body))
            assert_relayed(await stage.post(model.chat()), status, body, name)
        model.a.replies(answer(500, body))
        assert_error(await stage.post(model.chat()), 502, "upstream_error")


@pytest.mark.parametrize("place", [b"usage", b"response", b"choices", b"type"])
@pytest.mark.parametrize("first", [True, False])
async def test_a_streams_json_is_passed_on_as_it_is(stage: Stage, place: bytes, first: bool) -> None:
    """As its first event, by which the gateway decides, and as a later one, in which it looks for usage."""
    model = stage.model()
    for name, value in VALUES.items():
        bomb = b'data: {"%b":%b,"a":1,"usage":[1]}\n\n' % (place, value)
        if place == b"usage":
            bomb = b'data: {"choices":[],"usage":%b}\n\n' % value
        sent = [bomb, delta("fine")] if first else [delta("fine"), bomb]
        for asks_usage in (True, False):
            model.a.replies(events(*sent, DONE))
            options = {"stream_options": {"include_usage": True}} if asks_usage else {}
            reply = await stage.post(model.chat(stream=True, **options))
            whole = b"".join(sent) + DONE
            assert reply.status == 200
            assert reply.body in ((whole,) if asks_usage else (whole, whole.replace(bomb, b""))), name


async def test_an_error_event_that_is_a_bomb_is_an_error_or_an_event(stage: Stage) -> None:
    """Where it can be read, it is a failed attempt; where it cannot, it is passed on. Nothing hangs on it."""
    for value in VALUES.values():
        model = stage.model()
        model.a.always(events(b'data: {"error":%b}\n\n' % value, DONE))
        assert (await stage.post(model.chat(stream=True))).status in (200, 502)


@pytest.mark.parametrize("value", [NESTED, NESTED_OBJECTS, HUGE_NUMBER], ids=["arrays", "objects", "a number"])
async def test_a_bomb_at_the_end_of_an_answer_too_large_to_hold(stage: Stage, value: bytes) -> None:
    """There the usage is looked for in the last bytes alone."""
    model = stage.model()
    body = b'{"a":"' + b"x" * (17 * MEGABYTE) + b'","usage":' + value[:60_000]
    model.a.replies(raw(full(200, body)))
    reply = await stage.post(model.chat())
    assert (reply.status, reply.body == body) == (200, True)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_panel_is_told_what_can_be_read(stage: Stage, stream: bool) -> None:
    """Its routes take the upstream's JSON apart, and its finish reason with it."""
    for name, value in VALUES.items():
        model = stage.model()
        choice = b'{"message":{"content":"Hello"},"finish_reason":"\\ud800","x":%b}' % value
        body = b'{"choices":[%b]}' % choice
        model.a.always(events(b"data: " + body + b"\n\n", DONE) if stream else answer(200, body))
        for path in ("/api/ai/chat", "/api/ai/studio"):
            asked = {"message": "Hi", "modelId": f"id-{model.name}", "stream": stream}
            reply = await stage.post(asked, path, prefix="")
            assert reply.status in (200, 502), (name, reply)
            assert b"internal_error" not in reply.body, name


async def test_a_refusal_after_a_heartbeat_is_told_in_band(beating: Stage) -> None:
    """The head has gone out with 200: what the upstream then refuses with becomes an event, if it can be one."""
    for name, value in VALUES.items():
        model = beating.model()
        refused = asyncio.Event()
        model.a.always(raw(refused, full(400, b'{"error":%b}' % value)))
        async with Wire.open(beating.port) as wire:
            await wire.send(request_bytes("POST", CHAT, model.chat(stream=True), key=KEYS["user"]))
            assert (await wire.head()).status == 200
            refused.set()
            reply = await wire.body()
        assert b'data: {"error":' in reply.body, name
        assert b"internal_error" not in reply.body, name


async def test_a_stream_of_comments_without_end_is_not_gathered(stage: Stage) -> None:
    """Comments before the first event are held; a first event that never comes must not fill the memory."""
    model = stage.model()
    before = memory_mb(stage.gateway)
    flood = [b": " + b"c" * 60_000 + b"\n\n"] * 1_600
    model.a.always(events(*flood, event("late"), DONE))
    reply = await stage.post(model.chat(stream=True))
    assert reply.status in (200, 502)
    assert memory_mb(stage.gateway) - before < 300


async def test_an_event_without_end_is_not_gathered(stage: Stage) -> None:
    """100 MB that never become an event: at most a megabyte is held, the rest flows."""
    model = stage.model()
    before = memory_mb(stage.gateway)
    model.a.always(events(b"data: ", *[b"e" * 65_536] * 1_600, b"\n\n"))
    reply = await stage.post(model.chat(stream=True))
    assert (reply.status, len(reply.body)) == (200, 6 + 65_536 * 1_600 + 2)
    assert memory_mb(stage.gateway) - before < 150
    await assert_serves(stage)
