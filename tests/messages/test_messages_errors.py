"""Errors of the gateway's own have Anthropic's shape on its paths, those of upstreams pass as they are."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from kit import KEYS, Reply, Stage, Wire, answer, events, raw, request_bytes
from kit.answers import full
from kit.messages import PING, VERSION, ask, delta, fresh, fresh_pair, named, refusal, start, written
from kit.wire import UPSTREAM_WORDS

PREFIXES = ("/v1/", "/api/ai/anthropic/v1/")
Where = dict[str, Any]


def assert_shape(reply: Reply, status: int, kind: str, code: str) -> dict[str, Any]:
    document = reply.json()
    assert (reply.status, document["type"]) == (status, "error")
    assert set(document) == {"type", "error", "request_id"}
    assert document["request_id"] == reply.header("request-id") == reply.header("x-request-id")
    assert (document["error"]["type"], document["error"]["code"]) == (kind, code)
    assert document["error"]["message"]
    assert UPSTREAM_WORDS.encode() not in reply.body
    return dict(document["error"])


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("headers", [(), (VERSION,)])
async def test_requests_that_are_refused(stage: Stage, prefix: str, headers: tuple[tuple[str, str], ...]) -> None:
    """Whether the header came or not."""
    name = fresh(stage).name
    where: Where = {"prefix": prefix, "headers": headers}

    async def asked(body: dict[str, Any] | bytes, route: str = "messages", **more: Any) -> Reply:
        return await stage.post(body, route, **where | more)

    assert_shape(await asked(ask(name), key=None), 401, "authentication_error", "missing_api_key")
    assert_shape(
        await asked(ask(name), key="sk-unknown-0123456789abcdef"), 401, "authentication_error", "invalid_api_key"
    )
    assert_shape(await asked(ask(name), key=KEYS["reader"]), 403, "permission_error", "insufficient_scope")
    assert_shape(await asked(ask("secret")), 403, "permission_error", "model_not_accessible")
    assert_shape(await asked(ask("none", modelId="none")), 404, "not_found_error", "model_not_found")
    assert_shape(await asked(b"{"), 400, "invalid_request_error", "invalid_json")
    field = assert_shape(await asked(ask(name, provider="x")), 400, "invalid_request_error", "field_not_allowed")
    assert field["param"] == "provider"
    assert_shape(await asked(ask(name, Max_Tokens=1)), 400, "invalid_request_error", "field_not_allowed")
    assert_shape(await asked(ask(name), "messages/batches"), 404, "not_found_error", "not_found")
    assert_shape(await asked({}, "messages/count_tokens/x"), 404, "not_found_error", "not_found")


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_another_method_is_refused(stage: Stage, prefix: str) -> None:
    reply = await stage.get(prefix + "messages")
    assert_shape(reply, 405, "invalid_request_error", "method_not_allowed")
    assert reply.header("allow") == "POST"


async def test_a_body_that_is_too_large(stage: Stage) -> None:
    async with Wire.open(stage.port) as wire:
        await wire.send(
            request_bytes("POST", "/v1/messages", key=KEYS["user"], headers=[("content-length", str(2**26))])
        )
        assert_shape(await wire.reply(), 413, "request_too_large", "request_too_large")


@pytest.mark.parametrize("path", ["chat/completions", "responses", "embeddings", "files", "nowhere", "models/x/y"])
async def test_with_the_header_every_other_path_below_v1_is_not_found(stage: Stage, path: str) -> None:
    for method in ("GET", "POST"):
        async with Wire.open(stage.port) as wire:
            body = {} if method == "POST" else None
            await wire.send(request_bytes(method, f"/v1/{path}", body, key=KEYS["user"], headers=[VERSION]))
            reply = await wire.reply()
        if path.startswith("models/"):
            assert reply.status == (404 if method == "GET" else 405)
        else:
            assert_shape(reply, 404, "not_found_error", "not_found")


@pytest.mark.parametrize("path", ["chat/completions", "models/x", "nowhere"])
async def test_other_paths_below_the_long_prefix_are_not_found(stage: Stage, path: str) -> None:
    assert_shape(
        await stage.get(f"/api/ai/anthropic/v1/{path}"),
        404,
        "not_found_error",
        "model_not_found" if path == "models/x" else "not_found",
    )


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("/v1/v1/messages", ""),
        ("/messages", ""),
        ("/v1//messages", ""),
        ("/api/ai/anthropic/messages", "/api/ai/anthropic"),
        ("/api/ai/anthropic/v1/v1/messages", "/api/ai/anthropic"),
    ],
)
async def test_a_wrong_base_url_is_corrected(stage: Stage, path: str, base: str) -> None:
    """Clients of this protocol append the version themselves."""
    for headers in ([VERSION], []):
        async with Wire.open(stage.port) as wire:
            await wire.send(request_bytes("POST", path, ask("x"), key=KEYS["user"], headers=headers))
            reply = await wire.reply()
        assert reply.status == 404
        assert reply.json()["error"]["message"].endswith(f" http://gateway.test{base}")


async def test_without_the_header_the_other_paths_are_openais(stage: Stage) -> None:
    assert (await stage.get("/v1/nowhere")).error()["code"] == "not_found"
    assert (await stage.get("/v1/models")).json()["object"] == "list"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"container": "container_1"}, "container"),
        ({"container": {"id": "c", "skills": []}}, "container"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": "f"}}]}
                ]
            },
            "messages[0].content[0].source.file_id",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]},
            "messages[0].content[0].file_id",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "t",
                                "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}],
                            }
                        ],
                    }
                ]
            },
            "messages[0].content[0].content[0].source.file_id",
        ),
    ],
)
async def test_what_names_an_object_is_refused(stage: Stage, fields: dict[str, Any], param: str) -> None:
    model = fresh(stage)
    for route in ("messages", "messages/count_tokens"):
        error = assert_shape(
            await stage.post(ask(model.name) | fields, route), 400, "invalid_request_error", "invalid_request"
        )
        assert error["param"] == param
    assert model.a.requests == []


async def test_an_escaped_name_of_an_object_is_refused_and_what_is_none_passes(stage: Stage) -> None:
    model = fresh(stage)
    hidden = written(ask(model.name, container="c")).replace(b'"container"', b'"c\\u006fntainer"')
    assert_shape(await stage.post(hidden, "messages"), 400, "invalid_request_error", "invalid_request")
    tool = {"type": "tool_use", "id": "t", "name": "n", "input": {"file_id": "f", "container": "c"}}
    harmless = [{"role": "assistant", "content": [tool]}, {"role": "user", "content": "a file_id, a container"}]
    assert (await stage.post(ask(model.name, messages=harmless, container=None), "messages")).status == 200


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "invalid_request_error"), (413, "request_too_large"), (404, "not_found_error")]
)
async def test_an_upstreams_refusal_passes_byte_for_byte(stage: Stage, status: int, kind: str) -> None:
    model = fresh(stage)
    body = b'{ "type":"error","error":{"type":"%b","message":"no \\u00e9"} ,"request_id":"req_up"}' % kind.encode()
    model.a.replies(answer(status, body, [("request-id", "req_up")]))
    reply = await stage.post(ask(model.name), "messages")
    assert (reply.status, reply.body) == (status, body)
    assert reply.header("x-upstream-request-id") == "req_up"
    assert reply.header("request-id") == reply.header("x-request-id")


async def test_a_refusal_after_a_sign_of_life_is_an_event_in_its_own_values(stage: Stage) -> None:
    model = fresh(stage)
    go = asyncio.Event()
    body = {"type": "error", "error": {"type": "billing_error", "message": "pay first"}, "request_id": "req_up"}
    model.a.replies(raw(go, full(400, body)))
    async with stage.asking(ask(model.name, stream=True), "messages") as wire:
        assert (await wire.head()).status == 200
        go.set()
        told = (await wire.body()).body.replace(PING, b"")
    name, data = told.decode().strip().split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"] == {"type": "billing_error", "message": "pay first"}


async def test_a_refusal_that_cannot_be_shown_is_ours_in_shape(stage: Stage) -> None:
    model = fresh(stage)
    model.a.replies(answer(400, b"\x00\x01", content_type="application/octet-stream"))
    reply = await stage.post(ask(model.name), "messages")
    assert reply.status == 400
    assert (reply.json()["type"], reply.json()["error"]["code"]) == ("error", "upstream_error")


async def test_every_failure_of_upstreams_has_its_type(stage: Stage) -> None:
    limited = fresh(stage)
    limited.a.replies(refusal(429, "rate_limit_error"))
    reply = await stage.post(ask(limited.name), "messages")
    assert_shape(reply, 429, "rate_limit_error", "upstream_rate_limited")
    assert reply.header("retry-after")
    refused = fresh(stage)
    refused.a.replies(refusal(401, "authentication_error"))
    assert_shape(await stage.post(ask(refused.name), "messages"), 502, "api_error", "upstream_credentials_rejected")
    broken = fresh_pair(stage)
    broken.a.replies(refusal(529, "overloaded_error"))
    broken.b.replies(refusal(500, "api_error"))
    assert_shape(await stage.post(ask(broken.name), "messages"), 502, "api_error", "upstream_error")


async def test_a_failure_after_a_sign_of_life_is_told_in_band(stage: Stage) -> None:
    model = fresh(stage)
    go = asyncio.Event()
    model.a.replies(
        raw(go, full(503, {"type": "error", "error": {"type": "overloaded_error", "message": UPSTREAM_WORDS}}))
    )
    async with stage.asking(ask(model.name, stream=True), "messages") as wire:
        head = await wire.head()
        go.set()
        told = (await wire.body()).body.replace(PING, b"")
    document = json.loads(told.decode().strip().split("\n")[1].removeprefix("data: "))
    assert (document["error"]["type"], document["error"]["code"]) == ("api_error", "upstream_error")
    assert document["request_id"] == head.header("request-id")
    assert UPSTREAM_WORDS not in told.decode()


async def test_limits_are_refused_in_its_shape(stage: Stage) -> None:
    reply = await stage.post(ask("limited", max_tokens=5000), "messages")
    assert reply.status == 200, reply  # what is reserved is at most what is left
    reply = await stage.post(ask("limited"), "messages")
    assert_shape(reply, 429, "rate_limit_error", "insufficient_quota")
    assert reply.header("x-should-retry") == "false"


async def test_an_error_event_in_mid_stream_is_the_upstreams_own(stage: Stage) -> None:
    model = fresh(stage)
    error = named("error", error={"type": "overloaded_error", "message": "Overloaded"})
    model.a.replies(events(start(), delta("Hel"), error))
    reply = await stage.post(ask(model.name, stream=True), "messages")
    assert reply.body == start() + delta("Hel") + error


async def test_a_model_named_in_a_tool_must_be_granted(stage: Stage) -> None:
    """An advisor's is looked up, and replaced by what the endpoint calls it."""
    model = fresh(stage)
    advisor = {"type": "advisor_20260301", "name": "advisor", "model": "secret"}
    reply = await stage.post(ask(model.name, tools=[advisor]), "messages")
    error = assert_shape(reply, 403, "permission_error", "model_not_accessible")
    assert error["param"] == "tools[0].model"
    own = advisor | {"model": model.name}
    assert (await stage.post(ask(model.name, tools=[own]), "messages")).status == 200
    assert model.a.requests[0].json()["tools"][0]["model"] == model.provider_name


@pytest.mark.parametrize("headers", [[("x-gateway-user", "")], [("x-api-key", "a" * 30), ("x-api-key", "b" * 30)]])
async def test_headers_that_are_refused(stage: Stage, headers: list[tuple[str, str]]) -> None:
    reply = await stage.post(ask(fresh(stage).name), "messages", key=KEYS["panel"], headers=headers)
    assert_shape(reply, 400, "invalid_request_error", "invalid_request")
