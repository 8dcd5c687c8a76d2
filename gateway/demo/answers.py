"""Build whole answers of an OpenAI-like upstream, as bytes.

A fault can be put into them.

Usage is an honest count, so that a ledger can be checked against it: words of the question, words of the answer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

JSON = "application/json"
EVENTS = "text/event-stream"
DONE = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"
_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class Asked(NamedTuple):
    """A request to the upstream.

    `number` is this answer's, unique in the life of the upstream.
    """

    route: str  # as `chat/completions`
    fields: dict[str, Any]
    number: int

    @property
    def stream(self) -> bool:
        return self.fields.get("stream") is True and self.route in ("chat/completions", "completions", "responses")

    @property
    def wants_usage(self) -> bool:
        return self.route == "responses" or bool((self.fields.get("stream_options") or {}).get("include_usage"))

    @property
    def id(self) -> str:
        return f"answer-{self.number}"

    @property
    def words(self) -> list[str]:
        """The answer's text: two to ten words."""
        return list(_WORDS[: 2 + self.number % 9])

    @property
    def usage(self) -> dict[str, int]:
        prompt = prompt_words(self.fields)
        if self.route == "embeddings":
            return {"prompt_tokens": prompt, "total_tokens": prompt}
        names = ("input_tokens", "output_tokens") if self.route == "responses" else _CHAT_NAMES
        return {names[0]: prompt, names[1]: len(self.words), "total_tokens": prompt + len(self.words)}


_CHAT_NAMES = ("prompt_tokens", "completion_tokens")


def prompt_words(fields: dict[str, Any]) -> int:
    """How many words were asked; 1 at least."""
    return max(1, sum(len(text.split()) for text in _texts(fields)))


def _texts(fields: dict[str, Any]) -> Iterable[str]:
    messages = fields.get("messages")
    parts = [each.get("content") for each in messages if isinstance(each, dict)] if isinstance(messages, list) else []
    return [text for text in (*parts, fields.get("prompt"), fields.get("input")) if isinstance(text, str)]


def head(status: int, content_type: str, *headers: tuple[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {'OK' if status == 200 else 'Fault'}", f"content-type: {content_type}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers)]).encode("latin-1") + b"\r\n\r\n"


def sized(status: int, body: bytes, *headers: tuple[str, str], content_type: str = JSON) -> bytes:
    """A whole answer with its length."""
    return head(status, content_type, ("content-length", str(len(body))), *headers) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def chunked(pieces: Iterable[bytes], *headers: tuple[str, str], content_type: str = EVENTS) -> bytes:
    """A whole answer in chunks, one a piece."""
    first = head(200, content_type, ("transfer-encoding", "chunked"), *headers)
    return first + b"".join(map(chunk, pieces)) + LAST_CHUNK


def error(message: str, kind: str = "server_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def document(asked: Asked, usage: dict[str, int] | None) -> bytes:
    """Return a whole answer's body, with or without `usage`."""
    text = " ".join(asked.words)
    body: dict[str, Any] = {"id": asked.id, "object": asked.route, "created": 0, "model": asked.fields.get("model")}
    if asked.route == "chat/completions":
        body["choices"] = [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]
    elif asked.route == "completions":
        body["choices"] = [{"index": 0, "text": text, "finish_reason": "stop"}]
    elif asked.route == "embeddings":
        body["data"] = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}]
    elif asked.route == "responses":
        body |= {"status": "completed", "output": [_message(text)]}
    return orjson.dumps(body if usage is None else body | {"usage": usage})


def events(asked: Asked, *usages: dict[str, int]) -> list[bytes]:
    """Return a streamed answer's events.

    A word each, then one for each usage (where it was asked for), then the end.
    """
    reports = usages if asked.wants_usage else ()
    if asked.route == "responses":
        return _response_events(asked, reports)
    about = {"id": asked.id, "object": f"{asked.route}.chunk", "created": 0, "model": asked.fields.get("model")}
    is_chat = asked.route == "chat/completions"
    choices = [
        {"index": 0, **({"delta": {"content": f"{word} "}} if is_chat else {"text": f"{word} "}), "finish_reason": None}
        for word in asked.words
    ]
    parts = [event(about | {"choices": [choice]}) for choice in choices]
    return [*parts, *(event(about | {"choices": [], "usage": usage}) for usage in reports), DONE]


def event(data: dict[str, Any], name: str | None = None) -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: %b\n\n" % orjson.dumps(data)


def _response_events(asked: Asked, usages: Iterable[dict[str, int]]) -> list[bytes]:
    numbers = itertools.count()
    parts: list[dict[str, Any]] = [
        {"type": "response.output_text.delta", "sequence_number": next(numbers), "item_id": asked.id, "delta": word}
        for word in asked.words
    ]
    output = [_message(" ".join(asked.words))]
    about: dict[str, Any] = {"id": asked.id, "object": "response", "status": "completed", "output": output}
    ends: list[dict[str, Any]] = [about | {"usage": usage} for usage in usages] or [about]
    parts += [{"type": "response.completed", "sequence_number": next(numbers), "response": end} for end in ends]
    return [event(each, str(each["type"])) for each in parts]


def _message(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
