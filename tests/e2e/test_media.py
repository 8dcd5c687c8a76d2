"""Sounds and pictures: transcriptions as they come, images edited, speech that flows from its first byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from kit import CLOSE, KEYS, RESET, FakeEndpoint, FakeUpstream, Reply, Stage, answer, assert_error, event, events, raw
from kit.answers import STREAM_HEAD, chunk, head
from kit.books import acting_for, fresh_user, rows
from kit.forms import Field, fields_of, form_request
from kit.stage import Record, endpoint, model
from kit.wire import Wire

SOUND, PICTURE = b"\x00RIFF" * 500, b"\x89PNG\r\n\x1a\n" * 200
FILE = Field("file", SOUND, "speech.wav", "audio/wav")
TOKENS = {"type": "tokens", "input_tokens": 14, "output_tokens": 3, "total_tokens": 17}
HEARD = {"text": "Hello there", "usage": TOKENS}
WORDS = [event({"type": "transcript.text.delta", "delta": word}) for word in ("Hello", " there")]
LAST = event({"type": "transcript.text.done", "text": "Hello there", "usage": TOKENS})
TEXT = b"word " * 40
MADE = {"created": 1, "data": [{"b64_json": "aGk="}]}
PAINTED = {"input_tokens": 50, "output_tokens": 50, "total_tokens": 100}


def media_models(upstream: FakeUpstream) -> Iterator[Record]:
    price = {"input": 1.0, "output": 2.0}
    for name in ("listener", "painter", "speaker"):
        yield model(name, [endpoint(upstream, name)], price=price, fallbacks=[f"second-{name}"])
        yield model(f"second-{name}", [endpoint(upstream, f"second-{name}")])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def media(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with Stage.open(tmp_path_factory.mktemp("media"), media_models) as stage:
        yield stage


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(media: Stage) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{media.url}/v1", api_key=KEYS["user"], max_retries=0) as client:
        yield client


def upstream_of(stage: Stage, name: str, *behaviours: Any) -> tuple[FakeEndpoint, int]:
    """An endpoint with these answers, and the number of its next request."""
    asked = stage.upstream.endpoint(name).replies(*behaviours)
    return asked, len(asked.requests) + 1


async def send(stage: Stage, route: str, user: str, *fields: Field) -> Reply:
    async with Wire.open(stage.port) as wire:
        await wire.send(form_request(f"/v1/{route}", fields, key=KEYS["panel"], headers=acting_for(user)))
        return await wire.reply()


# -- by the official library


async def test_a_transcription(media: Stage, client: openai.AsyncOpenAI) -> None:
    asked, number = upstream_of(media, "listener", answer(200, HEARD))
    heard = await client.audio.transcriptions.create(
        model="listener", file=("speech.wav", SOUND), language="en", timestamp_granularities=["word", "segment"]
    )
    assert heard.text == "Hello there"
    request = await asked.request(number)
    assert request.route == "audio/transcriptions"
    fields = {field.name: field for field in fields_of(request)}
    assert fields["model"] == Field("model", b"provider/listener")
    assert (fields["file"].content, fields["file"].filename) == (SOUND, "speech.wav")
    grains = [each.content for each in fields_of(request) if each.name == "timestamp_granularities[]"]
    assert grains == [b"word", b"segment"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the library's, of old routes
async def test_a_translation(media: Stage, client: openai.AsyncOpenAI) -> None:
    asked, number = upstream_of(media, "listener", answer(200, {"text": "Hello"}))
    assert (await client.audio.translations.create(model="listener", file=("a.wav", SOUND))).text == "Hello"
    assert (await asked.request(number)).route == "audio/translations"


@pytest.mark.parametrize("kind", ["text", "srt", "vtt"])
async def test_a_transcription_as_text(media: Stage, client: openai.AsyncOpenAI, kind: Any) -> None:
    text = b"1\n00:00:00,000 --> 00:00:01,000\nHello there\n"
    upstream_of(media, "listener", answer(200, text, content_type="text/plain; charset=utf-8"))
    heard = await client.audio.transcriptions.create(model="listener", file=("a.wav", SOUND), response_format=kind)
    assert heard == text.decode()


async def test_a_transcription_comes_as_it_is_heard(media: Stage, client: openai.AsyncOpenAI) -> None:
    """The first words are there while the upstream still listens."""
    goes_on = asyncio.Event()
    upstream_of(media, "listener", events(WORDS[0], goes_on, WORDS[1], LAST))
    stream = await client.audio.transcriptions.create(model="listener", file=("a.wav", SOUND), stream=True)
    heard: list[Any] = []
    async for each in stream:
        heard.append(each)
        goes_on.set()
    assert [each.type for each in heard] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    assert heard[-1].text == "Hello there"


async def test_an_image_is_edited(media: Stage, client: openai.AsyncOpenAI) -> None:
    """With a mask, and several images under one name."""
    asked, number = upstream_of(media, "painter", answer(200, MADE))
    images = [("a.png", PICTURE, "image/png"), ("b.png", PICTURE[1:], "image/png")]
    made = await client.images.edit(model="painter", image=images, mask=("m.png", PICTURE[2:]), prompt="At night", n=2)
    assert made.data is not None
    assert made.data[0].b64_json == "aGk="
    request = await asked.request(number)
    assert request.route == "images/edits"
    files = {(each.name, each.filename): each.content for each in fields_of(request) if each.filename is not None}
    assert files == {
        ("image[]", "a.png"): PICTURE,
        ("image[]", "b.png"): PICTURE[1:],
        ("mask", "m.png"): PICTURE[2:],
    }


async def test_an_edited_image_comes_part_by_part(media: Stage, client: openai.AsyncOpenAI) -> None:
    """Each part goes out as it is there, be it of megabytes."""
    goes_on = asyncio.Event()
    part = event({"type": "image_edit.partial_image", "partial_image_index": 0, "b64_json": "A" * 3_000_000})
    last = event({"type": "image_edit.completed", "b64_json": "QQ==", "usage": PAINTED})
    upstream_of(media, "painter", events(part, goes_on, last))
    stream = await client.images.edit(
        model="painter", image=("a.png", PICTURE), prompt="At night", stream=True, partial_images=1
    )
    seen: list[Any] = []
    async for each in stream:
        seen.append(each)
        goes_on.set()
    assert [each.type for each in seen] == ["image_edit.partial_image", "image_edit.completed"]
    assert len(seen[0].b64_json) == 3_000_000


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_variation_of_an_image(media: Stage, client: openai.AsyncOpenAI) -> None:
    asked, number = upstream_of(media, "painter", answer(200, MADE))
    await client.images.create_variation(model="painter", image=("a.png", PICTURE), n=1)
    assert (await asked.request(number)).route == "images/variations"


async def test_azures_class_names_the_model_in_the_path(media: Stage) -> None:
    """The form's own model, and the path's, are both the deployment."""
    asked, number = upstream_of(media, "listener", answer(200, HEARD))
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=media.url, api_key=KEYS["user"], api_version="2024-10-21", azure_deployment="listener"
    ) as azure:
        heard = await azure.audio.transcriptions.create(model="whatever", file=("a.wav", SOUND))
    assert heard.text == "Hello there"
    assert {each.name: each.content for each in fields_of(await asked.request(number))}["model"] == b"provider/listener"


async def test_speech_flows_from_its_first_byte(media: Stage, client: openai.AsyncOpenAI) -> None:
    goes_on = asyncio.Event()
    sound_head = head(200, [("content-type", "audio/mpeg"), ("transfer-encoding", "chunked")])
    upstream_of(media, "speaker", raw(sound_head, chunk(b"first"), goes_on, chunk(b"last"), b"0\r\n\r\n"))
    async with client.audio.speech.with_streaming_response.create(model="speaker", voice="alloy", input="Hi") as speech:
        heard = b""
        async for piece in speech.iter_bytes():
            heard += piece
            goes_on.set()
    assert heard == b"firstlast"


# -- shapes and endings


@pytest.mark.parametrize("kind", ["audio/mpeg", "image/png", "application/octet-stream", "video/mp4"])
@pytest.mark.parametrize("end", [CLOSE, RESET], ids=["FIN", "RST"])
async def test_what_is_no_text_flows_and_its_death_cuts_the_connection(media: Stage, kind: str, end: Any) -> None:
    goes_on = asyncio.Event()
    binary = head(200, [("content-type", kind), ("content-length", "1000")])
    upstream_of(media, "speaker", raw(binary, b"first", goes_on, b"more", end))
    async with media.asking({"model": "speaker", "input": "Hi", "voice": "x"}, "audio/speech") as wire:
        reply = await wire.head()
        assert (reply.status, reply.header("content-type")) == (200, kind)
        assert await wire.piece() == b"first"
        goes_on.set()
        assert await rest_of(wire) in (b"", b"more")


async def rest_of(wire: Wire) -> bytes:
    """What still comes of a body that is cut off."""
    rest = b""
    with pytest.raises((EOFError, ConnectionError, asyncio.IncompleteReadError)):  # noqa: PT012
        while True:
            rest += await wire.piece()
    return rest


async def test_speech_in_events(media: Stage) -> None:
    said = [event({"type": "speech.audio.delta", "audio": "AAAA"}), event({"type": "speech.audio.done"})]
    upstream_of(media, "speaker", events(*said))
    reply = await media.post({"model": "speaker", "input": "Hi", "voice": "x", "stream_format": "sse"}, "audio/speech")
    assert (reply.status, reply.body) == (200, b"".join(said))


@pytest.mark.parametrize("asked", ["true", "True", "1"])
async def test_a_stream_is_known_by_the_forms_field(media: Stage, asked: str) -> None:
    """Whatever its label says; one that breaks ends as all do."""
    stream = raw(
        head(200, [("content-type", "application/json"), ("transfer-encoding", "chunked")]), chunk(WORDS[0]), CLOSE
    )
    upstream_of(media, "listener", stream)
    reply = await send(
        media, "audio/transcriptions", fresh_user(), FILE, Field("model", b"listener"), Field("stream", asked.encode())
    )
    assert reply.header("content-type") == "text/event-stream"
    first, last, rest = reply.body.split(b"\n\n")
    assert (first + b"\n\n", rest) == (WORDS[0], b"")
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "stream_incomplete"


async def test_a_transcription_that_has_said_its_last_is_whole(media: Stage) -> None:
    user = fresh_user()
    upstream_of(media, "listener", raw(STREAM_HEAD, chunk(WORDS[0]), chunk(LAST), RESET))
    fields = (FILE, Field("model", b"listener"), Field("stream", b"true"))
    reply = await send(media, "audio/transcriptions", user, *fields)
    assert reply.body == WORDS[0] + LAST
    (row,) = await rows(media.gateway, user, 1)
    assert (row["outcome"], row["streamed"], row["total_tokens"]) == ("ok", "true", "17")


@pytest.mark.parametrize("name", ["listener", "painter"])
async def test_fallbacks_get_the_form_as_well(media: Stage, name: str) -> None:
    route = {"listener": "audio/transcriptions", "painter": "images/edits"}[name]
    upstream_of(media, name, answer(503))
    asked, number = upstream_of(media, f"second-{name}", answer(200, HEARD))
    reply = await send(media, route, fresh_user(), FILE, Field("model", name.encode()))
    assert (reply.status, reply.header("x-gateway-model")) == (200, f"second-{name}")
    assert fields_of(await asked.request(number)) == [FILE, Field("model", f"provider/second-{name}".encode())]


# -- the books


@pytest.mark.parametrize(
    ("route", "name", "said", "tokens", "source"),
    [
        ("audio/transcriptions", "listener", answer(200, HEARD), (14, 3), "reported"),
        ("audio/transcriptions", "listener", answer(200, {"text": "word " * 40}), (1, 50), "estimated"),
        ("audio/transcriptions", "listener", answer(200, TEXT, content_type="text/plain"), (1, 50), "estimated"),
        ("audio/transcriptions", "listener", events(*WORDS * 5), (1, 14), "estimated"),
        ("images/edits", "painter", answer(200, MADE | {"usage": PAINTED}), (50, 50), "reported"),
        ("images/variations", "painter", answer(200, MADE), (0, 0), "none"),
    ],
    ids=["reported", "JSON", "text", "a stream", "image", "image without a report"],
)  # fmt: skip
async def test_what_forms_use_is_booked(
    media: Stage, route: str, name: str, said: Any, tokens: tuple[int, int], source: str
) -> None:
    """Files count as no text: the prompt is what stands in fields."""
    user = fresh_user()
    upstream_of(media, name, said)
    stream = [Field("stream", b"true")] if source == "estimated" and tokens[1] == 14 else []
    fields = (FILE, Field("model", name.encode()), *stream)
    assert (await send(media, route, user, *fields)).status == 200
    (row,) = await rows(media.gateway, user, 1)
    assert (row["route"], row["outcome"], row["usage_source"]) == (route, "ok", source)
    assert abs(int(row["prompt_tokens"]) - tokens[0]) <= 4
    assert abs(int(row["completion_tokens"]) - tokens[1]) <= 2


async def test_an_upload_is_never_text_to_a_limit(media: Stage) -> None:
    """A sound of megabytes reserves no more tokens than its fields."""
    upstream_of(media, "listener", answer(200, HEARD))
    sound = FILE._replace(content=bytes(3_000_000))
    reply = await send(media, "audio/transcriptions", fresh_user(), sound, Field("model", b"listener"))
    assert reply.status == 200


async def test_an_upstreams_refusal_of_a_form_is_relayed(media: Stage) -> None:
    refusal = {"error": {"message": "too short", "type": "invalid_request_error", "param": "file", "code": "x"}}
    upstream_of(media, "listener", answer(400, refusal))
    reply = await send(media, "audio/transcriptions", fresh_user(), FILE, Field("model", b"listener"))
    assert (reply.status, reply.json()) == (400, refusal)


async def test_an_unknown_model_is_no_painters(media: Stage) -> None:
    reply = await send(media, "images/edits", fresh_user(), FILE, Field("model", b"nobody"))
    assert_error(reply, 404, "model_not_found", param="model")
