"""An upstream that says more than it was asked: what it appends never becomes somebody else's answer.

One thing no proxy with kept connections can tell: bytes that come after the next request has been written to the same
connection are that request's answer, whatever the upstream meant by them.
"""

from __future__ import annotations

import asyncio

import pytest
from kit import DONE, Behaviour, Received, Stage, events, raw
from kit.answers import delta, full

POISON = full(200, b'{"poison":"an answer to nobody"}')
GOOD = full(200, b'{"fine":1}')
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNKED_GOOD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    b'a\r\n{"fine":1}\r\n0\r\n\r\n'
)


def length(number: int) -> bytes:
    """A good answer that says it had `number` bytes."""
    return b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n{"fine":1}' % number


IN_ONE_WRITE: dict[str, bytes] = {
    "a second answer": GOOD + POISON,
    "a second answer after a chunked one": CHUNKED_GOOD + POISON,
    "a second answer behind a line end": GOOD + b"\r\n" + POISON,
    "an interim answer and a second": GOOD + b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + POISON,
    "a body longer than its length": length(10) + b"and more",
    "half a second answer": GOOD + POISON[:40],
    "ten thousand answers": GOOD + POISON * 10_000,
}


@pytest.mark.parametrize("sent", IN_ONE_WRITE.values(), ids=IN_ONE_WRITE)
async def test_what_comes_with_an_answer_is_nobodys(stage: Stage, sent: bytes) -> None:
    """The answer itself is good; the connection that brought more is never asked again."""
    model = stage.model()
    model.a.replies(raw(sent))
    first = await stage.post(model.chat())
    second = await stage.post(model.chat())
    assert (first.status, first.body) == (200, b'{"fine":1}')
    assert second.status == 200
    assert b"poison" not in second.body
    one, other = model.a.requests
    assert one.connection is not other.connection
    await one.until_closed()


async def test_what_comes_later_on_an_idle_connection_is_nobodys(stage: Stage) -> None:
    """The upstream waits until its connection is back in the pool, then speaks unasked."""
    model = stage.model()
    model.a.replies(raw(GOOD))
    assert (await stage.post(model.chat())).body == b'{"fine":1}'
    await model.a.requests[0].send(POISON)
    await model.a.requests[0].until_closed()
    reply = await stage.post(model.chat())
    assert reply.status == 200
    assert b"poison" not in reply.body


async def test_an_answer_shorter_than_its_length_is_no_answer(stage: Stage) -> None:
    """It waits for the rest, which is cut off: a failed attempt, and the next endpoint answers alone."""
    model = stage.model("pair")

    async def short(request: Received) -> None:
        await request.send(length(11))
        request.close()

    model.a.replies(short)
    reply = await stage.post(model.chat())
    assert (reply.status, reply.header("x-gateway-attempts")) == (200, "2")
    assert b"fine" not in reply.body


async def test_a_length_that_swallows_the_next_answer_keeps_the_rest_to_itself(stage: Stage) -> None:
    """A length that reaches into the poison makes it this request's own body, and what is behind it nobody's."""
    model = stage.model()
    model.a.replies(raw(length(10 + 20) + POISON))
    assert (await stage.post(model.chat())).body == b'{"fine":1}' + POISON[:20]
    second = await stage.post(model.chat())
    assert second.status == 200
    assert b"poison" not in second.body
    assert model.a.requests[0].connection is not model.a.requests[1].connection


POISONED_STREAMS: dict[str, Behaviour] = {
    "in the same packet": raw(STREAM + b"%x\r\n%b\r\n0\r\n\r\n" % (len(DONE), DONE) + POISON),
    "in a later packet": raw(STREAM + b"%x\r\n%b\r\n0\r\n\r\n" % (len(DONE), DONE), POISON),
}


@pytest.mark.parametrize("behaviour", POISONED_STREAMS.values(), ids=POISONED_STREAMS)
async def test_what_comes_after_a_streams_end_is_nobodys(stage: Stage, behaviour: Behaviour) -> None:
    """A stream's last chunk is its end, for the client too."""
    model = stage.model()
    model.a.replies(behaviour, events(delta("fine"), DONE))
    assert (await stage.post(model.chat(stream=True))).body == DONE
    assert (await stage.post(model.chat(stream=True))).body == delta("fine") + DONE


async def test_poison_never_crosses_from_one_user_to_another(stage: Stage) -> None:
    """Twenty users at once, every answer followed by another: each reads what was answered to its own request."""
    model = stage.model()

    async def echo_and_poison(request: Received) -> None:
        said = request.json()["user"].encode()
        await request.send(full(200, b'{"for":"%b"}' % said) + POISON)

    model.a.always(echo_and_poison)
    replies = await asyncio.gather(*(stage.post(model.chat(user=f"u{number}")) for number in range(20)))
    assert [reply.body for reply in replies] == [b'{"for":"u%d"}' % number for number in range(20)]
