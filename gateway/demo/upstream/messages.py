"""Messages, Anthropic's protocol, and how many tokens one would take."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
from aiohttp import web

from gateway.demo.upstream.bodies import answer, event, fields_of, stream
from gateway.demo.upstream.desk import Json, Refused, new_id
from gateway.demo.upstream.invented import chosen_tool
from gateway.demo.upstream.words import answer_words, count_words

_TYPES = {404: "not_found_error", 413: "request_too_large"}


async def create_message(request: web.Request) -> web.StreamResponse:
    fields = await fields_of(request, "model", "messages", "max_tokens")
    whole = _message(fields)
    return await stream(request, _events(whole)) if fields.get("stream") is True else answer(whole)


async def count_tokens(request: web.Request) -> web.StreamResponse:
    fields = await fields_of(request, "model", "messages")
    return answer({"input_tokens": _prompt_tokens(fields)})


def error_body(refused: Refused) -> bytes:
    """An error as this protocol has it."""
    error = {"type": _TYPES.get(refused.status, "invalid_request_error"), "message": refused.body["message"]}
    return orjson.dumps({"type": "error", "error": error, "request_id": new_id("req_")})


def _message(fields: Json) -> Json:
    words, is_cut = answer_words(fields)
    block: Json = {"type": "text", "text": " ".join(words)}
    reason, count = "max_tokens" if is_cut else "end_turn", len(words)
    tool = _tool(fields)
    if tool is not None:
        block = {"type": "tool_use", "id": new_id("toolu_"), "name": tool[0], "input": orjson.loads(tool[1])}
        reason, count = "tool_use", max(1, len(tool[1].split()))
    return {
        "id": new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": fields["model"],
        "content": [block],
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": _prompt_tokens(fields),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": count,
            "service_tier": "standard",
        },
    }


def _tool(fields: Json) -> tuple[str, str] | None:
    """Choose a tool, unless a tool's result was just given."""
    messages, choice = fields["messages"], fields.get("tool_choice")
    last = messages[-1].get("content") if isinstance(messages, list) and messages else None
    if isinstance(last, list) and any(isinstance(each, dict) and each.get("type") == "tool_result" for each in last):
        return None
    tools = [
        {"type": "function", "name": each.get("name"), "parameters": each.get("input_schema")}
        for each in fields.get("tools") or ()
        if isinstance(each, dict)
    ]
    return chosen_tool(tools, "none" if choice == {"type": "none"} else choice, str(last))


def _prompt_tokens(fields: Json) -> int:
    return max(1, count_words([fields.get(name) for name in ("system", "messages", "tools")]))


def _events(whole: Json) -> Iterator[bytes]:
    usage = whole["usage"]
    begun = {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    yield _event("message_start", message=whole | begun)
    block = whole["content"][0]
    empty: Json = {"text": ""} if block["type"] == "text" else {"input": {}}
    yield _event("content_block_start", index=0, content_block=block | empty)
    yield _event("ping")
    for delta in _deltas(block):
        yield _event("content_block_delta", index=0, delta=delta)
    yield _event("content_block_stop", index=0)
    stopped = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield _event("message_delta", delta=stopped, usage={"output_tokens": usage["output_tokens"]})
    yield _event("message_stop")


def _deltas(block: Json) -> Iterator[Json]:
    if block["type"] != "text":
        yield {"type": "input_json_delta", "partial_json": orjson.dumps(block["input"]).decode()}
        return
    words = block["text"].split(" ")
    for place, word in enumerate(words):
        yield {"type": "text_delta", "text": word if place == len(words) - 1 else f"{word} "}


def _event(kind: str, **fields: object) -> bytes:
    return event({"type": kind, **fields}, kind)


ROUTES = [web.post("/messages", create_message), web.post("/messages/count_tokens", count_tokens)]
