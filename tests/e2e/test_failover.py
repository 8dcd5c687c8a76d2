"""What a client sees when endpoints fail: one good answer while any has one, else an error that tells the truth."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kit import (
    CLOSE,
    DONE,
    KEYS,
    RESET,
    UPSTREAM_WORDS,
    Behaviour,
    Stage,
    answer,
    ask,
    assert_error,
    event,
    events,
    raw,
)
from kit.answers import STREAM_HEAD, chunk, delta, full, head, upstream_error, usage_only
from kit.stage import upstream_key

GOOD = b'{"object":"chat.completion","choices":[],"from":"b"}'

RETRYABLE: dict[str, Behaviour] = {
    "reset before the head": raw(RESET),
    "closed before the head": raw(CLOSE),
    "reset in the head": raw(b"HTTP/1.1 200 OK\r\ncontent-", RESET),
    "closed in the head": raw(b"HTTP/1.1 200 OK\r\ncontent-", CLOSE),
    "garbage": raw(b"\x16\x03\x01 this is no HTTP \x00\xff\r\n\r\n", CLOSE),
    "a head without end": raw(b"HTTP/1.1 200 OK\r\n", *[b"x-filler: " + b"f" * 1000 + b"\r\n"] * 200),
    "two lengths": raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"),
    "unasked 101": raw(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
    **{str(status): upstream_error(status) for status in (408, 425, 429, 500, 502, 503, 504, 529, 401, 402, 403, 404)},
}
CUT_BODIES: dict[str, Behaviour] = {
    "length, closed": raw(full(200, b"0123456789")[:-3], CLOSE),
    "length, reset": raw(full(200, b"0123456789")[:-3], RESET),
    "chunked, closed": raw(head(200, [("transfer-encoding", "chunked")]), chunk(b"0123"), CLOSE),
    "in a chunk": raw(head(200, [("transfer-encoding", "chunked")]), chunk(b"0123")[:-4], RESET),
    "bad chunk size": raw(head(200, [("transfer-encoding", "chunked")]), chunk(b"0123"), b"xyz\r\n"),
}
NO_STREAMS: dict[str, Behaviour] = {
    "error object": events(event({"error": {"message": UPSTREAM_WORDS, "type": "x", "param": None, "code": None}})),
    "type error": events(event({"type": "error", "message": UPSTREAM_WORDS}, name="error")),
    "response.failed": events(event({"type": "response.failed", "response": {"error": {"message": UPSTREAM_WORDS}}})),
    "comments, then an error": events(b": hello\n\n", event({"error": {"message": UPSTREAM_WORDS}})),
    "nothing": events(),
    "only comments": events(b": one\n\n", b": two\n\n"),
    "cut before an event": events(RESET),
    "cut in the first event": events(b'data: {"id": "c-', RESET),
}
RELAYED = (400, 405, 409, 410, 413, 415, 418, 422, 451)
BOTH_WAYS = pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])


def by_name(behaviours: dict[str, Behaviour]) -> list[Any]:
    return [pytest.param(behaviour, id=name) for name, behaviour in behaviours.items()]


# --- retryable failures


@BOTH_WAYS
@pytest.mark.parametrize("failure", by_name(RETRYABLE))
async def test_a_retryable_failure_goes_to_the_next_endpoint(stage: Stage, failure: Behaviour, streamed: bool) -> None:
    """The client sees one good answer, the second endpoint's, and how many attempts it took."""
    model = stage.model("pair")
    model.a.always(failure)
    model.b.replies(events(delta("b"), DONE) if streamed else answer(200, GOOD))
    reply = await stage.post(model.chat(stream=True) if streamed else model.chat())
    assert (reply.status, reply.body) == (200, delta("b") + DONE if streamed else GOOD)
    assert reply.header("x-gateway-attempts") == "2"
    assert len(model.b.requests) == 1


