"""Request smuggling, through us: what an upstream reads is one request, framed and written by the gateway alone.

That two servers would read a head differently is refused at the door (tests/e2e/test_bad_input.py). Here the request is
good HTTP, and tries to bring something along.
"""

from __future__ import annotations

import pytest
from kit import KEYS, Stage, Wire, ask, request_bytes
from kit.stage import FreshModel

CHAT = "/v1/chat/completions"
SMUGGLED = b"POST /smuggled/v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
NAMES_SENT = {
    "host",
    "content-type",
    "accept",
    "accept-encoding",
    "user-agent",
    "authorization",
    "via",
    "content-length",
}

HEADERS = {
    "names of hops": [("connection", "x-foo, content-length"), ("x-foo", "1"), ("te", "trailers"), ("keep-alive", "1")],
    "other ways to say length": [("content-length-x", "0"), ("x-content-length", "0")],
    "other hosts": [("x-forwarded-host", "evil.test"), ("forwarded", "host=evil.test"), ("x-host", "evil.test")],
    "other addresses": [("x-forwarded-for", "127.0.0.1"), ("x-real-ip", "::1"), ("client-ip", "127.0.0.1")],
    "other paths": [("x-original-url", "/files"), ("x-rewrite-url", "/files"), ("x-http-method-override", "DELETE")],
    "other credentials": [("x-api-key", "sk-evil"), ("api-key", "sk-evil"), ("cookie", "session=1")],
    "other bodies": [("content-encoding", "identity"), ("transfer-encoding-x", "gzip"), ("content-language", "x")],
    "another account": [("openai-organization", "org-evil"), ("openai-project", "proj-evil")],
    "a trailer announced": [("trailer", "content-length")],
    "debugging": [("proxy", "http://evil.test"), ("proxy-authorization", "Basic eA=="), ("max-forwards", "0")],
}


def assert_sent_alone(stage: Stage, model: FreshModel, body: dict[str, object]) -> None:
    """The upstream has read one request: ours."""
    (request,) = model.a.requests
    assert {name for name, _ in request.headers} == NAMES_SENT
    assert len(request.headers) == len(NAMES_SENT)
    assert request.header("host") == f"127.0.0.1:{stage.upstream.port}"
    assert request.header("content-type") == "application/json"
    assert request.header("content-length") == str(len(request.body))
    assert request.target == f"/{model.a.name}/v1/chat/completions"
    assert request.json() == body | {"model": model.provider_name}
    assert "smuggled" not in stage.upstream._endpoints


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
async def test_no_header_of_the_clients_goes_upstream(stage: Stage, headers: list[tuple[str, str]]) -> None:
    """Heads for upstreams are made of the configuration alone."""
    model = stage.model()
    assert (await stage.post(model.chat(), headers=headers)).status == 200
    assert_sent_alone(stage, model, ask())


@pytest.mark.parametrize("where", ["model", "messages", "key"])
async def test_a_request_inside_a_value_stays_a_value(stage: Stage, where: str) -> None:
    """Line ends and whole requests in JSON, escaped and as text."""
    model = stage.model()
    text = SMUGGLED.decode()
    body = {"model": model.name, "modelId": f"id-{model.name}", "messages": []}
    wanted: dict[str, object] = {"messages": []}
    if where == "model":
        body["model"] = text
    else:
        body |= {"messages": [text]} if where == "messages" else {text: text}
        wanted |= {"messages": [text]} if where == "messages" else {text: text}
    assert (await stage.post(body)).status == 200
    assert_sent_alone(stage, model, wanted)


async def test_a_chunked_upload_that_ends_early_leaves_its_rest_here(stage: Stage) -> None:
    """What follows the last chunk in one read is no request: the connection ends. The upstream sees nothing of it."""
    model = stage.model()
    body = request_bytes("POST", CHAT, model.chat()).partition(b"\r\n\r\n")[2]
    head = request_bytes("POST", CHAT, key=KEYS["user"], headers=[("transfer-encoding", "chunked")])
    async with Wire.open(stage.port) as wire:
        await wire.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) + SMUGGLED)
        assert (await wire.reply()).status == 200
        assert await wire.ended() == b""
    assert_sent_alone(stage, model, ask())


async def test_trailers_and_chunk_extensions_stay_here(stage: Stage) -> None:
    """A trailer is no header, whatever it is called."""
    model = stage.model()
    body = request_bytes("POST", CHAT, model.chat()).partition(b"\r\n\r\n")[2]
    head = request_bytes("POST", CHAT, key=KEYS["user"], headers=[("transfer-encoding", "chunked")])
    chunks = b"%x;smuggled=1\r\n%b\r\n0\r\nauthorization: Bearer evil\r\nhost: evil.test\r\n\r\n" % (len(body), body)
    async with Wire.open(stage.port) as wire:
        await wire.send(head + chunks)
        assert (await wire.reply()).status == 200
    assert_sent_alone(stage, model, ask())


async def test_a_target_in_absolute_form_names_a_path_and_no_host(stage: Stage) -> None:
    """As proxies are asked: the host in it is nobody that we would go to."""
    model = stage.model()
    async with Wire.open(stage.port) as wire:
        target = "http://evil.test" + CHAT
        await wire.send(request_bytes("POST", target, model.chat(), key=KEYS["user"]))
        assert (await wire.reply()).status == 200
        await wire.send(request_bytes("GET", "http://127.0.0.1:1/latest/meta-data", key=KEYS["user"]))
        assert (await wire.reply()).status == 404
    assert_sent_alone(stage, model, ask())


async def test_nobody_is_connected_through(stage: Stage) -> None:
    """CONNECT is no method of ours, and what comes after it is not passed on."""
    accepted = stage.upstream.accepted
    async with Wire.open(stage.port) as wire:
        target = f"127.0.0.1:{stage.upstream.port}"
        await wire.send(request_bytes("CONNECT", target, key=KEYS["user"]))
        assert (await wire.head()).status in (400, 404, 405)
        await wire.send(SMUGGLED)
    assert stage.upstream.accepted == accepted
