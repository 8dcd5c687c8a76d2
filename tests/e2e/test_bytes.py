"""P1: the client's bytes are the upstream's bytes, compared by hash, at every split that Hypothesis thinks of."""

from __future__ import annotations

import asyncio
import gzip
import random
import string
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit import CLOSE, DONE, Stage, answer, raw
from kit.answers import LAST_CHUNK, USAGE, chunk, delta, event, events, head, usage_only
from kit.stage import FreshModel
from kit.upstream import Behaviour

MEGABYTE = 1 << 20
LETTERS = (string.ascii_letters + string.digits + "-_").encode()
FRAMINGS = ("length", "chunked", "until closed")

few = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def model(stage: Stage) -> FreshModel:
    """One model for all examples: its endpoint always answers well."""
    return stage.model()


def sha(data: bytes) -> str:
    return sha256(data).hexdigest()


def noise(seed: int, size: int) -> bytes:
    """Letters and digits without a pattern, which may stand in a line of an event and in a string of JSON."""
    return random.Random(seed).randbytes(size).translate(bytes(LETTERS[each % 64] for each in range(256)))


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """`data` in pieces; `places` are taken modulo its length."""
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(ends)]


def framed(pieces: list[bytes], framing: str, content_type: str) -> Behaviour:
    kind = ("content-type", content_type)
    if framing == "length":
        return raw(head(200, [kind, ("content-length", str(sum(map(len, pieces))))]), *pieces)
    if framing == "chunked":
        return raw(head(200, [kind, ("transfer-encoding", "chunked")]), *map(chunk, filter(None, pieces)), LAST_CHUNK)
    return raw(head(200, [kind, ("connection", "close")]), *pieces, CLOSE)


sizes = st.one_of(st.integers(1, 200), st.sampled_from([4095, 65536, 100_001, MEGABYTE]))
payloads = st.builds(noise, st.integers(0, 2**32), sizes)
small_payloads = st.builds(noise, st.integers(0, 2**32), st.integers(1, 40))
places = st.lists(st.integers(0, 3 * MEGABYTE), max_size=12)
line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def one_event(draw: st.DrawFn, end: bytes) -> bytes:
    """An event with data on one line or on several, among comments, names, ids and fields nobody knows."""
    others = st.sampled_from([b": a comment", b":", b"event: delta", b"id: 5", b"retry: 10", b"data", b"unheard: of"])
    lines = [*draw(st.lists(others, max_size=3)), b"data: " + draw(payloads)]
    lines += [b"data:" + line for line in draw(st.lists(small_payloads, max_size=2))]
    return b"".join(line + end for line in [*draw(st.permutations(lines)), b""])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A stream whose events end in LF, CRLF or CR, each as it likes, with comments before and between."""
    comments = st.lists(line_ends.map(lambda end: b": ping" + end + end), max_size=2)
    parts: list[bytes] = []
    for _ in range(draw(st.integers(1, 5))):
        parts += [*draw(comments), draw(one_event(draw(line_ends)))]
    return b"".join([*parts, *draw(comments), draw(st.sampled_from([b"", DONE]))])


@few
@given(
    body=st.one_of(st.binary(max_size=2000), payloads),
    places=places,
    framing=st.sampled_from(FRAMINGS),
    content_type=st.sampled_from(["application/json", "audio/mpeg", "text/plain; charset=utf-8"]),
)
async def test_a_body_is_the_upstreams_body(
    stage: Stage, model: FreshModel, body: bytes, places: list[int], framing: str, content_type: str
) -> None:
    """An answer that is not streamed: any bytes, any framing, any split."""
    model.a.replies(framed(cut(body, places), framing, content_type))
    reply = await stage.post(model.chat())
    assert (reply.status, reply.header("content-type")) == (200, content_type)
    assert sha(reply.body) == sha(body)


@few
@given(
    stream=streams(),
    places=places,
    framing=st.sampled_from(FRAMINGS),
    asked=st.sampled_from([{}, {"stream_options": {"include_usage": True}}]),
    route=st.sampled_from(["chat/completions", "responses"]),
)
async def test_a_stream_is_the_upstreams_stream(
    stage: Stage, model: FreshModel, stream: bytes, places: list[int], framing: str, asked: dict[str, Any], route: str
) -> None:
    """An event stream: every line ending, comments, multi-line data, events of 1 byte to 1 MB, at any split."""
    model.a.replies(framed(cut(stream, places), framing, "text/event-stream"))
    reply = await stage.post(model.chat(stream=True) | asked, route)
    assert reply.status == 200
    assert sha(reply.body) == sha(stream)


@few
@given(words=st.lists(payloads.filter(lambda each: len(each) < MEGABYTE), min_size=1, max_size=6), places=places)
async def test_a_stream_is_passed_on_in_whole_events(
    stage: Stage, model: FreshModel, words: list[bytes], places: list[int]
) -> None:
    """However the upstream cuts its bytes, what goes to the client ends where an event ends, at each write."""
    sent = [b"data: " + word + b"\n\n" for word in words]
    model.a.replies(framed(cut(b"".join(sent), places), "chunked", "text/event-stream"))
    reply = await stage.post(model.chat(stream=True))
    assert sha(reply.body) == sha(b"".join(sent))
    ends = set(accumulate(map(len, sent)))
    assert set(accumulate(map(len, reply.pieces))) <= ends


async def test_an_event_of_many_megabytes_flows(stage: Stage, model: FreshModel) -> None:
    """Beyond the megabyte that is held, an event is passed on as it comes, and is still the upstream's."""
    stream = b"data: 1\n\ndata: " + noise(1, 5 * MEGABYTE) + b"\n\n" + DONE
    model.a.replies(framed(cut(stream, range(0, len(stream), 50_000)), "chunked", "text/event-stream"))
    assert sha((await stage.post(model.chat(stream=True))).body) == sha(stream)


