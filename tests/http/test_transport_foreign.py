"""The transport against servers that others wrote: aiohttp's, uvicorn's (h11), Node's and nginx; on both loops."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator

import pytest
from servers.foreign import BODY, LARGE, NAMES, Foreign, running
from servers.loops import on_both_loops, until
from servers.scripted import Recorder, begin, closing, fetch

from gateway.http.client import Counts, Transport


@pytest.fixture(scope="module", params=NAMES)
def upstream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    with running(request.param, tmp_path_factory.mktemp(request.param)) as server:
        yield server


def only(*names: str) -> pytest.MarkDecorator:
    """For what the other servers cannot be made to do."""
    return pytest.mark.parametrize("upstream", names, indirect=True, scope="module")


@on_both_loops
async def test_plain_answers_keep_their_connection(upstream: Foreign) -> None:
    async with closing(Transport()) as transport:
        for number in range(3):
            recorder = Recorder()
            exchange = await begin(transport, upstream.origin, recorder, target="/plain")
            await recorder.over.wait()
            assert (recorder.status, bytes(recorder.body), recorder.error) == (200, BODY, None)
            assert recorder.header(b"content-length") == b"%d" % len(BODY)
            assert exchange.reused == (number > 0)
        assert transport.snapshot() == {upstream.origin: Counts(idle=1, busy=0)}


@only("aiohttp", "uvicorn", "node")
@on_both_loops
async def test_chunked_answers_are_joined_and_keep_their_connection(upstream: Foreign) -> None:
    async with closing(Transport()) as transport:
        recorder = await fetch(transport, upstream.origin, target="/chunked")
        assert recorder.header(b"transfer-encoding") == b"chunked"
        assert recorder.body == b"one two three"
        assert transport.snapshot()[upstream.origin] == Counts(idle=1, busy=0)


@on_both_loops
async def test_an_answer_without_a_body_keeps_its_connection(upstream: Foreign) -> None:
    async with closing(Transport()) as transport:
        recorder = await fetch(transport, upstream.origin, target="/empty")
        assert (recorder.status, recorder.calls) == (204, ["head", "end"])
        assert transport.snapshot()[upstream.origin] == Counts(idle=1, busy=0)


@on_both_loops
async def test_compressed_answers_are_left_as_they_are(upstream: Foreign) -> None:
    async with closing(Transport()) as transport:
        recorder = await fetch(transport, upstream.origin, target="/gzip", headers=(("accept-encoding", "gzip"),))
        assert recorder.header(b"content-encoding") == b"gzip"
        assert gzip.decompress(recorder.body).startswith(BODY)
        assert transport.snapshot()[upstream.origin] == Counts(idle=1, busy=0)


@on_both_loops
async def test_connection_close_is_obeyed(upstream: Foreign) -> None:
    async with closing(Transport()) as transport:
        recorder = await fetch(transport, upstream.origin, target="/close")
        assert (bytes(recorder.body), recorder.calls[-1]) == (BODY, "end")
        await until(lambda: transport.snapshot() == {})


@on_both_loops
async def test_a_connection_that_the_server_closes_between_requests_is_noticed(upstream: Foreign) -> None:
    """Each server's own idle time-out, set short."""
    async with closing(Transport()) as transport:
        await fetch(transport, upstream.origin, target="/plain")
        assert transport.snapshot()[upstream.origin] == Counts(idle=1, busy=0)
        await until(lambda: transport.snapshot() == {})
        recorder = Recorder()
        exchange = await begin(transport, upstream.origin, recorder, target="/plain")
        await recorder.over.wait()
        assert (bytes(recorder.body), exchange.reused) == (BODY, False)


@only("aiohttp", "uvicorn", "node")
@on_both_loops
async def test_large_uploads_arrive_byte_for_byte(upstream: Foreign) -> None:
    async with closing(Transport()) as transport:
        for _ in range(2):
            recorder = await fetch(transport, upstream.origin, LARGE * 4, target="/digest")
            assert recorder.body.decode() == hashlib.sha256(LARGE * 4).hexdigest()
        assert transport.snapshot()[upstream.origin] == Counts(idle=1, busy=0)


@only("nginx")
@on_both_loops
async def test_large_answers_arrive_byte_for_byte(upstream: Foreign) -> None:
    async with closing(Transport()) as transport:
        recorder = await fetch(transport, upstream.origin, target="/large")
        assert recorder.body == LARGE


@only("node")
@on_both_loops
async def test_trailers_are_left_out(upstream: Foreign) -> None:
    async with closing(Transport()) as transport:
        for _ in range(2):
            recorder = await fetch(transport, upstream.origin, target="/trailers")
            assert bytes(recorder.body) == BODY
            assert recorder.header(b"trailer") == b"x-sum"
            assert recorder.header(b"x-sum") is None
        assert transport.snapshot()[upstream.origin] == Counts(idle=1, busy=0)


@only("node")
@on_both_loops
async def test_processing_and_early_hints_are_skipped(upstream: Foreign) -> None:
    async with closing(Transport()) as transport:
        recorder = await fetch(transport, upstream.origin, target="/hints")
        assert (recorder.status, recorder.calls) == (200, ["head", "body", "end"])
        assert recorder.header(b"link") is None


@only("aiohttp", "uvicorn", "node")
@on_both_loops
async def test_100_continue_is_skipped(upstream: Foreign) -> None:
    async with closing(Transport()) as transport:
        recorder = await fetch(transport, upstream.origin, target="/plain", headers=(("expect", "100-continue"),))
        assert (recorder.status, bytes(recorder.body)) == (200, BODY)


@on_both_loops
async def test_many_requests_at_once_each_get_their_own_answer(upstream: Foreign) -> None:
    async with closing(Transport()) as transport:
        for _ in range(3):
            recorders = [Recorder() for _ in range(20)]
            for recorder in recorders:
                await begin(transport, upstream.origin, recorder, target="/plain")
            for recorder in recorders:
                await recorder.over.wait()
            assert [bytes(each.body) for each in recorders] == [BODY] * 20
        assert transport.snapshot()[upstream.origin].busy == 0
