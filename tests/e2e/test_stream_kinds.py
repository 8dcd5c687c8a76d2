"""What a stream is, whatever its upstream calls it, and when it is whole, however its connection ends."""

from __future__ import annotations

import asyncio
import json

import pytest
from kit import CLOSE, DONE, KEYS, RESET, Stage, answer, assert_error, event, events, raw
from kit.answers import LAST_CHUNK, Step, chunk, delta, full, head, response_events, usage_only
from kit.books import acting_for, fresh_user, rows

WHOLE = b'{"object":"chat.completion",\r\n "choices":[],"usage":{"total_tokens":3}}\n'
LABELS = ["application/json", "text/plain", "application/octet-stream", "text/event-stream; charset=utf-8", None]
SECOND = events(delta("from the second"), DONE)


def labelled(label: str | None, *steps: Step) -> tuple[Step, ...]:
    """A chunked answer of this content type."""
    fields = [("transfer-encoding", "chunked")] + ([("content-type", label)] if label else [])
    return (head(200, fields), *[chunk(step) if isinstance(step, bytes) else step for step in steps])


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\n\n", b": welcome\n\n", b"id: 1\n"])
async def test_a_stream_is_one_whatever_it_is_called(stage: Stage, label: str | None, before: bytes) -> None:
    """Its events go out at once, as what they are, and our own is taken out."""
    model, release = stage.model(), asyncio.Event()
    model.a.replies(raw(*labelled(label, before + delta("one"), release, delta("two"), usage_only(), DONE), LAST_CHUNK))
    async with stage.asking(model.chat(stream=True)) as wire:
        reply = await wire.head()
        assert (reply.header("content-type") or "").startswith("text/event-stream")
        taken = b""
        while len(taken) < len(before + delta("one")):
            taken += await wire.piece()
        release.set()
        assert taken + (await wire.body()).body == before + delta("one") + delta("two") + DONE


@pytest.mark.parametrize("label", LABELS)
async def test_json_as_a_whole_in_a_streams_place_is_relayed_as_it_is(stage: Stage, label: str | None) -> None:
    model = stage.model()
    model.a.replies(raw(*labelled(label, WHOLE[:30], WHOLE[30:]), LAST_CHUNK))
    reply = await stage.post(model.chat(stream=True))
    assert (reply.status, reply.body, reply.header("content-type")) == (200, WHOLE, label)


async def test_a_failed_response_as_a_whole_is_relayed_as_it_is(stage: Stage) -> None:
    """It bears an `error`, and is an answer nevertheless: without `stream` it would be relayed too."""
    one = stage.model()
    body = b'{"id":"resp_1","object":"response","status":"failed","error":{"code":"server_error","message":"no"}}'
    one.a.replies(answer(200, body))
    reply = await stage.post({"model": one.name, "input": "Hi", "stream": True}, "responses")
    assert (reply.status, reply.body) == (200, body)
    one.a.replies(answer(200, b'{"error":{"message":"no"},"object":"error"}'))
    assert (await stage.post({"model": one.name, "input": "Hi", "stream": True}, "responses")).status == 502


async def test_json_as_a_whole_is_one_event_behind_a_heartbeat(strict: Stage) -> None:
    """The stream is open already: the answer goes on one line, and the end is said."""
    model, release = strict.model("pair"), asyncio.Event()
    model.a.replies(raw(release, full(200, b"\xef\xbb\xbf" + WHOLE)))
    async with strict.asking(model.chat(stream=True)) as wire:
        await wire.head()
        assert (await wire.event()).startswith(b":")
        release.set()
        body = (await wire.body()).body
    data, done, rest = body[body.index(b"data: ") :].split(b"\n\n")
    assert (done, rest, b"\n" in data) == (b"data: [DONE]", b"", False)
    assert json.loads(data.removeprefix(b"data: ")) == json.loads(WHOLE)
    assert model.asked() == [1, 0]


async def test_a_byte_order_mark_does_not_spoil_the_line_behind_a_heartbeat(strict: Stage) -> None:
    model, release = strict.model(), asyncio.Event()
    model.a.replies(raw(release, *labelled("text/event-stream", b"\xef\xbb\xbf" + delta("one"), DONE), LAST_CHUNK))
    async with strict.asking(model.chat(stream=True)) as wire:
        await wire.head()
        assert (await wire.event()).startswith(b":")
        release.set()
        body = (await wire.body()).body
    assert body[body.index(b"data:") :] == delta("one") + DONE
    assert b"\xef\xbb\xbf" not in body


