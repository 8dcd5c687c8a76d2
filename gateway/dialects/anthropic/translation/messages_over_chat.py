"""Ask for one message in the words of chat completions."""

from __future__ import annotations

import secrets

import orjson

from gateway.dialects.anthropic.translation.chat_errors import refusal
from gateway.dialects.anthropic.translation.chat_request import chat_request
from gateway.dialects.anthropic.translation.completion import UntranslatableAnswer
from gateway.dialects.anthropic.translation.hints import Json
from gateway.dialects.anthropic.translation.message_stream import MessageStream
from gateway.dialects.anthropic.translation.whole_message import message
from gateway.errors import NotTranslatable
from gateway.types import Model

_ID_BYTES = 12


class MessagesOverChat:
    """The request, and what is known of its answer so far.

    Raises NotTranslatable where the model would be asked something else.
    """

    def __init__(self, fields: Json, model: Model) -> None:
        request = chat_request(fields, max_tokens_field=model.max_tokens_field, reasons=model.reasoning)
        self.fields = request.fields
        self.raw = _written(request.fields)
        self.dropped = request.dropped
        self.prompt_tokens = 0
        self._model = model.name
        self._stops: list[str] = request.fields.get("stop", [])
        self._otherwise = secrets.token_hex(_ID_BYTES)
        self._stream: MessageStream | None = None

    def __repr__(self) -> str:
        return f"<MessagesOverChat of {self._model}, {self._stream!r}>"

    @property
    def ended(self) -> bool:
        return self._stream is not None and self._stream.ended

    @property
    def failed(self) -> bool:
        return self._stream is not None and self._stream.failed

    def event(self, data: bytes, name: bytes | None) -> bytes:
        return self._streamed().feed(data, name)

    def end(self) -> bytes:
        return self._streamed().end()

    def break_off(self, why: str) -> bytes:
        return self._streamed().break_off(UntranslatableAnswer(why))

    def whole(self, body: bytes) -> bytes | None:
        try:
            return message(
                body,
                otherwise=self._otherwise,
                model=self._model,
                prompt_tokens=self.prompt_tokens,
                stops=self._stops,
            )
        except UntranslatableAnswer:
            return None

    def whole_as_events(self, body: bytes) -> bytes:
        return self._streamed().whole(body)

    def refusal(self, status: int, body: bytes, request_id: str) -> bytes:
        return refusal(status, body, request_id)

    def _streamed(self) -> MessageStream:
        if self._stream is None:
            self._stream = MessageStream(
                otherwise=self._otherwise, model=self._model, prompt_tokens=self.prompt_tokens, stops=self._stops
            )
        return self._stream


def _written(fields: Json) -> bytes:
    try:
        return orjson.dumps(fields)
    except orjson.JSONEncodeError:  # values that orjson has read can be refused for their depth only
        raise NotTranslatable(
            "The request is nested as deeply as may be, and a level deeper in the words of chat completions.",
            param="tools",
        ) from None
