"""Translate a whole chat completion into a message."""

from __future__ import annotations

from collections.abc import Collection

import orjson

from gateway.dialects.anthropic.translation.completion import (
    UntranslatableAnswer,
    arguments_of,
    calls_in,
    choice_in,
    estimated_usage,
    function_of,
    message_id,
    model_in,
    parsed,
    stop_of,
    text_in,
    usage_fields,
)
from gateway.dialects.anthropic.translation.hints import Json
from gateway.dialects.openai.metering.usage_report import usage_of


def message(body: bytes, *, otherwise: str, model: str, prompt_tokens: int, stops: Collection[str] = ()) -> bytes:
    """Translate the body of a chat completion.

    `otherwise`, `model`: its id and model where the upstream names none. `prompt_tokens`: an estimate, where it reports
    no usage. `stops`: the request's own sequences.

    Raises UntranslatableAnswer where it is no completion, or calls a tool with what is no object.
    """
    found = parsed(body)
    choice = choice_in(found)
    said = choice.get("message") if choice is not None else None
    if choice is None or not isinstance(said, dict):
        raise UntranslatableAnswer("it has no message")
    is_cut = choice.get("finish_reason") == "length"
    text, calls = text_in(said), _calls(said, otherwise, is_cut=is_cut)
    refuses = bool(said.get("refusal"))
    usage = usage_of(found) or estimated_usage(prompt_tokens, len(text) + len(orjson.dumps(calls)))
    reason, sequence = stop_of(choice, stops, calls=bool(calls), refuses=refuses)
    return orjson.dumps(
        {
            "id": message_id(found, otherwise),
            "type": "message",
            "role": "assistant",
            "model": model_in(found, model),
            "content": ([{"type": "text", "text": text}] if text else []) + calls,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": usage_fields(usage),
        }
    )


def _calls(said: Json, otherwise: str, *, is_cut: bool) -> list[Json]:
    """Translate the calls of tools.

    One that was cut by the bound is left out.
    """
    blocks: list[Json] = []
    calls = calls_in(said)
    for place, call in enumerate(calls):
        function = function_of(call)
        name, arguments = function.get("name"), function.get("arguments")
        # Some upstreams give them parsed, and none where the tool takes none.
        given = arguments_of(arguments) if isinstance(arguments, str) and arguments.strip() else (arguments or {})
        if not isinstance(given, dict) or not isinstance(name, str):
            if is_cut and place == len(calls) - 1:
                continue
            raise UntranslatableAnswer("it calls a tool with arguments that are no JSON object")
        identity = call.get("id") or f"toolu_{otherwise}_{place}"
        blocks.append({"type": "tool_use", "id": str(identity), "name": name, "input": given})
    return blocks
