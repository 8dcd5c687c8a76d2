"""Behaviours for the fake upstream: what it does with one request.

`raw` is the whole language: bytes go out as they are, an `asyncio.Event` stalls until the test sets it, `CLOSE` and
`RESET` end the connection there. Everything else is built from it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any

from kit.upstream import Behaviour, Received
from kit.wire import UPSTREAM_WORDS


class End(Enum):
    CLOSE = "FIN"
    RESET = "RST"


CLOSE, RESET = End.CLOSE, End.RESET
Step = bytes | asyncio.Event | End

DONE = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"
USAGE = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}
TOOL_CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}}


def raw(*steps: Step) -> Behaviour:
    """Exactly these bytes, each piece a write of its own; events stall, `CLOSE`/`RESET` end."""

    async def behave(request: Received) -> None:
        for step in steps:
            if isinstance(step, bytes):
                await request.send(step)
                await asyncio.sleep(0)  # lets the loop hand the piece over, so that pieces seldom share a read
            elif isinstance(step, asyncio.Event):
                await step.wait()
            elif step is CLOSE:
                request.close()
            else:
                request.reset()

    return behave


def head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status} Because", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def full(
    status: int,
    body: bytes | dict[str, Any] = b"",
    headers: Iterable[tuple[str, str]] = (),
    *,
    content_type: str = "application/json",
) -> bytes:
    """The bytes of a whole answer with its length."""
    payload = json.dumps(body).encode() if isinstance(body, dict) else body
    first = [("content-type", content_type), ("content-length", str(len(payload)))]
    return head(status, [*first, *headers]) + payload


def answer(
    status: int = 200,
    body: bytes | dict[str, Any] = b'{"object":"fake"}',
    headers: Iterable[tuple[str, str]] = (),
    *,
    content_type: str = "application/json",
) -> Behaviour:
    return raw(full(status, body, headers, content_type=content_type))


def upstream_error(status: int, message: str = UPSTREAM_WORDS, **headers: str) -> Behaviour:
    """An error in OpenAI's shape; `retry_after="1"` becomes a header."""
    body = {"error": {"message": message, "type": "upstream_type", "param": None, "code": "upstream_code"}}
    return answer(status, body, [(name.replace("_", "-"), value) for name, value in headers.items()])


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


STREAM_HEAD = head(200, [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")])


def events(*steps: Step, headers: Iterable[tuple[str, str]] = ()) -> Behaviour:
    """A chunked event stream, one chunk a piece; it ends well unless a step ends it otherwise."""
    start = head(200, [("content-type", "text/event-stream"), ("transfer-encoding", "chunked"), *headers])
    framed = [chunk(step) if isinstance(step, bytes) and step else step for step in steps]
    ending: Sequence[Step] = () if any(isinstance(step, End) for step in steps) else (LAST_CHUNK,)
    return raw(start, *framed, *ending)


def event(data: str | dict[str, Any], name: str | None = None) -> bytes:
    text = json.dumps(data) if isinstance(data, dict) else data
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def delta(text: str, **more: Any) -> bytes:
    """One event of a streamed chat completion."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    return event(
        {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]} | more
    )


def usage_only() -> bytes:
    """The event that `include_usage` asks for."""
    frame = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return event(frame | {"choices": [], "usage": USAGE})


def as_openai(text: str = "Hello from the fake upstream") -> Behaviour:
    """Answers each route as OpenAI would, streamed where it was asked to be."""

    async def behave(request: Received) -> None:
        asked = request.json()
        shape = _STREAMED if asked.get("stream") else _PLAIN
        await shape[request.route](asked, text)(request)

    return behave


def _chat(asked: dict[str, Any], text: str) -> Behaviour:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    finish = "stop"
    if asked.get("tools"):
        message, finish = {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}, "tool_calls"
    choice = {"index": 0, "message": message, "finish_reason": finish}
    about = {"id": "c-1", "object": "chat.completion", "created": 1, "model": asked["model"]}
    return answer(200, about | {"choices": [choice], "usage": USAGE})


def _chat_stream(asked: dict[str, Any], text: str) -> Behaviour:
    words = [delta(word, model=asked["model"]) for word in _words(text)]
    usage = [usage_only()] if (asked.get("stream_options") or {}).get("include_usage") else []
    return events(*words, *usage, DONE)


def _completion(asked: dict[str, Any], text: str) -> Behaviour:
    choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
    about = {"id": "t-1", "object": "text_completion", "created": 1, "model": asked["model"]}
    return answer(200, about | {"choices": [choice], "usage": USAGE})


def _completion_stream(asked: dict[str, Any], text: str) -> Behaviour:
    about = {"id": "t-1", "object": "text_completion", "created": 1, "model": asked["model"]}
    choices = [{"index": 0, "text": word, "finish_reason": None, "logprobs": None} for word in _words(text)]
    usage = [event(about | {"choices": [], "usage": USAGE})] if asked.get("stream_options") else []
    return events(*(event(about | {"choices": [choice]}) for choice in choices), *usage, DONE)


def _embeddings(asked: dict[str, Any], text: str) -> Behaviour:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return answer(200, {"object": "list", "data": data, "model": asked["model"], "usage": usage})


def _response(asked: dict[str, Any], text: str, status: str = "completed") -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    message = {"id": "msg-1", "type": "message", "role": "assistant", "status": "completed", "content": content}
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 12,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 21,
    }
    about = {"id": "r-1", "object": "response", "created_at": 1, "model": asked["model"], "status": status}
    more = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    return about | more | {"output": [message] if text else [], "usage": usage if text else None}


def _responses(asked: dict[str, Any], text: str) -> Behaviour:
    return answer(200, _response(asked, text))


def _responses_stream(asked: dict[str, Any], text: str) -> Behaviour:
    return events(*response_events(asked["model"], text))


def response_events(model: str, text: str) -> list[bytes]:
    """The events of a streamed response: created, a delta a word, completed (with the usage)."""
    asked = {"model": model}
    created = {"type": "response.created", "sequence_number": 0, "response": _response(asked, "", "in_progress")}
    where = {"item_id": "msg-1", "output_index": 0, "content_index": 0, "logprobs": []}
    deltas = [
        {"type": "response.output_text.delta", "sequence_number": number, "delta": word} | where
        for number, word in enumerate(_words(text), 1)
    ]
    completed = {"type": "response.completed", "sequence_number": 99, "response": _response(asked, text)}
    return [event(each, name=str(each["type"])) for each in [created, *deltas, completed]]


def _moderations(asked: dict[str, Any], text: str) -> Behaviour:
    return answer(200, {"id": "modr-1", "model": asked["model"], "results": [{"flagged": False}]})


def _images(asked: dict[str, Any], text: str) -> Behaviour:
    return answer(200, {"created": 1, "data": [{"b64_json": "aGVsbG8="}]})


def _speech(asked: dict[str, Any], text: str) -> Behaviour:
    return answer(200, b"ID3\x04\x00\xff\xfb\x90 not really an mp3", content_type="audio/mpeg")


def _words(text: str) -> list[str]:
    first, *others = text.split(" ")
    return [first, *(f" {word}" for word in others)]


_PLAIN: dict[str, Callable[[dict[str, Any], str], Behaviour]] = {
    "chat/completions": _chat,
    "completions": _completion,
    "embeddings": _embeddings,
    "responses": _responses,
    "moderations": _moderations,
    "images/generations": _images,
    "audio/speech": _speech,
}
_STREAMED = _PLAIN | {
    "chat/completions": _chat_stream,
    "completions": _completion_stream,
    "responses": _responses_stream,
}
