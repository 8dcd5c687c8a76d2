"""The ports by which a relay answers its client.

A whole answer is `on_answer` or `on_refusal`, then `on_end`. A stream is `on_head`, any number of `on_event`, then
`on_end` or `on_error`; a heartbeat may begin it before it is known what the upstream answers, even with a whole answer.
A fault before anything has gone out is raised by the relay instead. Whatever sends raises ConnectionResetError where
the client has gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from gateway.dialects.base import Translated, Usage
from gateway.errors import GatewayError, UpstreamFailed
from gateway.proxy.refusals.masking import readable

Fields = list[tuple[str, str]]
_OF_THE_BODY = ("content-type", "content-encoding")
_JSON = ("content-type", "application/json")


class Head(NamedTuple):
    """The head of an answer."""

    status: int
    passed: Fields  # the upstream's fields that clients may see
    own: Fields  # what the gateway says of itself


class Responder(Protocol):
    """The client's side of one answer."""

    @property
    def started(self) -> bool:
        """Whether anything was sent, so that errors go in-band."""

    def on_head(self, head: Head) -> None:
        """Begin a stream."""

    def on_heartbeat(self) -> None:
        """Give a sign of life."""

    def on_event(self, data: bytes) -> None:
        """Send whole events, or a piece of an oversized one.

        Or of what is too strange to be cut into events.
        """

    def on_answer(self, head: Head, body: bytes, encoding: bytes) -> None:
        """Take a whole answer; `encoding`: how it is compressed.

        Raises UpstreamFailed where it cannot go into the stream that has begun.
        """

    def on_refusal(self, head: Head, body: bytes, text: bytes) -> None:
        """Take an upstream's refusal; `text`: its body, unpacked."""

    def on_error(self, fault: GatewayError, number: int | None) -> None:
        """End a stream with a fault.

        `number`: the event's `sequence_number`; None within an event, where nothing can be added.
        """

    def on_end(self, usage: Usage | None) -> None:
        """End the answer well; `usage`: as the upstream reported it."""


class Client(Protocol):
    """The client's connection."""

    def watch(self, on_pressure: Callable[[bool], None] | None) -> None:
        """Cancel the request when its client leaves; report its pressure.

        `on_pressure(paused)` as its answer piles up or drains.
        """

    def unwatch(self) -> None:
        """End what `watch` began."""


class TranslatingResponder:
    """Stand before a responder and put each piece of an answer back."""

    def __init__(self, inner: Responder, translated: Translated) -> None:
        self._inner = inner
        self._translated = translated
        self._is_stream = False

    @property
    def started(self) -> bool:
        return self._inner.started

    def on_head(self, head: Head) -> None:
        if any(name == "content-encoding" for name, _ in head.passed):
            raise UpstreamFailed("The model's answer came in a form that cannot be translated.")
        self._inner.on_head(self._marked(head, head.passed))

    def on_heartbeat(self) -> None:
        self._inner.on_heartbeat()

    def on_event(self, data: bytes) -> None:
        self._is_stream = True
        self._send(self._translated.events(data))

    def on_answer(self, head: Head, body: bytes, encoding: bytes) -> None:
        content = readable(body, encoding)
        whole = self._translated.whole(content) if content is not None else None
        if whole is None:
            raise UpstreamFailed("The model's answer came in a form that cannot be translated.")
        self._inner.on_answer(self._marked(head, _as_json(head.passed)), whole, b"")

    def on_refusal(self, head: Head, body: bytes, text: bytes) -> None:
        refusal = self._translated.refusal(head.status, text)
        self._inner.on_refusal(self._marked(head, _as_json(head.passed)), refusal, refusal)

    def on_error(self, fault: GatewayError, number: int | None) -> None:
        self._inner.on_error(fault, number)

    def on_end(self, usage: Usage | None) -> None:
        if self._is_stream:
            self._send(self._translated.end())
        self._inner.on_end(usage)

    def _send(self, events: bytes) -> None:
        if events:
            self._inner.on_event(events)

    def _marked(self, head: Head, passed: Fields) -> Head:
        dropped = self._translated.dropped
        own = [*head.own, ("x-gateway-dropped", ", ".join(dropped))] if dropped else head.own
        return Head(head.status, passed, own)

    def __repr__(self) -> str:
        return f"<TranslatingResponder for {self._inner!r}>"


def _as_json(passed: Fields) -> Fields:
    return [_JSON, *(field for field in passed if field[0] not in _OF_THE_BODY)]
