"""What goes over the wire: the requests, the answers they must get, and a reader that tells when an answer is whole."""

from __future__ import annotations

import base64
import random
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

import httptools
import orjson

MODEL = "bench-model"
PROVIDER_MODEL = "bench-model-2026-01-01"
ANSWER_BYTES = 320
DONE = b"data: [DONE]\n\n"
NUMBER = "0" * 12  # of a request, where heads bear one

BodyKind = Literal["chat", "stream", "image"]

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

SYSTEM = {
    "role": "system",
    "content": "You are a helpful assistant. Answer in one short paragraph and name your sources.",
}
QUESTION = "Why is the sky blue at noon, and why does it turn red in the evening?"


class Request(NamedTuple):
    """A whole POST of a chat completion, as the official client would word it, but for the key in its middle."""

    before_key: bytes
    after_key: bytes

    def with_key(self, key: bytes) -> bytes:
        return self.before_key + key + self.after_key


def make_request(port: int, body: bytes, headers: Mapping[str, str]) -> Request:
    """`headers` go beside those of the client: what a peer has to be told with each request."""
    more = "".join(f"{name}: {value}\n" for name, value in headers.items())
    before = f"POST /v1/chat/completions HTTP/1.1\nhost: 127.0.0.1:{port}\nauthorization: Bearer "
    after = f"\n{CLIENT_HEADERS}\n{more}content-length: {len(body)}\n\n"
    return Request(_lines(before), _lines(after) + body)


def _lines(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def body_bytes(kind: BodyKind, megabytes: float = 0) -> bytes:
    """A chat completion's JSON: small, streamed, or with an image in base64 that makes it `megabytes` long."""
    content: Any = QUESTION if kind != "image" else _question_with_image(megabytes)
    body = {"messages": [SYSTEM, {"role": "user", "content": content}], "model": MODEL, "temperature": 0.7}
    return orjson.dumps(body | {"stream": True} if kind == "stream" else body)


def _question_with_image(megabytes: float) -> list[dict[str, Any]]:
    picture = base64.b64encode(random.Random(7).randbytes(int(megabytes * 2**20 * 3 / 4))).decode()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
    return [{"type": "text", "text": QUESTION}, image]


def _answer(text: str) -> bytes:
    return orjson.dumps(
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
    return b"data: " + orjson.dumps(shared | fields) + b"\n\n"


def _word(number: int) -> bytes:
    delta = {"index": 0, "delta": {"content": f" word{number:03}"}, "logprobs": None, "finish_reason": None}
    return _event(choices=[delta])


ANSWER = _answer("." * (ANSWER_BYTES - len(_answer(""))))
USAGE_EVENT = _event(choices=[], usage={"prompt_tokens": 42, "completion_tokens": 99, "total_tokens": 141})


@cache
def stream_events(count: int) -> tuple[bytes, ...]:
    """The events of one stream, `[DONE]` among them."""
    return (*(_word(number) for number in range(1, count)), DONE)


def count_events(body: bytes) -> int:
    return body.count(b"\n\n")


class Expected:
    """The answer that a request must get. A target that words answers anew is held to the same text in them."""

    def __init__(self, kind: BodyKind, events: int, *, byte_exact: bool) -> None:
        self._is_stream = kind == "stream"
        self._body = b"".join(stream_events(events)) if self._is_stream else ANSWER
        self._text = None if byte_exact else self._spoken(self._body)

    def is_met_by(self, status: int, body: bytes) -> bool:
        if status != 200:
            return False
        return body == self._body if self._text is None else self._says_the_same(body)

    def _says_the_same(self, body: bytes) -> bool:
        try:
            return self._spoken(body) == self._text
        except (ValueError, LookupError, TypeError):
            return False

    def _spoken(self, body: bytes) -> str:
        """The assistant's words; raises where it is no answer."""
        if not self._is_stream:
            return str(orjson.loads(body)["choices"][0]["message"]["content"])
        events = [orjson.loads(line[6:]) for line in body.split(b"\n\n") if line and line != DONE.strip()]
        choices = [choice for event in events for choice in event["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)


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
