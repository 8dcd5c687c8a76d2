"""The upstream's side of the task, once in each protocol; every answer reports what it used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agents_kit import LAST_WORDS, Json, has_result, write_input
from kit import Behaviour, events
from kit.answers import DONE, event
from kit.upstream import Received

PROMPT, CACHED, COMPLETION = 100, 60, 7  # tokens of each answer


def speaking(path: Path) -> Behaviour:
    """Answers a stream of each route in the words of its protocol; without tools a title is wanted."""
    scripts = {"messages": _messages, "chat/completions": _chat, "responses": _responses}

    async def behave(request: Received) -> None:
        body = request.json()
        calls = bool(body.get("tools")) and not has_result(body)
        await events(*scripts[request.route](body, path, calls=calls))(request)

    return behave


def _named(kind: str, **fields: Any) -> bytes:
    return event({"type": kind} | fields, name=kind)


def _messages(body: Json, path: Path, *, calls: bool) -> list[bytes]:
    usage = {"input_tokens": PROMPT - CACHED, "cache_read_input_tokens": CACHED, "output_tokens": 1}
    about = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "content": []}
    begun = about | {"stop_reason": None, "stop_sequence": None, "usage": usage}
    if calls:
        block: Json = {"type": "tool_use", "id": "toolu_1", "name": "write", "input": {}}
        delta = {"type": "input_json_delta", "partial_json": write_input(path)}
    else:
        block, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": LAST_WORDS}
    ending = {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}
    return [
        _named("message_start", message=begun),
        _named("content_block_start", index=0, content_block=block),
        _named("content_block_delta", index=0, delta=delta),
        _named("content_block_stop", index=0),
        _named("message_delta", delta=ending, usage={"output_tokens": COMPLETION}),
        _named("message_stop"),
    ]


def _chat(body: Json, path: Path, *, calls: bool) -> list[bytes]:
    about = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}

    def chunk(delta: Json, finish: str | None = None) -> bytes:
        return event(about | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    def call(arguments: str, **more: Any) -> bytes:
        function = {"arguments": arguments} | ({"name": "write"} if more else {})
        return chunk({"tool_calls": [{"index": 0, "function": function} | more]})

    if calls:
        given = write_input(path)
        said = [call("", id="call_1", type="function"), call(given[:9]), call(given[9:])]
    else:
        said = [chunk({"content": word}) for word in LAST_WORDS.partition(" ")]
    usage = {
        "prompt_tokens": PROMPT,
        "prompt_tokens_details": {"cached_tokens": CACHED},
        "completion_tokens": COMPLETION,
        "total_tokens": PROMPT + COMPLETION,
    }
    last = [event(about | {"choices": [], "usage": usage})] if body.get("stream_options") else []
    return [
        chunk({"role": "assistant", "content": ""}),
        *said,
        chunk({}, "tool_calls" if calls else "stop"),
        *last,
        DONE,
    ]


def _responses(body: Json, path: Path, *, calls: bool) -> list[bytes]:
    about = {"id": "resp_1", "object": "response", "created_at": 1, "model": body["model"], "tools": []}
    about |= {"parallel_tool_calls": True, "tool_choice": "auto"}
    if calls:
        names = [tool.get("name") for tool in body["tools"]]
        name, given = ("write", write_input(path)) if "write" in names else ("exec_command", _command(path))
        item: Json = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": name, "arguments": given}
    else:
        text = {"type": "output_text", "text": LAST_WORDS, "annotations": []}
        item = {"id": "msg_1", "type": "message", "role": "assistant", "content": [text]}
    item["status"] = "completed"
    usage = {
        "input_tokens": PROMPT,
        "input_tokens_details": {"cached_tokens": CACHED},
        "output_tokens": COMPLETION,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": PROMPT + COMPLETION,
    }
    created = about | {"status": "in_progress", "output": []}
    completed = about | {"status": "completed", "output": [item], "usage": usage}
    return [
        _named("response.created", sequence_number=0, response=created),
        _named("response.output_item.added", sequence_number=1, output_index=0, item=_begun(item)),
        *([] if calls else _text_events(item)),
        _named("response.output_item.done", sequence_number=9, output_index=0, item=item),
        _named("response.completed", sequence_number=10, response=completed),
    ]


def _begun(item: Json) -> Json:
    return item | {"status": "in_progress"} | ({"arguments": ""} if "arguments" in item else {"content": []})


def _text_events(item: Json) -> list[bytes]:
    where = {"item_id": item["id"], "output_index": 0, "content_index": 0, "logprobs": []}
    return [_named("response.output_text.delta", sequence_number=2, delta=LAST_WORDS, **where)]


def _command(path: Path) -> str:
    """The input of Codex's tool that runs a command."""
    return json.dumps({"cmd": f"printf 'Hello from the agent' > {path}"})
