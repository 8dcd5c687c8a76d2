"""From what a panel asks to the body of a chat completion."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
import orjson
from msgspec import Meta

from gateway.dialects import openai
from gateway.errors import InvalidRequest
from gateway.types import Id

_LONGEST_REASON = 200  # characters: a reason may quote a value, and values may be megabytes


class Turn(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class ChatBody(msgspec.Struct, frozen=True, rename="camel"):
    """The body of `POST /api/ai/chat`.

    Unknown members are ignored; null is as good as absent.
    """

    message: Annotated[str, Meta(min_length=1, description="What the user says now.", examples=["Hello!"])]
    model_id: Annotated[Id | None, Meta(description="A model's id; else the user's assigned model.")] = None
    system_prompt: Annotated[str | None, Meta(description="Comes before everything else.")] = None
    history: Annotated[tuple[Turn, ...] | None, Meta(description="Earlier turns, oldest first.")] = None
    stream: Annotated[bool | None, Meta(description="Whether to answer with server-sent events.")] = None


class StudioBody(ChatBody, frozen=True, rename="camel"):
    """The body of `POST /api/ai/studio`."""

    max_tokens: Annotated[
        Annotated[int, Meta(ge=1, le=10_000_000)] | None, Meta(description="Longest answer, in tokens.")
    ] = None
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=2)] | None, Meta(description="0: sober, 2: wild. Default: the model's own.")
    ] = None


_Body = TypeVar("_Body", bound=ChatBody)


def read_as(shape: type[_Body], fields: dict[str, Any]) -> _Body:
    """Decode a body's fields into this shape. Raises InvalidRequest.

    Its message names what is wrong and where.
    """
    try:
        return msgspec.convert(fields, shape)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_reason(str(error))) from None


def completion_body(asked: ChatBody, **settings: float | None) -> openai.RequestBody:
    """Build the chat completion: system prompt, history, message.

    In order; `settings` (max_tokens, …) as far as they are set.

    It still has `modelId`, by which the model is chosen; that goes as the model's name comes in.
    """
    turns = [{"role": turn.role, "content": turn.content} for turn in asked.history or ()]
    if asked.system_prompt:
        turns.insert(0, {"role": "system", "content": asked.system_prompt})
    fields: dict[str, Any] = {"messages": [*turns, {"role": "user", "content": asked.message}]}
    fields |= {name: value for name, value in settings.items() if value is not None}
    if asked.model_id is not None:
        fields["modelId"] = asked.model_id
    if asked.stream:
        fields["stream"] = True
    return openai.RequestBody(orjson.dumps(fields), fields)


def _reason(message: str) -> str:
    """Rewrite msgspec's reason with the path first.

    ``Expected `str`, got `int` - at `$.history[0].content` `` as ``history[0].content: expected `str` …``.
    """
    what, _, where = message.rpartition(" - at `$.")
    if not what:
        return f"The body: {message[0].lower()}{message[1:_LONGEST_REASON]}."
    return f"`{where} {what[0].lower()}{what[1:_LONGEST_REASON]}."
