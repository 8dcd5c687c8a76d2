"""The items, bodies and events of responses."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from gateway.demo.upstream.bodies import event
from gateway.demo.upstream.desk import Json, Refused, new_id, now
from gateway.demo.upstream.invented import chosen_tool, text_of_format
from gateway.demo.upstream.words import answer_words

_ECHOED: Json = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
_PREFIXES = {"message": "msg_", "function_call": "fc_", "function_call_output": "fco_", "reasoning": "rs_"}


def items_of(given: Any) -> list[Json]:
    """Return an input as items with ids. Raises Refused."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise Refused("Invalid type for 'input': expected a string or an array of objects.", param="input")
    return [_item(each) for each in given]


def _item(given: Json) -> Json:
    kind = given.get("type") or "message"
    item = given | {"type": kind, "id": given.get("id") or new_id(_PREFIXES.get(kind, "item_"))}
    if kind == "message":
        written = "output_text" if item.get("role") == "assistant" else "input_text"
        if isinstance(item.get("content"), str):
            part: Json = {"type": written, "text": item["content"]}
            item["content"] = [part | {"annotations": [], "logprobs": []} if written == "output_text" else part]
        item.setdefault("status", "completed")
    return item


def output_of(fields: Json, asked: list[Json]) -> tuple[list[Json], int, bool]:
    """Return the output's items, its tokens, and whether a bound cut it."""
    last = asked[-1] if asked else {}
    tools = fields.get("tools") if last.get("role") == "user" else None
    tool = chosen_tool(tools, fields.get("tool_choice"), str(last.get("content")))
    thoughts = _thoughts(fields)
    if tool is not None:
        call = {"id": new_id("fc_"), "type": "function_call", "status": "completed", "call_id": new_id("call_")}
        return [*thoughts, call | {"name": tool[0], "arguments": tool[1]}], max(1, len(tool[1].split())), False
    text = text_of_format((fields.get("text") or {}).get("format"))
    words, is_cut = (text.split(" "), False) if text is not None else answer_words(fields)
    return [*thoughts, message_item(" ".join(words))], len(words), is_cut


def _thoughts(fields: Json) -> list[Json]:
    """The reasoning that a client asks to keep for itself."""
    if "reasoning.encrypted_content" not in (fields.get("include") or ()):
        return []
    return [{"id": new_id("rs_"), "type": "reasoning", "summary": [], "encrypted_content": new_id("demo-sealed-")}]


def message_item(text: str) -> Json:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": new_id("msg_"), "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def response_body(fields: Json, output: list[Json], usage: Json | None, status: str) -> Json:
    """Return a response as it is shown."""
    echoed = {name: fields[name] if fields.get(name) is not None else value for name, value in _ECHOED.items()}
    done = status in ("completed", "incomplete")
    conversation = fields.get("conversation")
    conversation = {"id": conversation} if isinstance(conversation, str) else conversation
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": now(),
        "status": status,
        "background": fields.get("background") is True,
        "completed_at": now() if done else None,
        "conversation": conversation,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "model": fields["model"],
        "output": output if done else [],
        "reasoning": {"effort": (fields.get("reasoning") or {}).get("effort"), "summary": None},
        "service_tier": "default",
        "store": fields.get("store") is not False,
        "text": {"format": (fields.get("text") or {}).get("format") or {"type": "text"}, "verbosity": "medium"},
        "usage": usage if done else None,
    } | echoed


def events_of(response: Json, *, after: int = -1) -> Iterator[bytes]:
    """Yield a response's events, those whose number is beyond `after`."""
    numbers = count()
    for each in _events(response):
        number = next(numbers)
        if number > after:
            yield event(each | {"sequence_number": number}, each["type"])


def _events(response: Json) -> Iterator[Json]:
    running = response | {"status": "in_progress", "output": [], "usage": None, "completed_at": None}
    yield {"type": "response.created", "response": running | {"incomplete_details": None}}
    yield {"type": "response.in_progress", "response": running | {"incomplete_details": None}}
    for place, item in enumerate(response["output"]):
        yield from _item_events(item, place)
    yield {"type": f"response.{response['status']}", "response": response}


def _item_events(item: Json, place: int) -> Iterator[Json]:
    about = {"item_id": item["id"], "output_index": place}
    begun = item | {"status": "in_progress"}
    if item["type"] == "message":
        part = item["content"][0]
        within = about | {"content_index": 0}
        yield {"type": "response.output_item.added", "output_index": place, "item": begun | {"content": []}}
        yield {"type": "response.content_part.added", "part": part | {"text": ""}} | within
        words = part["text"].split(" ")
        for number, word in enumerate(words):
            text = word if number == len(words) - 1 else f"{word} "
            yield {"type": "response.output_text.delta", "delta": text, "logprobs": []} | within
        yield {"type": "response.output_text.done", "text": part["text"], "logprobs": []} | within
        yield {"type": "response.content_part.done", "part": part} | within
    elif item["type"] == "function_call":
        arguments = item["arguments"]
        yield {"type": "response.output_item.added", "output_index": place, "item": begun | {"arguments": ""}}
        yield {"type": "response.function_call_arguments.delta", "delta": arguments} | about
        done = {"type": "response.function_call_arguments.done", "name": item["name"], "arguments": arguments}
        yield done | about
    else:
        yield {"type": "response.output_item.added", "output_index": place, "item": item}
    yield {"type": "response.output_item.done", "output_index": place, "item": item}