async def test_a_body_beyond_what_is_held_flows(stage: Stage, model: FreshModel) -> None:
    """An answer of more than 16 MB arrives whole as well."""
    body = noise(2, 20 * MEGABYTE)
    model.a.replies(framed(cut(body, range(0, len(body), MEGABYTE)), "length", "application/json"))
    assert sha((await stage.post(model.chat())).body) == sha(body)


async def test_a_large_request_goes_up_byte_for_byte(stage: Stage) -> None:
    """Only the model's name changes on the way up: numbers, escapes and spaces of 8 MB of body keep their bytes."""
    model = stage.model()
    image = noise(3, 8 * MEGABYTE)
    odd = b'"a" : [1.10, 12345678901234567890123, "\\u00e9\\/", -0 ] ,\n\t"image":"' + image + b'"'
    body = b"{ " + odd + b' , "model" : "' + model.name.encode() + b'" }'
    assert (await stage.post(body)).status == 200
    assert sha(model.a.requests[0].body) == sha(body.replace(model.name.encode(), model.provider_name.encode()))


@pytest.mark.parametrize("number", [b"1.10", b"-0", b"0.1e-7", b"123456789012345678901234567890", b"1E400", b"-1e-400"])
async def test_a_number_keeps_its_spelling(stage: Stage, model: FreshModel, number: bytes) -> None:
    """JSON has no largest number: the gateway neither refuses one nor writes it in its own way."""
    body = b'{"model":"' + model.name.encode() + b'","seed":' + number + b"}"
    assert (await stage.post(body)).status == 200
    assert model.a.requests[-1].body == body.replace(model.name.encode(), model.provider_name.encode())


async def test_compressed_answers_are_relayed_as_they_are(stage: Stage) -> None:
    """We ask for identity; an upstream that compresses all the same is passed on with the header that says so."""
    model = stage.model()
    packed = gzip.compress(b'{"object":"chat.completion","choices":[],"usage":{"total_tokens":3}}')
    model.a.replies(answer(200, packed, [("content-encoding", "gzip")]))
    reply = await stage.post(model.chat())
    assert reply.header("content-encoding") == "gzip"
    assert sha(reply.body) == sha(packed)
    assert model.a.requests[0].header("accept-encoding") == "identity"


def usage_streams() -> Iterator[tuple[str, bytes]]:
    """Events that look like the usage event to a careless eye."""
    yield "usage beside choices", delta("x", usage=USAGE)
    yield "null usage", delta("x", usage=None)
    yield "empty choices without usage", event({"choices": [], "prompt_filter_results": []})
    yield "null usage and empty choices", event({"choices": [], "usage": None})
    yield "the words in a text", delta('"choices": [], "usage": {}')


@pytest.mark.parametrize("look_alike", [pytest.param(data, id=name) for name, data in usage_streams()])
async def test_only_the_usage_event_is_taken_out(stage: Stage, model: FreshModel, look_alike: bytes) -> None:
    """Usage is asked for and its event taken out, early or late in the stream; every other event stays as it was."""
    release = asyncio.Event()
    model.a.replies(events(delta("one"), look_alike, usage_only(), release, look_alike, usage_only(), DONE))
    async with stage.asking(model.chat(stream=True)) as wire:
        await wire.head()
        assert await wire.event() == delta("one")
        assert await wire.event() == look_alike
        release.set()
        assert (await wire.body()).body == look_alike + DONE
    assert model.a.requests[-1].json()["stream_options"] == {"include_usage": True}


async def test_usage_that_the_client_asked_for_stays(stage: Stage, model: FreshModel) -> None:
    """A client that asks for usage gets the event, byte for byte."""
    model.a.replies(events(delta("one"), usage_only(), DONE))
    reply = await stage.post(model.chat(stream=True, stream_options={"include_usage": True}))
    assert reply.body == delta("one") + usage_only() + DONE


async def test_usage_that_the_client_declined_is_taken_out(stage: Stage, model: FreshModel) -> None:
    """`include_usage: false` is no wish for usage; the other stream options go up as they were."""
    model.a.replies(events(delta("one"), usage_only(), DONE))
    options = {"include_usage": False, "include_obfuscation": False}
    reply = await stage.post(model.chat(stream=True, stream_options=options))
    assert reply.body == delta("one") + DONE
    assert model.a.requests[-1].json()["stream_options"] == options | {"include_usage": True}