@pytest.mark.parametrize("failure", by_name(CUT_BODIES))
async def test_an_answer_cut_short_goes_to_the_next_endpoint(stage: Stage, failure: Behaviour) -> None:
    """Nothing of an answer that is not streamed has been relayed before its end, so it may be tried again."""
    model = stage.model("pair")
    model.a.replies(failure)
    model.b.replies(answer(200, GOOD))
    reply = await stage.post(model.chat())
    assert (reply.status, reply.body) == (200, GOOD)
    assert model.asked() == [1, 1]


@pytest.mark.parametrize("failure", by_name(NO_STREAMS))
async def test_a_stream_without_a_first_event_goes_to_the_next_endpoint(stage: Stage, failure: Behaviour) -> None:
    """A 200 whose first event is an error, or that ends without any, is a failed attempt and not an answer."""
    model = stage.model("pair")
    model.a.replies(failure)
    model.b.replies(events(delta("b"), DONE))
    reply = await stage.post(model.chat(stream=True))
    assert (reply.status, reply.body) == (200, delta("b") + DONE)
    assert model.asked() == [1, 1]


@pytest.mark.parametrize("name", ["half-dead", "half-deaf"])
async def test_an_endpoint_that_cannot_be_connected_to(special: Stage, name: str) -> None:
    """A refused connection and a connection that hangs both go to the next endpoint."""
    reply = await special.post(ask(name))
    assert (reply.status, reply.header("x-gateway-attempts")) == (200, "2")


async def test_a_silent_endpoint_goes_to_the_next(stage: Stage) -> None:
    """`first_byte` ends the wait for a stream's first event with data, and the silent connection is closed."""
    model = stage.model("hasty")
    model.a.replies(raw(STREAM_HEAD, chunk(b": not yet\n\n"), asyncio.Event()))
    reply = await stage.post(model.chat(stream=True))
    assert (reply.status, model.asked()) == (200, [1, 1])
    await model.a.requests[0].until_closed()


async def test_the_body_that_goes_to_the_second_endpoint_is_the_same(stage: Stage) -> None:
    """Each attempt sends the whole request, with the credential of its own endpoint and never the client's."""
    model = stage.model("pair")
    model.a.replies(upstream_error(500))
    await stage.post(model.chat(temperature=0.5))
    first, second = model.a.requests[0], model.b.requests[0]
    assert first.body == second.body
    assert first.header("authorization") == f"Bearer {upstream_key(model.a.name)}"
    assert second.header("authorization") == f"Bearer {upstream_key(model.b.name)}"
    assert KEYS["user"].encode() not in first.head + second.head


# --- what is not retried


@BOTH_WAYS
@pytest.mark.parametrize("status", RELAYED)
async def test_a_fault_of_the_request_is_relayed(stage: Stage, status: int, streamed: bool) -> None:
    """Another endpoint would say the same: the client gets the answer byte for byte, the second endpoint nothing."""
    model = stage.model("pair")
    body = b'{ "error" : {"message":"no such field","code":1.10} }\n'
    model.a.replies(answer(status, body))
    reply = await stage.post(model.chat(stream=streamed))
    assert (reply.status, reply.body, model.asked()) == (status, body, [1, 0])


@pytest.mark.parametrize("status", [403, 404])
async def test_forbidden_and_not_found_everywhere_are_relayed(stage: Stage, status: int) -> None:
    """403 and 404 may be one endpoint's own; when all say so, the client is told what they said."""
    model = stage.model("pair")
    body = b'{"error":{"message":"no such deployment"}}'
    model.a.replies(answer(status, body))
    model.b.replies(answer(status, body))
    reply = await stage.post(model.chat())
    assert (reply.status, reply.body, model.asked()) == (status, body, [1, 1])


async def test_redirects_are_not_followed(stage: Stage) -> None:
    """Where an upstream points at is nobody's business: nothing is asked there, and the client is not sent there."""
    model = stage.model()
    elsewhere = stage.upstream.endpoint(f"{model.name}.elsewhere")
    model.a.always(answer(307, b"", [("location", f"{elsewhere.url}/chat/completions")]))
    reply = await stage.post(model.chat())
    assert elsewhere.requests == []
    assert reply.status >= 300
    assert reply.header("location") is None


