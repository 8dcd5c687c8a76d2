"""The ports by which a relay answers its client.

A whole answer is `on_answer` or `on_refusal`, then `on_end`. A stream is `on_head`, any number of `on_event`, then
`on_end` or `on_error`; a heartbeat may begin it before it is known what the upstream answers, even with a whole answer.
A fault before anything has gone out is raised by the relay instead. Whatever sends raises ConnectionResetError where
the client has gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway.dialects.base import Usage
from gateway.errors import GatewayError

Field = tuple[str, str]
Fields = list[Field]


class Head(msgspec.Struct, frozen=True):
    """The head of an answer."""

    status: int
    passed: Fields  # the upstream's fields that clients may see
    own: Fields  # what the gateway says of itself


class Responder(Protocol):
    """The client's side of one answer."""

    @property
    def started(self) -> bool:
        """Whether anything was sent, so that errors go in-band."""

    @property
    def chunked(self) -> asyncio.WriteTransport | None:
        """The client's transport, where chunks go to it as they come.

        None where its answer is framed otherwise, or worded anew.
        """

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
