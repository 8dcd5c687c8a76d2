"""Anthropic's protocol for the fake upstream: messages, streams, counts, errors."""

from __future__ import annotations

import itertools
import json
from typing import Any

from kit.answers import answer, event, events
from kit.stage import FreshModel, Record, Stage, endpoint, model
from kit.upstream import Behaviour, FakeUpstream, Received
from kit.wire import UPSTREAM_WORDS

VERSION = ("anthropic-version", "2023-06-01")
USAGE = {
    "input_tokens": 9,
    "cache_creation_input_tokens": 30,
    "cache_read_input_tokens": 200,
    "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
    "output_tokens": 12,
    "service_tier": "standard",
}
_numbers = itertools.count()
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
STOP = event({"type": "message_stop"}, "message_stop")


def named(kind: str, **fields: Any) -> bytes:
    """One event, named as it is typed."""
    return event({"type": kind} | fields, kind)


def message(*blocks: dict[str, Any], usage: dict[str, Any] | None = USAGE, **more: Any) -> dict[str, Any]:
    about = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
    told = {} if usage is None else {"usage": usage}
    return about | {"content": list(blocks), "stop_reason": "end_turn"} | told | more


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def start(usage: dict[str, Any] | None = None) -> bytes:
    begun = USAGE | {"output_tokens": 1} if usage is None else usage
    return named("message_start", message=message(usage=begun, stop_reason=None))


def delta(words: str, index: int = 0) -> bytes:
    return named("content_block_delta", index=index, delta={"type": "text_delta", "text": words})


def block(index: int, begun: dict[str, Any], *deltas: dict[str, Any]) -> list[bytes]:
    """The events of one content block."""
    inner = [named("content_block_delta", index=index, delta=each) for each in deltas]
    first = named("content_block_start", index=index, content_block=begun)
    return [first, *inner, named("content_block_stop", index=index)]


def ending(usage: dict[str, Any] | None = None, reason: str = "end_turn") -> list[bytes]:
    told = {"output_tokens": 12} if usage is None else usage
    return [named("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=told), STOP]


def spoken(words: str) -> list[bytes]:
    """A whole stream with one block of text, a delta a word."""
    deltas = [{"type": "text_delta", "text": word} for word in words.split(" ")]
    return [start(), PING, *block(0, text(""), *deltas), *ending()]


def refusal(status: int, kind: str, words: str = UPSTREAM_WORDS) -> Behaviour:
    body = {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_up"}
    return answer(status, body, [("request-id", "req_up")])


def as_anthropic(words: str = "Hello from the fake upstream") -> Behaviour:
    """Answers as the protocol has it, streamed where that was asked for."""

    async def behave(request: Received) -> None:
        asked = request.json()
        if request.route == "messages/count_tokens":
            await answer(200, {"input_tokens": 14})(request)
        elif asked.get("stream"):
            await events(*spoken(words))(request)
        else:
            await answer(200, message(text(words), model=asked["model"]))(request)

    return behave


def speaking(
    upstream: FakeUpstream, name: str, letters: str = "a", *, each: Record | None = None, **more: Any
) -> Record:
    """A model whose endpoints speak Anthropic's protocol, in the order of their priority; `each` is true of all."""
    endpoints = [
        endpoint(upstream, f"{name}.{letter}", priority=place, protocols=["anthropic"], **(each or {}))
        for place, letter in enumerate(letters)
    ]
    for letter in letters:
        upstream.endpoint(f"{name}.{letter}").always(as_anthropic())
    return model(name, endpoints, **more)


def ask(name: str, **fields: Any) -> dict[str, Any]:
    return {"model": name, "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}]} | fields


def written(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def fresh(stage: Stage) -> FreshModel:
    """A model with one endpoint that speaks the protocol, which nobody has used."""
    return _fresh(stage, f"claude-{next(_numbers)}", "a")


def fresh_pair(stage: Stage) -> FreshModel:
    """The same with two."""
    return _fresh(stage, f"claude-pair-{next(_numbers)}", "ab")


def _fresh(stage: Stage, name: str, letters: str) -> FreshModel:
    return FreshModel(name, [stage.upstream.endpoint(f"{name}.{letter}") for letter in letters])
