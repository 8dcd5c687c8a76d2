"""What goes over the wire: the requests, the answers they must get, and a reader that tells when an answer is whole."""

from __future__ import annotations

import json
from typing import Any

import httptools

MODEL = "bench-model"
PROVIDER_MODEL = "bench-model-2026-01-01"
ANSWER_BYTES = 320
EVENTS_PER_STREAM = 100
TICK_SECONDS = 0.02

# The header lines that the official Python client sends: a proxy has to parse and pass on as many.
CLIENT_HEADERS = """\
accept-encoding: gzip, deflate
connection: keep-alive
accept: application/json
content-type: application/json
user-agent: OpenAI/Python 2.8.0
x-stainless-lang: python
x-stainless-package-version: 2.8.0
x-stainless-os: Linux
x-stainless-arch: x64
x-stainless-runtime: CPython
x-stainless-runtime-version: 3.11.7
x-stainless-async: false
x-stainless-retry-count: 0
x-stainless-read-timeout: 600"""

MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant. Answer in one short paragraph and name your sources."},
    {"role": "user", "content": "Why is the sky blue at noon, and why does it turn red in the evening?"},
]


def compact(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def request_bytes(port: int, key: str, *, stream: bool) -> bytes:
    """A whole POST of a chat completion, head and body, as the official client would word it."""
    body: dict[str, Any] = {"messages": MESSAGES, "model": MODEL, "temperature": 0.7}
    if stream:
        body["stream"] = True
    content = compact(body)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\nhost: 127.0.0.1:{port}\nauthorization: Bearer {key}\n"
        f"{CLIENT_HEADERS}\ncontent-length: {len(content)}\n\n"
    )
    return head.replace("\n", "\r\n").encode() + content


def _answer(text: str) -> bytes:
    return compact(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": 1767225600,
            "model": PROVIDER_MODEL,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 42, "completion_tokens": 21, "total_tokens": 63},
        }
    )


def _event(**fields: Any) -> bytes:
    shared = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1767225600,
        "model": PROVIDER_MODEL,
        "system_fingerprint": "fp_bench",
    }
    return b"data: " + compact(shared | fields) + b"\n\n"


def _word(number: int) -> bytes:
    delta = {"index": 0, "delta": {"content": f" word{number:03}"}, "logprobs": None, "finish_reason": None}
    return _event(choices=[delta])


ANSWER = _answer("." * (ANSWER_BYTES - len(_answer(""))))
EVENTS = (*(_word(number) for number in range(1, EVENTS_PER_STREAM)), b"data: [DONE]\n\n")
USAGE_EVENT = _event(choices=[], usage={"prompt_tokens": 42, "completion_tokens": 99, "total_tokens": 141})
STREAM = b"".join(EVENTS)


def count_events(body: bytes) -> int:
    return body.count(b"\n\n")


class AnswerReader:
    """Reads the answers of one keep-alive connection on which no request is sent before the last answer is whole."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._complete = False

    @property
    def partial(self) -> bytes:
        """What has come of the answer under way."""
        return b"".join(self._parts)

    def feed(self, data: bytes) -> tuple[int, bytes] | None:
        """Status and body once the answer is whole, else None. Raises `httptools.HttpParserError` on bad HTTP."""
        self._parser.feed_data(data)
        if not self._complete:
            return None
        body = self.partial
        self._parts.clear()
        self._complete = False
        return self._parser.get_status_code(), body

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self._complete = True