@pytest.mark.parametrize(
    "nothing",
    [
        answer(204),
        answer(200, b""),
        answer(200, b"", content_type="text/event-stream"),
        answer(200, b" \r\n"),
        answer(200, b"data:\n\n: x\n\n", content_type="text/event-stream"),
        answer(200, b'event: ping\ndata: {"type":"ping"}\n\n', content_type="text/event-stream"),
        answer(200, b'{"error":{"message":"no"}}'),
        answer(200, b'data:\n\ndata: {"error":{"message":"no"}}\n\n', content_type="application/json"),
        events(*[b": " + b"x" * 65_000 + b"\n\n"] * 20, delta("late")),
        events(b"data:\n\n" * 200_000, delta("late")),
    ],
)
async def test_what_brings_no_event_is_no_answer(stage: Stage, nothing: object) -> None:
    model = stage.model("pair")
    model.a.replies(nothing)  # type: ignore[arg-type]
    model.b.replies(SECOND)
    reply = await stage.post(model.chat(stream=True))
    assert (reply.status, reply.body) == (200, delta("from the second") + DONE)
    assert model.asked() == [1, 1]


@pytest.mark.parametrize(
    ("route", "asked", "is_stream"),
    [
        ("chat/completions", {"stream": True}, True),
        ("audio/speech", {"stream_format": "sse"}, True),
        ("audio/speech", {"stream_format": "audio"}, False),
        ("chat/completions?stream=true", {}, True),
        ("chat/completions?stream=false", {}, False),
    ],
)
async def test_a_stream_is_what_was_asked_for_in_whichever_way(
    stage: Stage, route: str, asked: dict[str, object], is_stream: bool
) -> None:
    """Nothing is no answer to it, and the ledger knows it as one; nothing is added that goes with `stream` alone."""
    model, user = stage.model("pair"), fresh_user()
    model.a.replies(answer(204))
    model.b.replies(SECOND)
    body = {"model": model.name, "input": "x"} | asked
    reply = await stage.post(body, route, key=KEYS["panel"], headers=acting_for(user))
    assert reply.status == (200 if is_stream else 204)
    assert [b"stream_options" in each.body for each in model.a.requests] == [asked.get("stream", False)]
    (row,) = await rows(stage.gateway, user, 1)
    assert row["streamed"] == str(is_stream).lower()


async def test_a_plain_answer_may_be_empty(stage: Stage) -> None:
    model = stage.model("pair")
    model.a.replies(answer(204))
    assert (await stage.post(model.chat())).status == 204
    assert model.asked() == [1, 0]


@pytest.mark.parametrize("ending", [CLOSE, RESET, "silence"])
@pytest.mark.parametrize(
    ("route", "last"),
    [
        ("chat/completions", DONE),
        ("chat/completions", b"data:[DONE]\r\n\r\n"),
        ("completions", DONE),
        ("responses", response_events("m", "Hi")[-1]),
        ("responses", event({"response": {}, "type": "response.incomplete"})),
        ("images/generations", event({"type": "image_generation.completed"}, name="image_generation.completed")),
        ("audio/speech", event({"type": "speech.audio.done"})),
    ],
)
async def test_a_whole_stream_with_a_bad_end_is_whole(
    stage: Stage, route: str, last: bytes, ending: Step | str
) -> None:
    """It has said so itself: the client is not kept waiting, and gets a clean end with nothing added."""
    model, release = stage.model(), asyncio.Event()
    first = delta("one")
    end = ending if not isinstance(ending, str) else asyncio.Event()
    model.a.replies(events(first, last, release, end))
    async with stage.asking(model.chat(stream=True), route) as wire:
        await wire.head()
        taken = b""
        while len(taken) < len(first + last):
            taken += await wire.piece()
        release.set()
        assert taken + (await wire.body()).body == first + last
    assert model.asked() == [1]


