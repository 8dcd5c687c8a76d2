"""From what a panel asks to the body of a chat completion."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
import orjson
from msgspec import Meta

from gateway.dialects import openai
from gateway.errors import InvalidRequest
from gateway.types import Id

_FORMATS = ("text", "json_object", "json_schema")
_LONGEST_REASON = 200  # characters: a reason may quote a value, and values may be megabytes


class Turn(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Asked(msgspec.Struct, frozen=True, rename="camel"):
    """What chat and studio have in common.

    Unknown members are ignored; null is as good as absent.
    """

    model_id: Annotated[Id | None, Meta(description="A model's id; else the user's assigned model.")] = None
    system_prompt: Annotated[str | None, Meta(description="Comes before everything else.")] = None
    history: Annotated[tuple[Turn, ...] | None, Meta(description="Earlier turns, oldest first.")] = None
    stream: Annotated[bool | None, Meta(description="Whether to answer with server-sent events.")] = None


_Words = Annotated[str, Meta(min_length=1, description="What the user says now.", examples=["Hello!"])]


class ChatBody(Asked, frozen=True, rename="camel", kw_only=True):
    """The body of `POST /api/ai/chat`."""

    message: _Words


class StudioBody(Asked, frozen=True, rename="camel", kw_only=True):
    """The body of `POST /api/ai/studio`; `message` or `messages` must be there."""

    message: _Words | None = None
    messages: Annotated[
        tuple[dict[str, Any], ...] | None,
        Meta(description="In OpenAI's shape, pictures among them; they come behind `history`, `message` behind them."),
    ] = None
    response_format: Annotated[
        dict[str, Any] | None,
        Meta(description="In OpenAI's shape, as `{type: json_schema, json_schema: {name, schema}}`."),
    ] = msgspec.field(default=None, name="response_format")
    max_tokens: Annotated[
        Annotated[int, Meta(ge=1, le=10_000_000)] | None, Meta(description="Longest answer, in tokens.")
    ] = None
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=2)] | None, Meta(description="0: sober, 2: wild. Default: the model's own.")
    ] = None


_Body = TypeVar("_Body", bound=Asked)


def read_as(shape: type[_Body], fields: dict[str, Any]) -> _Body:
    """Decode a body's fields into this shape. Raises InvalidRequest.

    Its message names what is wrong and where.
    """
    try:
        return msgspec.convert(fields, shape)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_reason(str(error))) from None


def chat_completion(asked: ChatBody, *, max_tokens: int) -> openai.RequestBody:
    """Build the chat completion of a chat; `max_tokens`: the longest answer."""
    return _completion(asked, [_by_user(asked.message)], {"max_tokens": max_tokens})


def studio_completion(asked: StudioBody) -> openai.RequestBody:
    """Build the chat completion of the studio. Raises InvalidRequest."""
    said = [*(asked.messages or ()), *([_by_user(asked.message)] if asked.message is not None else ())]
    if not said:
        raise InvalidRequest("`message`: it, or `messages`, must be there.")
    for place, message in enumerate(asked.messages or ()):
        if not isinstance(message.get("role"), str):
            raise InvalidRequest(f"`messages[{place}].role` must be text.")
    settings = {
        "max_tokens": asked.max_tokens,
        "temperature": asked.temperature,
        "response_format": _response_format(asked.response_format),
    }
    return _completion(asked, said, settings)


def _completion(asked: Asked, said: list[dict[str, Any]], settings: dict[str, Any]) -> openai.RequestBody:
    """Put system prompt, history and what is said in order.

    `settings` as far as they are set. `modelId`, by which the model is chosen, goes as the model's name comes in.
    """
    turns = [{"role": turn.role, "content": turn.content} for turn in asked.history or ()]
    if asked.system_prompt:
        turns.insert(0, {"role": "system", "content": asked.system_prompt})
    fields: dict[str, Any] = {"messages": [*turns, *said]}
    fields |= {name: value for name, value in settings.items() if value is not None}
    if asked.model_id is not None:
        fields["modelId"] = asked.model_id
    if asked.stream:
        fields["stream"] = True
    return openai.RequestBody(orjson.dumps(fields), fields)


def _by_user(message: str) -> dict[str, Any]:
    return {"role": "user", "content": message}


def _response_format(given: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the format as it came. Raises InvalidRequest.

    A provider's refusal would say less.
    """
    if given is None:
        return None
    if given.get("type") not in _FORMATS:
        raise InvalidRequest("`response_format.type` must be one of text, json_object, json_schema.")
    schema = given.get("json_schema")
    if given["type"] == "json_schema" and not (isinstance(schema, dict) and isinstance(schema.get("name"), str)):
        raise InvalidRequest("`response_format.json_schema` must be an object with a `name` and a `schema`.")
    return given


def _reason(message: str) -> str:
    """Rewrite msgspec's reason with the path first.

    ``Expected `str`, got `int` - at `$.history[0].content` `` as ``history[0].content: expected `str` …``.
    """
    what, _, where = message.rpartition(" - at `$.")
    if not what:
        return f"The body: {message[0].lower()}{message[1:_LONGEST_REASON]}."
    return f"`{where} {what[0].lower()}{what[1:_LONGEST_REASON]}."
