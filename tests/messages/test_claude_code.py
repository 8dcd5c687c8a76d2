"""What Claude Code asks of a gateway, as its documentation says, request by request.

A base URL and a bearer token; discovery of models; `?beta=true`; betas and versions unchanged; token counts; streams
with thinking, signatures, cache fields and pings unchanged; errors in its shape; an id for each request.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from kit import KEYS, Reply, Stage, Wire, events, request_bytes
from kit.messages import PING, block, ending, fresh, named, refusal, start

BETAS = "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27"
HEADERS = [
    ("accept", "application/json"),
    ("anthropic-version", "2023-06-01"),
    ("anthropic-beta", BETAS),
    ("anthropic-dangerous-direct-browser-access", "true"),
    ("user-agent", "claude-cli/2.1.0 (external, cli)"),
    ("x-app", "cli"),
    ("x-stainless-lang", "js"),
    ("x-stainless-retry-count", "0"),
    ("x-stainless-timeout", "600"),
]
CACHED = {"type": "ephemeral"}


def asked(name: str, **more: Any) -> dict[str, Any]:
    """A request of its main loop."""
    return {
        "model": name,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "<system-reminder>", "cache_control": CACHED}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "", "signature": "EqQBCgIYAg=="},
                    {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"file_path": "/etc/hosts"}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "127.0.0.1"}]},
        ],
        "system": [{"type": "text", "text": "You are Claude Code", "cache_control": CACHED}],
        "tools": [{"name": "Read", "description": "Reads", "input_schema": {"type": "object"}}],
        "metadata": {"user_id": "user_1_account__session_2"},
        "max_tokens": 32_000,
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "medium"},
        "stream": True,
    } | more


async def sent(stage: Stage, method: str, target: str, body: dict[str, Any] | None = None, **more: Any) -> Reply:
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes(method, target, body, key=KEYS["user"], headers=[*HEADERS, *more.items()]))
        return await wire.reply()


async def test_discovery(stage: Stage) -> None:
    reply = await sent(stage, "GET", "/v1/models?limit=1000")
    page = reply.json()
    assert (reply.status, page["has_more"]) == (200, False)
    ids = [each["id"] for each in page["data"]]
    assert {"claude-0", "claude-mixed", "mixed"} <= set(ids)
    assert all(each["type"] == "model" and each["display_name"] for each in page["data"])


async def test_a_turn(stage: Stage) -> None:
    """All of the body but the model, betas, version and query reach the upstream; its events come back as they were."""
    model = fresh(stage)
    thought = [{"type": "thinking_delta", "thinking": "…"}, {"type": "signature_delta", "signature": "EqQBCgIYAg=="}]
    called = {"type": "tool_use", "id": "toolu_2", "name": "Read", "input": {}}
    given = [{"type": "input_json_delta", "partial_json": part} for part in ("", '{"file_path": "', '/x"}')]
    usage = {
        "input_tokens": 3,
        "cache_read_input_tokens": 9_000,
        "cache_creation_input_tokens": 120,
        "output_tokens": 44,
    }
    managed = {"applied_edits": [{"type": "clear_thinking_20251015", "cleared_thinking_turns": 1}]}
    events_sent = [
        start(),
        PING,
        *block(0, {"type": "thinking", "thinking": "", "signature": ""}, *thought),
        *block(1, called, *given),
        named("message_delta", delta={"stop_reason": "tool_use"}, usage=usage, context_management=managed),
        ending()[-1],
    ]
    model.a.replies(events(*events_sent))
    body = asked(model.name)
    reply = await sent(stage, "POST", "/v1/messages?beta=true", body)
    assert reply.body == b"".join(events_sent)
    assert reply.header("content-type") == "text/event-stream"
    assert reply.header("request-id")
    request = model.a.requests[0]
    assert request.target.endswith("/messages?beta=true")
    assert request.body == json.dumps(body).replace(model.name, model.provider_name, 1).encode()
    assert request.header("anthropic-beta") == BETAS
    assert request.header("anthropic-version") == "2023-06-01"
    names = [name for name, _ in request.headers]
    assert not [name for name in names if name.startswith("x-stainless") or name in ("x-app", "authorization")]


async def test_a_small_question_that_is_not_streamed(stage: Stage) -> None:
    model = fresh(stage)
    body = asked(model.name, max_tokens=1, stream=False)
    reply = await sent(stage, "POST", "/v1/messages?beta=true", body)
    assert (reply.status, reply.json()["type"]) == (200, "message")


async def test_counting_tokens(stage: Stage) -> None:
    model = fresh(stage)
    body = {key: value for key, value in asked(model.name).items() if key in ("model", "messages", "system", "tools")}
    reply = await sent(stage, "POST", "/v1/messages/count_tokens?beta=true", body)
    assert reply.json() == {"input_tokens": 14}
    assert model.a.requests[0].target.endswith("/messages/count_tokens?beta=true")


@pytest.mark.parametrize(("status", "kind"), [(400, "invalid_request_error"), (413, "request_too_large")])
async def test_the_upstreams_words_of_an_error(stage: Stage, status: int, kind: str) -> None:
    """It reads `prompt is too long` and compacts the conversation."""
    model = fresh(stage)
    model.a.replies(refusal(status, kind, "prompt is too long: 210000 tokens > 200000 maximum"))
    reply = await sent(stage, "POST", "/v1/messages?beta=true", asked(model.name))
    assert reply.status == status
    assert reply.json()["error"]["message"].startswith("prompt is too long")


async def test_what_it_asks_besides_is_answered_at_once(stage: Stage) -> None:
    """It goes on without them; an answer in another shape would be shown as an error."""
    for method, path in (("POST", "/v1/files"), ("GET", "/v1/skills"), ("POST", "/v1/messages/batches")):
        reply = await sent(stage, method, path, {} if method == "POST" else None)
        assert (reply.status, reply.json()["error"]["type"]) == (404, "not_found_error")


async def test_a_head_request_at_the_root_is_answered(stage: Stage) -> None:
    """By which it looks whether there is anybody."""
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes("HEAD", "/", headers=HEADERS))
        assert (await wire.reply(bodiless=True)).status in (200, 404)
