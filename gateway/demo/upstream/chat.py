"""Chat completions, stored ones too, and completions."""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web

from gateway.demo.upstream.bodies import DONE, answer, event, fields_of, needing, stream, whole_number
from gateway.demo.upstream.desk import Desk, Json, Refused, deleted, desk_of, new_id, now, page
from gateway.demo.upstream.invented import chosen_tool, text_of_format
from gateway.demo.upstream.words import answer_words, chat_usage, count_words

MOST_CHOICES = 16


def chat_completion(desk: Desk, fields: Json) -> Json:
    """Answer a conversation as a whole; keep it where `store` says so."""
    needing(fields, "model", "messages")
    messages = fields["messages"]
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        raise Refused("Invalid type for 'messages': expected an array of objects.", param="messages")
    message, reason, count = _message(fields, messages)
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": reason}
        for index in range(whole_number(fields.get("n"), 1, MOST_CHOICES))
    ]
    whole: Json = {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion",
        "created": now(),
        "model": fields["model"],
        "choices": choices,
        "usage": chat_usage(max(1, count_words(messages)), count * len(choices)),
        "service_tier": "default",
        "system_fingerprint": "fp_demo",
    }
    if fields.get("store") is True:
        kept = {name: fields.get(name) for name in ("temperature", "top_p", "tools", "tool_choice", "response_format")}
        kept |= {"request_id": new_id("req_"), "metadata": fields.get("metadata") or {}, "input_user": None}
        desk.chats.put(whole["id"], {"completion": whole | kept, "messages": messages}, _size(messages))
    return whole


def _size(messages: list[Json]) -> int:
    return 2_000 + sum(len(str(each)) for each in messages)


def _message(fields: Json, messages: list[Json]) -> tuple[Json, str, int]:
    """Return the message, why it ends, and its tokens."""
    message: Json = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    last = messages[-1] if messages else {}
    tools = fields.get("tools") if last.get("role") == "user" else None
    tool = chosen_tool(tools, fields.get("tool_choice"), str(last.get("content")))
    if tool is not None:
        function = {"name": tool[0], "arguments": tool[1]}
        message["tool_calls"] = [{"id": new_id("call_"), "type": "function", "function": function}]
        return message, "tool_calls", max(1, len(tool[1].split()))
    text = text_of_format(fields.get("response_format"))
    words, is_cut = (text.split(" "), False) if text is not None else answer_words(fields)
    return message | {"content": " ".join(words)}, "length" if is_cut else "stop", len(words)


async def create_chat(request: web.Request) -> web.StreamResponse:
    fields = await fields_of(request)
    whole = chat_completion(desk_of(request), fields)
    if fields.get("stream") is not True:
        return answer(whole)
    asks_usage = (fields.get("stream_options") or {}).get("include_usage") is True
    return await stream(request, _chat_events(whole, asks_usage))


def _chat_events(whole: Json, asks_usage: bool) -> Iterator[bytes]:
    about = {name: whole[name] for name in ("id", "created", "model", "service_tier", "system_fingerprint")}
    about["object"] = "chat.completion.chunk"
    usage: Json = {"usage": None} if asks_usage else {}

    def chunk(index: int, delta: Json, reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return event(about | {"choices": [choice]} | usage)

    for choice in whole["choices"]:
        index, message = choice["index"], choice["message"]
        yield chunk(index, {"role": "assistant", "content": "" if message["content"] else None, "refusal": None})
        words = (message["content"] or "").split(" ") if message["content"] else []
        for place, word in enumerate(words):
            yield chunk(index, {"content": word if place == len(words) - 1 else f"{word} "})
        for place, call in enumerate(message.get("tool_calls") or ()):
            name = call["function"] | {"arguments": ""}
            yield chunk(index, {"tool_calls": [call | {"index": place, "function": name}]})
            arguments = {"index": place, "function": {"arguments": call["function"]["arguments"]}}
            yield chunk(index, {"tool_calls": [arguments]})
        yield chunk(index, {}, choice["finish_reason"])
    if asks_usage:
        yield event(about | {"choices": [], "usage": whole["usage"]})
    yield DONE


# -- stored ones


async def list_chats(request: web.Request) -> web.StreamResponse:
    query = request.query
    wanted = {name[9:-1]: value for name, value in query.items() if name.startswith("metadata[")}
    kept = [each["completion"] for each in desk_of(request).chats.all()]
    kept = [each for each in kept if query.get("model") in (None, each["model"])]
    kept = [each for each in kept if all(each["metadata"].get(name) == value for name, value in wanted.items())]
    return answer(page(kept, query, newest_first=False))


async def show_chat(request: web.Request) -> web.StreamResponse:
    return answer(desk_of(request).chats.get(request.match_info["id"])["completion"])


async def update_chat(request: web.Request) -> web.StreamResponse:
    completion: Json = desk_of(request).chats.get(request.match_info["id"])["completion"]
    completion["metadata"] = (await fields_of(request)).get("metadata") or {}
    return answer(completion)


async def delete_chat(request: web.Request) -> web.StreamResponse:
    name = request.match_info["id"]
    desk_of(request).chats.take(name)
    return answer(deleted(name, "chat.completion.deleted"))


async def list_messages(request: web.Request) -> web.StreamResponse:
    name = request.match_info["id"]
    messages = desk_of(request).chats.get(name)["messages"]
    shown = [
        {"content": None, "name": None, "content_parts": None} | each | {"id": f"{name}-{place}"}
        for place, each in enumerate(messages)
    ]
    return answer(page(shown, request.query, newest_first=False))


# -- completions


def completion(_: Desk, fields: Json) -> Json:
    """Answer prompts with plain text."""
    needing(fields, "model")
    prompt = fields.get("prompt") or ""
    several = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
    words, is_cut = answer_words(fields)
    count = whole_number(fields.get("n"), 1, MOST_CHOICES) * (min(len(prompt), MOST_CHOICES) if several else 1)
    reason = "length" if is_cut else "stop"
    text = " ".join(words)
    return {
        "id": new_id("cmpl-"),
        "object": "text_completion",
        "created": now(),
        "model": fields["model"],
        "choices": [
            {"index": index, "text": text, "logprobs": None, "finish_reason": reason} for index in range(count)
        ],
        "usage": chat_usage(max(1, count_words(prompt)), len(words) * count),
    }


async def create_completion(request: web.Request) -> web.StreamResponse:
    fields = await fields_of(request)
    whole = completion(desk_of(request), fields)
    if fields.get("stream") is not True:
        return answer(whole)
    asks_usage = (fields.get("stream_options") or {}).get("include_usage") is True
    return await stream(request, _completion_events(whole, asks_usage))


def _completion_events(whole: Json, asks_usage: bool) -> Iterator[bytes]:
    about = {name: value for name, value in whole.items() if name not in ("choices", "usage")}
    for choice in whole["choices"]:
        for word in choice["text"].split(" "):
            yield event(about | {"choices": [choice | {"text": f"{word} ", "finish_reason": None}]})
        yield event(about | {"choices": [choice | {"text": ""}]})
    if asks_usage:
        yield event(about | {"choices": [], "usage": whole["usage"]})
    yield DONE


ROUTES = [
    web.post("/chat/completions", create_chat),
    web.get("/chat/completions", list_chats),
    web.get("/chat/completions/{id}", show_chat),
    web.post("/chat/completions/{id}", update_chat),
    web.delete("/chat/completions/{id}", delete_chat),
    web.get("/chat/completions/{id}/messages", list_messages),
    web.post("/completions", create_completion),
]