async def test_an_echoed_credential_is_masked(stage: Stage) -> None:
    """An upstream that repeats our credential in its error does not tell it to the client."""
    model = stage.model()
    secret = upstream_key(model.a.name)
    model.a.replies(answer(400, {"error": {"message": f"bad key {secret}"}}))
    reply = await stage.post(model.chat())
    assert reply.status == 400
    assert secret.encode() not in reply.body
    assert reply.json()["error"]["message"] == "bad key ***"


# --- fallback models


async def test_fallback_models_answer_when_the_whole_pool_has_failed(special: Stage) -> None:
    """The next model's pool is asked with that model's name, and the client is told who answered."""
    special.upstream.endpoint("proud").replies(upstream_error(500))
    special.upstream.endpoint("humble").replies(upstream_error(500))
    reply = await special.post(ask("proud"))
    assert reply.status == 200
    assert reply.header("x-gateway-model") == "humbler"
    assert reply.header("x-gateway-requested-model") == "proud"
    assert reply.header("x-gateway-attempts") == "3"
    assert special.upstream.endpoint("humbler").requests[-1].json()["model"] == "provider/humbler"


async def test_embeddings_never_fall_back(special: Stage) -> None:
    """Vectors of another model are worse than none."""
    before = len(special.upstream.endpoint("humble").requests)
    special.upstream.endpoint("proud").replies(upstream_error(500))
    reply = await special.post({"model": "proud", "input": "x"}, "embeddings")
    assert_error(reply, 502, "upstream_error")
    assert len(special.upstream.endpoint("humble").requests) == before


# --- include_usage and those who refuse it


@pytest.mark.parametrize("status", [400, 422])
async def test_an_upstream_that_refuses_stream_options_is_asked_without_and_remembered(
    stage: Stage, status: int
) -> None:
    """The refusal costs one request, once; the client sees nothing of it."""
    model = stage.model()
    model.a.replies(answer(status, b'{"error":{"message":"Unknown field: stream_options"}}'))
    model.a.always(events(delta("a"), DONE))
    for _ in range(2):
        reply = await stage.post(model.chat(stream=True))
        assert (reply.status, reply.body) == (200, delta("a") + DONE)
    assert ["stream_options" in request.json() for request in model.a.requests] == [True, False, False]


async def test_a_refusal_of_what_the_client_asked_for_is_relayed(stage: Stage) -> None:
    """Where the client itself asked for usage, the refusal is the client's to know."""
    model = stage.model()
    body = b'{"error":{"message":"Unknown field: stream_options"}}'
    model.a.replies(answer(400, body))
    reply = await stage.post(model.chat(stream=True, stream_options={"include_usage": True}))
    assert (reply.status, reply.body, model.asked()) == (400, body, [1])


async def test_an_endpoint_marked_as_refusing_is_never_asked_for_usage(special: Stage) -> None:
    """`stream_usage: false` leaves the body alone."""
    assert (await special.post(ask("plainspoken", stream=True))).status == 200
    assert special.upstream.endpoint("plainspoken").requests[0].json() == ask("provider/plainspoken", stream=True)


async def test_usage_is_not_asked_for_where_nothing_streams(stage: Stage) -> None:
    """A plain chat goes up as it came, but for the model."""
    model = stage.model()
    await stage.post(model.chat())
    assert model.a.requests[0].json() == model.chat() | {"model": model.provider_name}


async def test_usage_arrives_in_the_last_event_too(stage: Stage) -> None:
    """The event that is taken out may come after [DONE]'s neighbour or not at all: the stream ends all the same."""
    model = stage.model()
    model.a.replies(events(usage_only(), delta("a"), DONE), events(delta("a"), DONE, usage_only()))
    for _ in range(2):
        assert (await stage.post(model.chat(stream=True))).body == delta("a") + DONE