async def test_what_follows_the_last_event_at_once_is_passed_on(stage: Stage) -> None:
    """Some upstreams say [DONE] where nobody asked for it."""
    model = stage.model()
    said = response_events("m", "Hi there")
    model.a.replies(events(*said, DONE))
    assert (await stage.post(model.chat(stream=True), "responses")).body == b"".join(said) + DONE


# --- responses: what is said before the first word


async def test_a_response_that_fails_before_its_first_word_is_tried_elsewhere(stage: Stage) -> None:
    model = stage.model("pair")
    created, *rest = response_events("m", "Hi")
    failed = event({"type": "response.failed", "response": {}}, name="response.failed")
    model.a.replies(events(created, event({"type": "response.in_progress"}), failed))
    model.b.replies(events(created, *rest))
    assert (await stage.post(model.chat(stream=True), "responses")).body == created + b"".join(rest)
    assert model.asked() == [1, 1]


@pytest.mark.parametrize("kind", ["single", "hasty"])
async def test_the_head_waits_a_second_at_most_for_the_first_word(stage: Stage, kind: str) -> None:
    """Then the response that has been created is shown, also where `first_byte` is shorter."""
    model, release = stage.model(kind), asyncio.Event()
    created, *rest = response_events("m", "Hi")
    model.a.replies(events(created, release, *rest))
    async with stage.asking(model.chat(stream=True), "responses") as wire:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.head(), 0.5)
        await wire.head()
        assert await wire.event() == created
        release.set()
        assert (await wire.body()).body == b"".join(rest)


# --- error heads whose body does not come


def stalled(status: int) -> tuple[Step, ...]:
    start = head(status, [("content-type", "application/json"), ("content-length", "100")])
    return start + b'{"error":', asyncio.Event()


@pytest.mark.parametrize("status", [429, 500, 503, 401])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_whose_body_stalls_is_an_error_all_the_same(stage: Stage, status: int, stream: bool) -> None:
    model = stage.model("pair")
    model.a.replies(raw(*stalled(status)))
    model.b.replies(SECOND)
    assert (await stage.post(model.chat(stream=stream))).body == delta("from the second") + DONE
    assert model.asked() == [1, 1]


async def test_a_rate_limit_whose_body_breaks_off_cools_at_once(stage: Stage) -> None:
    model = stage.model("pair")
    model.a.replies(raw(stalled(429)[0], RESET))
    for _ in range(2):
        assert (await stage.post(model.chat())).status == 200
    assert model.asked() == [1, 2]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_whose_body_stalls_is_its_status_in_our_words(stage: Stage, stream: bool) -> None:
    model = stage.model("pair")
    model.a.replies(raw(*stalled(422)))
    assert_error(await stage.post(model.chat(stream=stream)), 422, "upstream_error")
    assert model.asked() == [1, 0]


@pytest.mark.parametrize("label", ["application/json", "text/event-stream", "application/octet-stream"])
async def test_silence_behind_the_head_of_a_streams_answer_ends_with_first_byte(stage: Stage, label: str) -> None:
    """Whatever the head says: the first event, or the answer as a whole, is late."""
    model = stage.model("hasty")
    start = head(200, [("content-type", label), ("content-length", "100")])
    model.a.replies(raw(start, asyncio.Event()))
    model.b.replies(SECOND)
    assert (await stage.post(model.chat(stream=True))).body == delta("from the second") + DONE


# --- what is neither JSON nor text


@pytest.mark.parametrize("label", ["audio/mpeg", "image/png", "application/octet-stream"])
@pytest.mark.parametrize("ending", [None, RESET])
async def test_sounds_and_pictures_flow_from_their_first_byte(stage: Stage, label: str, ending: Step | None) -> None:
    """A death within them cuts the client's connection: nobody takes the half for the whole."""
    model, release = stage.model("pair"), asyncio.Event()
    model.a.replies(raw(*labelled(label, b"ID3\x04", release, b"\x00more"), ending or LAST_CHUNK))
    async with stage.asking(model.chat(input="Hi"), "audio/speech") as wire:
        assert (await wire.head()).header("content-type") == label
        assert await wire.piece() == b"ID3\x04"
        release.set()
        if ending is None:
            assert (await wire.body()).body == b"\x00more"
        else:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await wire.body()
    assert model.asked() == [1, 0]
