"""Translate a stream of chat completions event by event.

The events' data in, events out; no sockets, and no framing.
"""

from __future__ import annotations

from collections.abc import Collection

from gateway.dialects.anthropic.message_shapes import PING
from gateway.dialects.anthropic.translation.blocks import Blocks, event
from gateway.dialects.anthropic.translation.chat_errors import stream_error
from gateway.dialects.anthropic.translation.completion import (
    UntranslatableAnswer,
    calls_in,
    choice_in,
    estimated_usage,
    function_of,
    message_id,
    model_in,
    parsed,
    reasoning_in,
    stop_of,
    text_in,
    usage_fields,
)
from gateway.dialects.anthropic.translation.hints import Json
from gateway.dialects.openai.metering.usage_report import last_usage, usage_of
from gateway.types import Usage

_DONE = b"[DONE]"


class MessageStream:
    """One streamed message.

    `prompt_tokens`: an estimate for the beginning, where nothing is reported yet. `otherwise`, `model`: its id and
    model where the upstream names none. `stops`: the request's own sequences.
    """

    __slots__ = (
        "_blocks",
        "_characters",
        "_choice",
        "_has_refused",
        "_model",
        "_otherwise",
        "_prompt_tokens",
        "_stops",
        "ended",
        "failed",
        "started",
        "usage",
    )

    def __init__(self, *, otherwise: str, model: str, prompt_tokens: int, stops: Collection[str] = ()) -> None:
        self.started = False
        self.ended = False  # well or not: nothing may follow
        self.failed = False
        self.usage: Usage | None = None  # as reported last
        self._otherwise = otherwise
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._stops = stops
        self._blocks = Blocks(otherwise)
        self._choice: Json | None = None  # the one that had a `finish_reason`
        self._has_refused = False
        self._characters = 0

    def __repr__(self) -> str:
        return f"<MessageStream{' started' * self.started}{' ended' * self.ended}>"

    def feed(self, data: bytes, name: bytes | None = None) -> bytes:
        """Translate one event of the upstream's, by its data and its name."""
        data = data.strip()
        if self.ended or not data:
            return b""
        if data == _DONE:
            return self._finish()
        if not data.startswith(b"{"):  # a sign of life
            return b""
        try:
            found = parsed(data)
            error = found.get("error")
            if error or name == b"error":
                return self.fail(stream_error(error or found))
            return self._chunk(found)
        except UntranslatableAnswer as why:
            return self.break_off(why)

    def end(self) -> bytes:
        """End the message where the upstream's stream has ended cleanly without `[DONE]`."""
        if self.ended or self._choice is not None:
            return self._finish()
        return self.break_off(UntranslatableAnswer("it has ended without saying so"))

    def _finish(self) -> bytes:
        if self.ended:
            return b""
        if not self.started:
            return self.break_off(UntranslatableAnswer("it has ended before it began"))
        try:
            closed = self._blocks.end()
        except UntranslatableAnswer as why:
            return self.break_off(why)
        self.ended = True
        has_calls = self._blocks.has_calls
        reason, sequence = stop_of(self._choice or {}, self._stops, calls=has_calls, refuses=self._has_refused)
        told = self.usage or estimated_usage(self._prompt_tokens, self._characters)
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        ending = {"type": "message_delta", "delta": delta, "usage": usage_fields(told)}
        return closed + event(b"message_delta", ending) + event(b"message_stop", {"type": "message_stop"})

    def fail(self, error: bytes) -> bytes:
        """End with an error; what is not whole stays open."""
        if self.ended:
            return b""
        self.ended = self.failed = True
        return error

    def break_off(self, why: UntranslatableAnswer) -> bytes:
        """End with an error of ours about what the upstream sent."""
        message = f"The model's answer cannot be translated: {why}."
        return self.fail(stream_error({"message": message, "code": "stream_incomplete"}))

    def whole(self, body: bytes) -> bytes:
        """Translate an answer that came as a whole into a stream's events."""
        return self.feed(body) + self.feed(_DONE)

    def _chunk(self, found: Json) -> bytes:
        if found.get("usage"):
            self.usage = last_usage(self.usage, usage_of(found))
        choice = choice_in(found)
        if choice is None:
            return b""
        events = b"" if self.started else self._begun(found)
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            events += self._delta(delta)
        if choice.get("finish_reason") is not None:
            self._choice = choice
        return events

    def _delta(self, delta: Json) -> bytes:
        events = b""
        text, thought = text_in(delta), reasoning_in(delta)
        self._characters += len(text) + len(thought)
        if text:
            self._has_refused = self._has_refused or bool(delta.get("refusal"))
            events = self._blocks.text(text)
        elif thought:
            events = PING  # thoughts have no signature, which Messages want; the client learns that it goes on
        for place, call in enumerate(calls_in(delta)):
            self._characters += len(str(function_of(call).get("arguments") or ""))
            events += self._blocks.call(call, place)
        return events

    def _begun(self, found: Json) -> bytes:
        """Begin the message."""
        self.started = True
        message: Json = {
            "id": message_id(found, self._otherwise),
            "type": "message",
            "role": "assistant",
            "model": model_in(found, self._model),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_fields(self.usage or Usage(self._prompt_tokens)),
        }
        return event(b"message_start", {"type": "message_start", "message": message})
