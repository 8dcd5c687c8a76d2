"""Forms: what goes up, what is refused, and what an upload that does not end comes to."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from kit import KEYS, RESET, Behaviour, FakeUpstream, Reply, Stage, answer, assert_error, raw
from kit.answers import upstream_error
from kit.forms import Field, fields_of, form_bytes, form_request, form_type
from kit.stage import Record, endpoint, model
from kit.wire import Wire, request_bytes

TRANSCRIBE = "/v1/audio/transcriptions"
SOUND = random.Random(1).randbytes(3_000)
LARGE = random.Random(2).randbytes(5_000_000)  # on disk
FILE = Field("file", SOUND, "speech.mp3", "audio/mpeg")
HEARD = {"text": "hello", "usage": {"type": "tokens", "input_tokens": 7, "output_tokens": 2, "total_tokens": 9}}


def listeners(upstream: FakeUpstream) -> Iterator[Record]:
    for number in range(60):
        name = f"listener-{number}"
        yield model(name, [endpoint(upstream, f"{name}.{each}", priority=place) for place, each in enumerate("ab")])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hearing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    server = {"max_upload_mb": 8, "spool_mb": 12, "timeouts": {"body": 0.5}}
    async with Stage.open(tmp_path_factory.mktemp("forms"), listeners, server=server) as stage:
        yield stage


@pytest.fixture(scope="module")
def names() -> Iterator[str]:
    return iter([f"listener-{number}" for number in range(60)])


@pytest.fixture
def name(names: Iterator[str]) -> str:
    return next(names)


async def send(stage: Stage, *fields: Field, target: str = TRANSCRIBE, body: bytes | None = None) -> Reply:
    async with Wire.open(stage.port) as wire:
        await wire.send(form_request(target, fields if body is None else body, key=KEYS["user"]))
        return await wire.reply()


@pytest.mark.parametrize("sound", [SOUND, LARGE], ids=["in memory", "on disk"])
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_the_model_is_replaced_wherever_it_stands(hearing: Stage, name: str, sound: bytes, place: int) -> None:
    """All other parts keep their order, names, types and bytes."""
    fields = [FILE._replace(content=sound), Field("prompt", "wörter\r\n--".encode())]
    before = [*fields[:place], Field("model", name.encode()), *fields[place:]]
    asked = hearing.upstream.endpoint(f"{name}.a").replies(answer(200, HEARD))
    reply = await send(hearing, *before)
    assert (reply.status, reply.json()) == (200, HEARD)
    request = await asked.request()
    assert request.route == "audio/transcriptions"
    after = fields_of(request)
    assert [field._replace(content=b"") for field in after] == [field._replace(content=b"") for field in before]
    assert hashlib.sha256(after[0 if place else 1].content).digest() == hashlib.sha256(sound).digest()
    assert after[place].content == f"provider/{name}".encode()


async def test_a_form_without_a_model_gets_the_assigned_ones(hearing: Stage) -> None:
    asked = hearing.upstream.endpoint("listener-0.a").replies(answer(200, HEARD))
    before = len(asked.requests)
    assert (await send(hearing, FILE)).status == 200
    fields = fields_of(await asked.request(before + 1))
    assert {field.name: field.content for field in fields} == {"model": b"provider/listener-0", "file": SOUND}


async def test_a_models_id_goes_before_its_name_and_never_up(hearing: Stage, name: str) -> None:
    asked = hearing.upstream.endpoint(f"{name}.a").replies(answer(200, HEARD))
    reply = await send(hearing, Field("modelId", f"id-{name}".encode()), FILE, Field("model", b"another"))
    assert reply.status == 200
    assert [(each.name, each.content) for each in fields_of(await asked.request())] == [
        ("file", SOUND),
        ("model", f"provider/{name}".encode()),
    ]


async def test_by_the_panels_path_the_model_is_the_paths(hearing: Stage, name: str) -> None:
    for version in ("", "v1/"):
        asked = hearing.upstream.endpoint(f"{name}.a").replies(answer(200, HEARD))
        reply = await send(hearing, FILE, target=f"/api/ai/proxy/id-{name}/{version}audio/transcriptions")
        assert reply.status == 200
    assert {each.name for each in fields_of(await asked.request(2))} == {"model", "file"}


@pytest.mark.parametrize("sound", [SOUND, LARGE], ids=["in memory", "on disk"])
@pytest.mark.parametrize("failure", [upstream_error(503), raw(RESET)], ids=["503", "a reset"])
async def test_the_next_endpoint_gets_the_whole_form_again(
    hearing: Stage, name: str, sound: bytes, failure: Behaviour
) -> None:
    a, b = (hearing.upstream.endpoint(f"{name}.{each}") for each in "ab")
    a.always(failure)  # also where a pooled connection is replaced
    b.replies(answer(200, HEARD))
    reply = await send(hearing, FILE._replace(content=sound), Field("model", name.encode()))
    assert (reply.status, reply.header("x-gateway-attempts")) == (200, "2")
    assert fields_of(await b.request())[0].content == sound


@pytest.mark.parametrize("known", ["model", "modelId", "stream", "provider"])
@pytest.mark.parametrize("how", ["twice", "case", "file", "list", "blanks", "octets"])
async def test_a_field_that_decides_is_there_once_and_as_it_is_written(hearing: Stage, known: str, how: str) -> None:
    field = Field(known, b"listener-1")
    fields = {
        "twice": [field, field],
        "case": [field._replace(name=known.swapcase())],
        "file": [field._replace(filename="x")],
        "list": [field._replace(name=f"{known}[]")],
        "blanks": [field._replace(name=f" {known}")],
        "octets": [field._replace(content_type="application/octet-stream")],
    }[how]
    assert_error(await send(hearing, FILE, *fields), 400, "invalid_multipart")


async def test_a_refused_field_is_refused_by_its_name(hearing: Stage) -> None:
    for refused in ("provider", "N"):
        reply = await send(hearing, FILE, Field(refused, b"5"))
        assert_error(reply, 400, "field_not_allowed", param=refused)


@pytest.mark.parametrize(
    "body",
    [b"", b"hello", form_bytes([FILE])[:-9], form_bytes([FILE]).replace(b"form-data;", b"attachment;")],
    ids=["empty", "none", "unfinished", "attachments"],
)
async def test_a_broken_form_is_refused(hearing: Stage, body: bytes) -> None:
    assert_error(await send(hearing, body=body), 400, "invalid_multipart")


async def test_a_body_that_is_neither_form_nor_json_is_refused(hearing: Stage) -> None:
    async with Wire.open(hearing.port) as wire:
        plain = [("content-type", "text/plain"), ("content-length", "5")]
        await wire.send(request_bytes("POST", TRANSCRIBE, key=KEYS["user"], headers=plain) + b"hello")
        assert_error(await wire.reply(), 400, "invalid_multipart")


async def test_json_goes_up_as_json(hearing: Stage, name: str) -> None:
    """Edits of pictures may name them by their ids and URLs."""
    asked = hearing.upstream.endpoint(f"{name}.a").replies(answer(200, {"data": []}))
    body = {"model": name, "prompt": "at night", "images": [{"image_url": "https://example.com/a.png"}]}
    assert (await hearing.post(body, "images/edits")).status == 200
    assert (await asked.request()).json() == body | {"model": f"provider/{name}"}


# -- size, time, disk


async def test_a_form_beyond_the_bound_is_refused_on_its_head(hearing: Stage) -> None:
    """The connection ends with the answer, as the upload has not."""
    async with Wire.open(hearing.port) as wire:
        length = ("content-length", str(8 * 2**20 + 1))
        await wire.send(request_bytes("POST", TRANSCRIBE, key=KEYS["user"], headers=[form_type(), length]))
        reply = await wire.reply()
    assert_error(reply, 413, "request_too_large")
    assert reply.header("connection") == "close"


async def test_a_form_in_chunks_beyond_the_bound_is_refused_as_it_comes(hearing: Stage) -> None:
    async with Wire.open(hearing.port) as wire:
        chunked = ("transfer-encoding", "chunked")
        await wire.send(request_bytes("POST", TRANSCRIBE, key=KEYS["user"], headers=[form_type(), chunked]))
        head = form_bytes([FILE])[:-60]
        await wire.send(b"%x\r\n%b\r\n" % (len(head), head))
        for _ in range(9):
            await wire.send(b"100000\r\n" + bytes(2**20) + b"\r\n")
        reply = await wire.reply()
    assert_error(reply, 413, "request_too_large")


async def test_a_form_in_chunks_is_read(hearing: Stage, name: str) -> None:
    asked = hearing.upstream.endpoint(f"{name}.a").replies(answer(200, HEARD))
    body = form_bytes([FILE._replace(content=LARGE), Field("model", name.encode())])
    async with Wire.open(hearing.port) as wire:
        chunked = ("transfer-encoding", "chunked")
        await wire.send(request_bytes("POST", TRANSCRIBE, key=KEYS["user"], headers=[form_type(), chunked]))
        for at in range(0, len(body), 700_001):
            piece = body[at : at + 700_001]
            await wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await wire.send(b"0\r\n\r\n")
        assert (await wire.reply()).status == 200
    assert fields_of(await asked.request())[0].content == LARGE


async def test_a_client_that_falls_silent_within_a_form_is_let_go(hearing: Stage) -> None:
    """`timeouts.body` is between two reads: whoever goes on sending may take longer."""
    body = form_bytes([FILE])
    async with Wire.open(hearing.port) as wire:
        length = ("content-length", str(len(body)))
        await wire.send(request_bytes("POST", TRANSCRIBE, key=KEYS["user"], headers=[form_type(), length]))
        for at in range(5):
            await wire.send(body[at : at + 1])
            await asyncio.sleep(0.2)
        reply = await wire.reply()
    assert_error(reply, 408, "request_timeout")
    assert reply.header("connection") == "close"


async def begun(stage: Stage, wire: Wire, size: int, sent: int) -> None:
    """An upload of which a part has been sent."""
    body = form_bytes([FILE._replace(content=bytes(size))])
    length = ("content-length", str(len(body)))
    await wire.send(request_bytes("POST", TRANSCRIBE, key=KEYS["user"], headers=[form_type(), length]) + body[:sent])


async def test_all_forms_on_disk_have_one_bound(tmp_path: Path) -> None:
    """Beyond it 503; what an upload took is there again when it ends, however it ends."""
    async with Stage.open(tmp_path, listeners, server={"spool_mb": 4}) as stage:
        stage.upstream.endpoint("listener-0.a").always(answer(200, HEARD))
        reply = await send(stage, FILE._replace(content=LARGE))
        assert_error(reply, 503, "overloaded")
        assert reply.header("retry-after") == "1"
        async with Wire.open(stage.port) as wire:
            await begun(stage, wire, 3_500_000, 3_400_000)
            while (await until_spooled(stage, 1))[0].st_size < 3_000_000:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            fits = FILE._replace(content=LARGE[:2_000_000])
            assert_error(await send(stage, fits), 503, "overloaded")
        async with asyncio.timeout(20):
            while (await send(stage, fits)).status != 200:  # noqa: ASYNC110 — only asking tells
                await asyncio.sleep(0.05)
        assert not list((tmp_path / "data" / "spool").glob("spool-*"))


async def test_a_file_on_disk_has_no_name_and_is_its_owners_alone(tmp_path: Path) -> None:
    async with Stage.open(tmp_path, listeners) as stage, Wire.open(stage.port) as wire:
        await begun(stage, wire, 5_000_000, 4_000_000)
        (status,) = await until_spooled(stage, 1)
        assert (status.st_mode & 0o777, status.st_nlink) == (0o600, 0)


def spooled(stage: Stage) -> list[os.stat_result]:
    files: list[os.stat_result] = []
    for descriptor in Path(f"/proc/{stage.gateway.process.pid}/fd").iterdir():
        try:
            target = descriptor.readlink()
        except OSError:
            continue
        if "/spool/spool-" in str(target):
            files.append(descriptor.stat())
    return files


async def until_spooled(stage: Stage, files: int) -> list[os.stat_result]:
    async with asyncio.timeout(20):
        while len(found := spooled(stage)) != files:  # noqa: ASYNC110 — nobody tells of another's descriptors
            await asyncio.sleep(0.02)
    return found


async def test_a_client_that_leaves_in_mid_upload_leaves_nothing(hearing: Stage) -> None:
    async with Wire.open(hearing.port) as wire:
        await begun(hearing, wire, 5_000_000, 4_000_000)
        await until_spooled(hearing, 1)
        wire.reset()
        await until_spooled(hearing, 0)


async def test_limits_are_asked_before_an_upload_is_taken_in(tmp_path: Path) -> None:
    """An unknown key, or a key whose `rpm` is used up, is refused on the head."""
    limited = {"id": "narrow", "user": 42, "key": "sk-narrow-0123456789abcdefghij", "limits": {"rpm": 1}}
    keys = [{"id": "user", "user": 42, "key": KEYS["user"]}, limited]
    async with Stage.open(tmp_path, listeners, keys=keys) as stage:
        stage.upstream.endpoint("listener-0.a").replies(answer(200, HEARD))
        for key, status in ((limited["key"], 200), (limited["key"], 429), ("sk-unknown-0123456789abcdefghij", 401)):
            async with Wire.open(stage.port) as wire:
                body = form_bytes([FILE._replace(content=LARGE)])
                head = [form_type(), ("content-length", str(len(body)))]
                await wire.send(request_bytes("POST", TRANSCRIBE, key=str(key), headers=head))
                if status == 200:
                    await wire.send(body)
                assert (await wire.reply()).status == status


class Hasty:
    """An upstream that answers a form as soon as its head is there, and reads what comes nevertheless."""

    def __init__(self, status: int, body: bytes) -> None:
        self.answer = b"HTTP/1.1 %d Early\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)
        self.connections: list[int] = []  # bytes of bodies, by connection
        self.ended = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        number = len(self.connections)
        self.connections.append(0)
        writer.write(self.answer)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                self.connections[number] += len(data)
        writer.close()
        self.ended.set()


@pytest.mark.parametrize("status", [413, 200])
async def test_the_connection_of_an_early_answer_is_closed(tmp_path: Path, status: int) -> None:
    """It is relayed as any other, the rest of the form is not sent, and nothing else is asked there."""
    body = b'{"error":{"message":"too long"}}' if status == 413 else b'{"text":"a guess"}'
    hasty = Hasty(status, body)
    server = await asyncio.start_server(hasty, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, Stage.open(tmp_path, lambda _: [model("early", [{"id": "early", "url": url}])]) as stage:
        for _ in range(2):
            hasty.ended.clear()
            reply = await send(stage, FILE._replace(content=LARGE), Field("model", b"early"))
            assert (reply.status, reply.body) == (status, body)
            async with asyncio.timeout(20):
                await hasty.ended.wait()
    assert len(hasty.connections) == 2
    assert max(hasty.connections) < len(LARGE)


async def test_a_client_that_leaves_ends_the_upload_to_its_upstream(tmp_path: Path) -> None:
    """Also while the upstream does not even read."""
    arrived: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    arrived = asyncio.get_running_loop().create_future()

    async def idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set_result((reader, writer))

    server = await asyncio.start_server(idle, "127.0.0.1", 0, limit=2**16)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, Stage.open(tmp_path, lambda _: [model("idle", [{"id": "idle", "url": url}])]) as stage:
        async with Wire.open(stage.port) as wire:
            await wire.send(form_request(TRANSCRIBE, [FILE._replace(content=LARGE)], key=KEYS["user"]))
            reader, writer = await arrived
            wire.reset()
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                while await reader.read(65536):
                    pass
        writer.close()
        await until_spooled(stage, 0)


async def test_the_first_event_is_waited_for_from_the_uploads_end_on(tmp_path: Path) -> None:
    """An upstream that takes its time to read is none that falls silent."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        left = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while left:
            await asyncio.sleep(0.02)  # the pace, not a signal: far longer in all than `first_byte`
            left -= len(await reader.read(min(left, 2**16)))
        writer.write(b'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\ndata: {"type":"transcript.text.done"}\n\n')
        writer.close()

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)  # what waits in the kernel is sent, to the gateway
    server = await asyncio.start_server(slow, sock=listener, limit=2**16)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    patience = {"first_byte": 2, "total": 60}
    record = model("slow", [{"id": "slow", "url": url, "timeouts": patience}])
    sound = FILE._replace(content=bytes(15_000_000))
    async with server, Stage.open(tmp_path, lambda _: [record]) as stage:
        reply = await send(stage, sound, Field("stream", b"true"))
        assert (reply.status, reply.body) == (200, b'data: {"type":"transcript.text.done"}\n\n')
