"""Answer OpenAI clients: the upstream's bytes, and errors of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.dialects import openai
from gateway.dialects.base import EventRules, Usage
from gateway.errors import GatewayError, UpstreamFailed
from gateway.http.message import Request
from gateway.http.reply import Answer, EventStream, Reply
from gateway.proxy.refusals.masking import readable
from gateway.proxy.responder import Head

_STREAM_FIELDS = (("cache-control", "no-cache"), ("x-accel-buffering", "no"))
_HEARTBEAT = b": waiting for the model\n\n"


class OpenAIResponder(EventStream):
    """Answer byte for byte. `reply` is there once the relay is done."""

    def __init__(self, request: Request, rules: EventRules) -> None:
        self._request, self._rules = request, rules
        self._answer: Answer | None = None

    @property
    def reply(self) -> Reply:
        """The whole answer, or the stream that has been sent."""
        return self._answer or self

    def on_head(self, head: Head) -> None:
        self.start(self._request, head.status, [*head.passed, *_STREAM_FIELDS, *head.own])

    def on_heartbeat(self) -> None:
        self.send(_HEARTBEAT)

    @property
    def on_event(self) -> Callable[[bytes], None]:
        """Nothing stands between an upstream's read and the client's transport."""
        return self.send if self._connection is None else self._connection.send

    @property
    def chunked(self) -> asyncio.WriteTransport | None:
        """The client's transport, where its answer is chunked."""
        return self._connection.chunked if self._connection is not None else None

    def on_answer(self, head: Head, body: bytes, encoding: bytes) -> None:
        """Send a whole answer, or one event after a heartbeat.

        As one event of the stream that the heartbeat has begun.
        """
        if self._connection is None:
            self._answer = Answer(head.status, head.passed + head.own, body)
            return
        content = readable(body, encoding)
        events = openai.whole_as_events(content) if content is not None else None
        if events is None:
            raise UpstreamFailed("The model could not answer this request.")
        self.send(events)

    def on_refusal(self, head: Head, body: bytes, text: bytes) -> None:
        if self.started:
            self.send(self._rules.refusal_event(text))
        else:
            self._answer = Answer(head.status, [*head.passed, *head.own], body)

    def on_error(self, fault: GatewayError, number: int | None) -> None:
        """End with an event, or cut the stream.

        It is cut where the client would take an event for a part of the answer.
        """
        if number is None:
            self.cut()
        else:
            self.send(self._rules.error_event(fault, number))
            self.finish()

    def on_end(self, usage: Usage | None) -> None:
        if self._connection is not None:
            self.finish()
