"""Refusals of upstreams: whose are relayed, booked on whom, in what words, and what never shows in them."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from kit import DONE, KEYS, FakeUpstream, Received, Stage, answer, ask, assert_error, events
from kit.answers import delta, upstream_error
from kit.books import acting_for, fresh_user, rows
from kit.stage import Record, endpoint, model

SECRETS = {
    "key": "sk-own/credential+0123456789",
    "header": "header-secret-0123456789",
    "query": "query secret 0123456789",
}


def refusing_models(upstream: FakeUpstream) -> list[Record]:
    def ranked(name: str, **more: Any) -> list[Record]:
        return [endpoint(upstream, f"{name}.{letter}", priority=place) for place, letter in enumerate("ab")]

    echoing = endpoint(upstream, "echoing") | {
        "api_key": SECRETS["key"],
        "headers": {"x-token": SECRETS["header"], "authorization": "Basic " + _base64("someone:their-password")},
        "query": {"sig": SECRETS["query"]},
        "auth_header": "x-api-key",
    }
    return [
        model("last-resort", [endpoint(upstream, "last-resort.a")]),
        *(model(f"ranked-{n}", ranked(f"ranked-{n}"), fallbacks=["last-resort"]) for n in range(12)),
        model("echoing", [echoing]),
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def refusing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """A gateway with short heartbeats; models with a fallback; one whose endpoint has secrets of each kind."""
    server = {"stream_heartbeat_seconds": 0.2}
    async with Stage.open(tmp_path_factory.mktemp("refusing"), refusing_models, server=server) as stage:
        yield stage
        assert not [secret for secret in SECRETS.values() if secret in stage.gateway.output()]
        assert "their-password" not in stage.gateway.output()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def refusal(status: int, message: str) -> Any:
    return answer(status, {"error": {"message": message, "type": "t", "param": None, "code": None}})


# --- which refusal is relayed, and on whom it is booked


@pytest.mark.parametrize("status", [402, 403, 404])
async def test_the_first_refusal_is_relayed_whatever_the_others_failed_with(refusing: Stage, status: int) -> None:
    """Booked on the endpoint and model that said it; every attempt is counted."""
    name, user = f"ranked-{status - 402}", fresh_user()
    up = refusing.upstream.endpoint
    up(f"{name}.a").replies(refusal(status, "a says no"))
    up(f"{name}.b").replies(refusal(404 if status != 404 else 403, "b says no"))
    up("last-resort.a").replies(upstream_error(503))
    reply = await refusing.post(ask(name), key=KEYS["panel"], headers=acting_for(user))
    assert (reply.status, reply.json()["error"]["message"]) == (status, "a says no")
    assert (reply.header("x-gateway-attempts"), reply.header("x-gateway-model")) == ("3", name)
    (row,) = await rows(refusing.gateway, user, 1)
    assert (row["endpoint"], row["model"], row["attempts"], row["status"]) == (
        f"{name}.a",
        f"id-{name}",
        "3",
        str(status),
    )
    line = await refusing.gateway.log(
        lambda each: each.get("request_id") == reply.header("x-request-id") and "ms" in each
    )
    assert (line["endpoint"], line["model"], line["attempts"]) == (f"{name}.a", name, 3)


@pytest.mark.parametrize(
    ("number", "later"), [(3, upstream_error(429)), (4, upstream_error(401)), (5, answer(307, b""))]
)
async def test_a_refusal_outlives_every_other_failure(refusing: Stage, number: int, later: Any) -> None:
    """Rate limits, our own credentials and redirects of the others tell the client less than it does."""
    name = f"ranked-{number}"
    refusing.upstream.endpoint(f"{name}.a").replies(refusal(403, "a says no"))
    refusing.upstream.endpoint(f"{name}.b").replies(later)
    refusing.upstream.endpoint("last-resort.a").replies(upstream_error(500))
    reply = await refusing.post(ask(name))
    assert (reply.status, reply.json()["error"]["message"]) == (403, "a says no")


async def test_an_answer_of_a_fallback_comes_before_a_refusal(refusing: Stage) -> None:
    refusing.upstream.endpoint("ranked-6.a").replies(refusal(402, "no money"))
    refusing.upstream.endpoint("ranked-6.b").replies(refusal(404, "no such deployment"))
    reply = await refusing.post(ask("ranked-6"))
    assert (reply.status, reply.header("x-gateway-model")) == (200, "last-resort")


async def test_refusals_cool_nothing(refusing: Stage) -> None:
    for _ in range(5):
        refusing.upstream.endpoint("ranked-7.a").replies(refusal(402, "no money"))
        assert (await refusing.post(ask("ranked-7"))).status == 200
    assert len(refusing.upstream.endpoint("ranked-7.a").requests) == 5


# --- after a heartbeat


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, b'{"error":{"message":"no","type":"t","param":"p","code":7}}', ("no", "t", "p", 7)),
        (400, b'[{"error":{"message":"bad schema"}}]', None),
        (400, b"bad schema", None),
        (422, b'{"detail":[{"msg":"field required"}]}', None),
        (404, b"<html>\nno\n</html>", None),
    ],
)
@pytest.mark.parametrize("route", ["chat/completions", "responses"])
async def test_after_a_heartbeat_a_refusal_is_told_in_its_own_words(
    strict: Stage, status: int, body: bytes, error: tuple[object, ...] | None, route: str
) -> None:
    """One event on one line and no `[DONE]`; on the responses route in the shape of its endings."""
    one = strict.model()
    released = asyncio.Event()

    async def late(request: Received) -> None:
        await released.wait()
        await answer(status, body)(request)

    one.a.replies(late)
    async with strict.asking(one.chat(stream=True), route) as wire:
        assert (await wire.head()).status == 200
        assert (await wire.event()).startswith(b":")
        released.set()
        body_told = (await wire.body()).body
    told = body_told.split(b"\n\n")
    assert told.pop() == b""
    assert [each for each in told[:-1] if not each.startswith(b":")] == []
    last = told[-1]
    message, kind, param, code = error or (body.decode(), "invalid_request_error", None, None)
    expected: dict[str, Any] = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    if route == "responses":
        assert last.startswith(b"event: error\n")
        last, expected = last.removeprefix(b"event: error\n"), {"type": "error", "sequence_number": 0} | expected
    assert json.loads(last.removeprefix(b"data: ")) == expected


# --- what never shows


def echo(status: int, encoding: str | None = None, body: bytes | None = None) -> Any:
    """An upstream that repeats in its error everything that it was sent."""

    async def behave(request: Received) -> None:
        said = f"{request.target} with " + " and ".join(f"{name}: {value}" for name, value in request.headers)
        said += " by someone:their-password or " + SECRETS["query"]
        plain = json.dumps({"error": {"message": said, "type": "t", "param": None, "code": None}}).encode()
        packed = {None: plain, "gzip": gzip.compress(plain), "deflate": zlib.compress(plain), "br": plain}[encoding]
        fields = [("x-request-id", SECRETS["key"]), ("openai-version", SECRETS["header"])]
        fields += [("content-encoding", encoding)] if encoding else []
        await answer(status, body if body is not None else packed, fields)(request)

    return behave


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("encoding", [None, "gzip", "deflate", "br"])
@pytest.mark.parametrize("status", [400, 403, 422, 500, 401, 429])
async def test_nothing_that_is_sent_to_an_endpoint_alone_comes_back(
    refusing: Stage, status: int, encoding: str | None, streamed: bool
) -> None:
    """Neither in the body, packed or not, nor in a header; the log is looked at in the end."""
    await refusing.gateway.get("/healthz")
    refusing.upstream.endpoint("echoing").replies(echo(status, encoding))
    reply = await refusing.post(ask("echoing", stream=streamed))
    shown = reply.body + json.dumps(reply.headers).encode()
    for secret in (*SECRETS.values(), "their-password", _base64("someone:their-password"), "query%20secret"):
        assert secret.encode() not in shown
    if status in (400, 403, 422) and encoding != "br":
        assert reply.status == status
        assert b"***" in reply.body
        assert reply.header("content-encoding") is None


@pytest.mark.parametrize("status", [400, 403, 404, 418, 422])
async def test_a_refusal_that_cannot_be_looked_into_is_told_in_our_words(stage: Stage, status: int) -> None:
    """With its status; nothing of its bytes, nor of its content headers."""
    one = stage.model()
    one.a.replies(
        answer(status, b"\x1b\x00", [("content-encoding", "br"), ("x-request-id", "up-1")], content_type="text/x")
    )
    reply = await stage.post(one.chat())
    assert_error(reply, status, "upstream_error")
    assert reply.header("content-encoding") is None
    assert reply.header("x-upstream-request-id") == "up-1"


async def test_a_packed_refusal_without_secrets_keeps_its_bytes(stage: Stage) -> None:
    one = stage.model()
    packed = gzip.compress(b'{"error":{"message":"no"}}')
    one.a.replies(answer(400, packed, [("content-encoding", "gzip")]))
    reply = await stage.post(one.chat())
    assert (reply.status, reply.body, reply.header("content-encoding")) == (400, packed, "gzip")


# --- stream_options


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (422, b'{"detail":[{"type":"extra_forbidden","msg":"Extra inputs are not permitted"}]}'),
        (400, b'{"error":{"message":"Unrecognized request argument supplied"}}'),
        (400, b'{"message":"additional properties are not allowed"}'),
        (400, b"unknown parameter"),
    ],
)
async def test_stream_options_refused_without_being_named_are_left_out(stage: Stage, status: int, body: bytes) -> None:
    one = stage.model()
    one.a.replies(answer(status, body))
    one.a.always(events(delta("a"), DONE))
    for _ in range(2):
        assert (await stage.post(one.chat(stream=True))).body == delta("a") + DONE
    assert ["stream_options" in request.json() for request in one.a.requests] == [True, False, False]


async def test_stream_options_are_remembered_as_refused_only_where_it_helped(stage: Stage) -> None:
    """A refusal that comes again, or a failure, says nothing about them."""
    one = stage.model()
    extra = answer(422, b'{"detail":[{"loc":["body","mine"],"msg":"Extra inputs are not permitted"}]}')
    one.a.replies(extra, extra, extra, upstream_error(503))
    replies = [await stage.post(one.chat(stream=True, mine=1)) for _ in range(2)]
    assert [reply.status for reply in replies] == [422, 502]
    assert (await stage.post(one.chat(stream=True))).status == 200
    assert ["stream_options" in request.json() for request in one.a.requests] == [True, False, True, False, True]
