"""A span a request and one an attempt, by the GenAI conventions: what a collector on a real socket is told."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from kit import DONE, KEYS, RESET, Reply, Stage, Wire, answer, ask, assert_error, events, raw, request_bytes
from kit.answers import TOOL_CALL, delta, upstream_error
from kit.forms import Field, form_request
from kit.messages import ask as ask_messages
from kit.stage import upstream_key
from telemetry.conftest import COLLECTOR_KEY
from telemetry.otel_kit import CLIENT, ERROR, SERVER, UNSET, Collector, Seen

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
WORDS = "what nobody else may read"


def genai(span: Seen) -> dict[str, Any]:
    """What it says by the GenAI conventions, without their prefix and times."""
    return {
        name.removeprefix("gen_ai."): value
        for name, value in span.attributes.items()
        if name.startswith("gen_ai.") and "time_to" not in name
    }


async def test_a_request_is_a_span_and_its_attempt_a_child(stage: Stage, collector: Collector) -> None:
    fresh = stage.model()
    before = time.time_ns()
    reply = await stage.post(fresh.chat())
    after = time.time_ns()
    own, attempts = await collector.told(reply)

    assert (own.name, own.kind, own.status) == (f"chat {fresh.name}", SERVER, UNSET)
    assert (own.trace, own.parent) == (reply.header("x-request-id"), "")
    assert before - 5e6 <= own.began < own.ended <= after + 1e9
    assert own.attributes["http.request.method"] == "POST"
    assert own.attributes["http.route"] == "/v1/chat/completions"
    assert own.attributes["http.response.status_code"] == 200
    assert own.attributes["gateway.outcome"] == "ok"
    assert "error.type" not in own.attributes
    assert genai(own) == {
        "operation.name": "chat",
        "provider.name": "openai",
        "request.model": fresh.name,
        "response.model": fresh.name,
        "usage.input_tokens": 9,
        "usage.output_tokens": 12,
    }
    assert own.resource["service.name"] == "under-test"
    assert own.resource["service.version"]

    (attempt,) = attempts
    assert (attempt.name, attempt.kind, attempt.status) == (f"chat {fresh.provider_name}", CLIENT, UNSET)
    assert own.began <= attempt.began < attempt.ended <= own.ended
    assert attempt.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": fresh.provider_name,
        "server.address": f"{fresh.name}.a",
        "http.response.status_code": 200,
    }


async def test_a_stream_says_so_and_when_its_first_event_came(stage: Stage, collector: Collector) -> None:
    fresh = stage.model()
    own, (attempt,) = await collector.told(await stage.post(fresh.chat(stream=True)))
    assert own.attributes["gen_ai.request.stream"] is True
    assert 0 < own.attributes["gen_ai.response.time_to_first_chunk"] < 60
    assert genai(own)["usage.output_tokens"] == 12
    assert attempt.attributes["http.response.status_code"] == 200


async def test_cached_written_and_reasoning_tokens_are_told(stage: Stage, collector: Collector) -> None:
    fresh = stage.model()
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 30,
        "total_tokens": 130,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 8},
    }
    fresh.a.replies(answer(200, {"choices": [], "usage": usage}))
    own, _ = await collector.told(await stage.post(fresh.chat()))
    assert {name: value for name, value in genai(own).items() if name.startswith("usage.")} == {
        "usage.input_tokens": 100,
        "usage.output_tokens": 30,
        "usage.cache_read.input_tokens": 60,
        "usage.cache_creation.input_tokens": 20,
        "usage.reasoning.output_tokens": 8,
    }


async def test_a_failover_has_two_attempts_under_one_request(stage: Stage, collector: Collector) -> None:
    pair = stage.model("pair")
    pair.a.replies(upstream_error(500))
    own, (first, second) = await collector.told(await stage.post(pair.chat()))
    assert (own.status, own.attributes["http.response.status_code"]) == (UNSET, 200)
    assert first.attributes["server.address"] == f"{pair.name}.a"
    assert (first.status, first.attributes["error.type"]) == (ERROR, "status_500")
    assert first.attributes["http.response.status_code"] == 500
    assert second.attributes["server.address"] == f"{pair.name}.b"
    assert (second.status, second.attributes.get("error.type")) == (UNSET, None)
    assert first.ended <= second.began
    assert len({own.id, first.id, second.id}) == 3


async def test_an_attempt_without_an_answer_has_no_status(stage: Stage, collector: Collector) -> None:
    pair = stage.model("pair")
    pair.a.replies(raw(RESET), raw(RESET))  # one for a connection that was open already
    _, (first, _) = await collector.told(await stage.post(pair.chat()))
    assert first.attributes["error.type"] not in ("", "0")
    assert "http.response.status_code" not in first.attributes


async def test_where_every_attempt_fails_the_request_is_an_error(stage: Stage, collector: Collector) -> None:
    pair = stage.model("pair")
    pair.a.replies(upstream_error(503))
    pair.b.replies(upstream_error(500))
    reply = await stage.post(pair.chat())
    assert_error(reply, 502, "upstream_error", "server_error")
    own, attempts = await collector.told(reply)
    assert (own.status, own.attributes["error.type"], own.attributes["http.response.status_code"]) == (
        ERROR,
        "upstream_error",
        502,
    )
    assert [each.attributes["error.type"] for each in attempts] == ["status_503", "status_500"]
    assert "gen_ai.response.model" not in own.attributes


async def test_a_redirect_is_an_attempt_that_failed(stage: Stage, collector: Collector) -> None:
    fresh = stage.model()
    fresh.a.replies(answer(302, b"", [("location", "http://elsewhere.test/")]))
    own, (attempt,) = await collector.told(await stage.post(fresh.chat()))
    assert own.attributes["error.type"] == "upstream_error"
    assert attempt.attributes["error.type"] == "status_302"


async def test_a_refusal_that_is_relayed_is_the_clients_mistake(stage: Stage, collector: Collector) -> None:
    fresh = stage.model()
    fresh.a.replies(upstream_error(422))
    own, (attempt,) = await collector.told(await stage.post(fresh.chat()))
    assert (own.status, own.attributes["error.type"], own.attributes["http.response.status_code"]) == (
        UNSET,
        "422",
        422,
    )
    assert (attempt.status, attempt.attributes["error.type"]) == (ERROR, "422")
    assert attempt.attributes["http.response.status_code"] == 422


async def test_a_stream_that_its_client_leaves(stage: Stage, collector: Collector) -> None:
    fresh = stage.model()
    fresh.a.replies(events(delta("one"), asyncio.Event()))
    async with stage.asking(fresh.chat(stream=True)) as wire:
        head = await wire.head()
        await wire.event()
        wire.reset()
        own, (attempt,) = await collector.told(head)
    assert (own.attributes["error.type"], own.attributes["gateway.outcome"]) == ("cancelled", "cancelled")
    assert own.attributes["http.response.status_code"] == 499
    assert own.status == UNSET
    assert attempt.attributes["error.type"] == "cancelled"


async def test_a_stream_that_its_upstream_breaks_off(stage: Stage, collector: Collector) -> None:
    fresh = stage.model()
    fresh.a.replies(events(delta("one"), RESET))
    own, (attempt,) = await collector.told(await stage.post(fresh.chat(stream=True)))
    assert (own.status, own.attributes["error.type"]) == (ERROR, "stream_incomplete")
    assert own.attributes["http.response.status_code"] == 200
    assert (attempt.status, attempt.attributes["error.type"]) == (ERROR, "stream_incomplete")


async def test_what_is_refused_has_a_span_without_attempts(stage: Stage, collector: Collector) -> None:
    reply = await stage.post(ask("limited"), key=None)
    own, attempts = await collector.told(reply)
    assert (own.name, own.status, attempts) == ("chat", UNSET, [])
    assert own.attributes["error.type"] == "missing_api_key"
    assert own.attributes["http.response.status_code"] == 401

    own, attempts = await collector.told(await stage.post(ask(WORDS)))
    assert (own.name, own.attributes["error.type"], attempts) == ("chat", "model_not_found", [])
    assert "gen_ai.request.model" not in own.attributes, "nobody's name, but a client's words"

    assert (await stage.post(ask("limited"))).status == 200
    own, attempts = await collector.told(await stage.post(ask("narrow")))
    assert (own.name, own.attributes["error.type"]) == ("chat narrow", "rate_limit_exceeded")
    assert (own.attributes["http.response.status_code"], attempts) == (429, [])


async def test_other_routes_are_named_as_http_has_it(stage: Stage, collector: Collector) -> None:
    own, attempts = await collector.told(await stage.get("/v1/models"))
    assert (own.name, attempts) == ("GET /v1/models", [])
    assert not genai(own)
    own, _ = await collector.told(await stage.get(f"/v1/{WORDS.replace(' ', '-')}"))
    assert own.name == "GET"
    assert "http.route" not in own.attributes
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes("PROPFIND", "/v1/models", key=KEYS["user"]))
        own, _ = await collector.told(await wire.reply())
    assert (own.name, own.attributes["http.request.method"]) == ("_OTHER", "_OTHER")


async def test_looking_whether_it_lives_is_no_span(stage: Stage, collector: Collector) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await stage.get(path, key=KEYS["reader"])).status == 200
    await collector.told(await stage.get("/v1/models"))  # which came after them
    assert not [each for each in collector.spans() if each.attributes.get("http.route") in ("/healthz", "/metrics")]


OPERATIONS = {
    "chat/completions": ("chat", {"messages": [{"role": "user", "content": "Hi"}]}),
    "completions": ("text_completion", {"prompt": "Hi"}),
    "responses": ("chat", {"input": "Hi"}),
    "embeddings": ("embeddings", {"input": "Hi"}),
    "moderations": ("moderation", {"input": "Hi"}),
    "images/generations": ("generate_content", {"prompt": "a cat"}),
    "audio/speech": ("generate_content", {"input": "Hi", "voice": "alloy"}),
}


@pytest.mark.parametrize("route", OPERATIONS)
@pytest.mark.parametrize("prefix", ["/v1/", "/api/ai/openai/v1/", "deployment", "proxy"])
async def test_each_operation_has_its_name_however_it_is_reached(
    stage: Stage, collector: Collector, route: str, prefix: str
) -> None:
    fresh, (operation, body) = stage.model(), OPERATIONS[route]
    prefixes = {"deployment": f"/openai/deployments/{fresh.name}/", "proxy": f"/api/ai/proxy/id-{fresh.name}/"}
    reply = await stage.post({"model": fresh.name} | body, route, prefix=prefixes.get(prefix, prefix))
    assert reply.status == 200, reply
    own, (attempt,) = await collector.told(reply)
    assert genai(own)["operation.name"] == attempt.attributes["gen_ai.operation.name"] == operation
    assert own.name.split(" ")[0] == operation
    assert attempt.attributes["gen_ai.request.model"] == fresh.provider_name


async def test_a_form_and_a_rerank(stage: Stage, collector: Collector) -> None:
    fresh = stage.model()
    fresh.a.replies(answer(200, {"text": "hello"}), answer(200, {"results": []}))
    fields = [Field("model", fresh.name.encode()), Field("file", b"RIFF", "a.wav", "audio/wav")]
    async with Wire.open(stage.port) as wire:
        await wire.send(form_request("/v1/audio/transcriptions", fields, key=KEYS["user"]))
        own, (attempt,) = await collector.told(await wire.reply())
    assert (own.name, genai(own)["output.type"]) == (f"generate_content {fresh.name}", "text")
    assert attempt.attributes["server.address"] == f"{fresh.name}.a"
    own, _ = await collector.told(await stage.post({"model": fresh.name, "query": "a", "documents": ["b"]}, "rerank"))
    assert own.name == f"rerank {fresh.name}"


async def test_messages_native_and_translated(stage: Stage, collector: Collector) -> None:
    reply = await stage.post(ask_messages("claude"), "messages")
    assert reply.status == 200, reply
    own, (attempt,) = await collector.told(reply)
    assert genai(own)["provider.name"] == attempt.attributes["gen_ai.provider.name"] == "anthropic"
    assert (own.name, genai(own)["usage.cache_read.input_tokens"]) == ("chat claude", 200)
    assert genai(own)["usage.input_tokens"] == 239, "what was cached is within, as the conventions have it"

    fresh = stage.model()
    own, (attempt,) = await collector.told(await stage.post(ask_messages(fresh.name), "messages"))
    assert (own.name, genai(own)["provider.name"]) == (f"chat {fresh.name}", "openai")


@pytest.mark.parametrize("route", ["chat", "studio"])
async def test_the_panels_routes(stage: Stage, collector: Collector, route: str) -> None:
    fresh = stage.model()
    body = {"message": WORDS, "modelId": f"id-{fresh.name}"}
    own, (attempt,) = await collector.told(await stage.post(body, route, prefix="/api/ai/"))
    assert own.attributes["http.route"] == f"/api/ai/{route}"
    assert own.name == f"chat {fresh.name}"
    assert attempt.attributes["gen_ai.request.model"] == fresh.provider_name


# -- a client's trace


async def traced(stage: Stage, body: Any, *headers: tuple[str, str]) -> Reply:
    return await stage.post(body, headers=headers)


async def test_a_clients_trace_goes_on_through_each_attempt(stage: Stage, collector: Collector) -> None:
    pair = stage.model("pair")
    pair.a.replies(upstream_error(500))
    reply = await traced(stage, pair.chat(), ("traceparent", PARENT), ("tracestate", "rojo=1"))
    own, attempts = await collector.told(reply)
    assert (own.trace, own.parent) == (TRACE_ID, PARENT_ID)
    sent = [(await each.request()) for each in (pair.a, pair.b)]
    assert [each.header("traceparent") for each in sent] == [f"00-{TRACE_ID}-{each.id}-01" for each in attempts]
    assert [each.header("tracestate") for each in sent] == ["rojo=1", "rojo=1"]
    assert all([name for name, _ in each.headers].count("traceparent") == 1 for each in sent)


async def test_a_trace_that_its_caller_does_not_record_passes_as_it_is(stage: Stage, collector: Collector) -> None:
    fresh = stage.model()
    unrecorded = f"00-{TRACE_ID}-{PARENT_ID}-00"
    reply = await traced(stage, fresh.chat(), ("traceparent", unrecorded))
    assert (await fresh.a.request()).header("traceparent") == unrecorded
    await collector.told(await stage.post(fresh.chat()))  # which came after it
    assert reply.header("x-request-id") not in {each.attributes.get("gateway.request_id") for each in collector.spans()}


async def test_no_trace_is_made_up_for_an_upstream(stage: Stage) -> None:
    fresh = stage.model()
    await stage.post(fresh.chat())
    names = {name for name, _ in (await fresh.a.request()).headers}
    assert not names & {"traceparent", "tracestate", "baggage"}


# -- what is never told


async def test_nothing_that_was_said_and_no_credential_is_exported(stage: Stage, collector: Collector) -> None:
    fresh, answered = stage.model("pair"), "an answer that is nobody's business"
    fresh.a.replies(upstream_error(500))
    fresh.b.replies(events(delta(answered), DONE), upstream_error(400, WORDS), answer(200, {"choices": [TOOL_CALL]}))
    about: dict[str, Any] = {"user": WORDS, "metadata": {"secret": WORDS}}
    said = [{"role": "system", "content": WORDS}, {"role": "user", "content": WORDS}]
    headers = [("x-session-id", WORDS), ("x-request-id", "client-said-so"), ("tracestate", "who=client")]
    for more in ({"stream": True}, {}, {}):
        body = ask(fresh.name, **about, **more) | {"messages": said}
        await stage.post(body, headers=headers)
    await stage.post(ask(KEYS["user"]))  # a key where a model belongs
    await stage.get(f"/v1/{WORDS.replace(' ', '-')}?ticket={WORDS.replace(' ', '+')}")
    await collector.told(await stage.post(fresh.chat()))
    exported = collector.exported
    for hidden in (
        WORDS,
        WORDS.replace(" ", "-"),
        answered,
        *KEYS.values(),
        "client-said-so",
        "who=client",
        "weather",
        "sk-",
    ):
        assert hidden.encode() not in exported.replace(COLLECTOR_KEY.encode(), b""), hidden
    for endpoint in ("a", "b"):
        assert upstream_key(f"{fresh.name}.{endpoint}").encode() not in exported
    bodies = b"".join(each.body for each in collector.requests)
    assert f"127.0.0.1:{stage.upstream.port}".encode() not in bodies, "an endpoint is shown by its id"


async def test_the_collector_gets_its_header_and_nobody_else(stage: Stage, collector: Collector) -> None:
    await collector.told(await stage.get("/v1/models"))
    assert {each.header("x-team") for each in collector.requests} == {COLLECTOR_KEY}
    assert COLLECTOR_KEY.encode() not in b"".join(each.body for each in collector.requests)
    assert COLLECTOR_KEY not in stage.gateway.output()
    assert COLLECTOR_KEY.encode() not in (await stage.get("/metrics", key=KEYS["reader"])).body
