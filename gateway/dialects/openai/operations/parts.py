"""What rows are made of: events, schemas, and shared fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from gateway.dialects.base import (
    AnswerFields,
    Dialect,
    EventRules,
    Family,
    Json,
    Learnt,
    ListRules,
    Operation,
    PromptFields,
    RequestSchema,
    Segment,
)
from gateway.dialects.openai.metering.contents import USAGE_READER
from gateway.dialects.openai.refusal import refusal_body, refusal_event
from gateway.dialects.openai.shapes import error_event
from gateway.dialects.openai.stream import CHAT_END_SIGNS, END_SIGNS
from gateway.dialects.references import NONE, Position, Positions

JSON: Final = "application/json"
EVENTS, BINARY = "text/event-stream", "application/octet-stream"

OPENAI = Dialect(protocol="openai", refusal_body=refusal_body)
PROMPT = PromptFields(with_parts=frozenset(("messages", "input", "system")), of_tokens=frozenset(("prompt", "input")))
SEARCH = PromptFields(with_parts=frozenset(), of_tokens=frozenset())
# Upstreams differ in which bound they go by, on whichever route.
TEXT_ANSWER = AnswerFields(
    bounds=("max_tokens", "max_completion_tokens", "max_output_tokens"), repeats=("n", "best_of"), prompts="prompt"
)
TRANSCRIPT = AnswerFields(bounds=(), repeats=(), prompts="")  # nothing in a request says how much was said
PLAIN_EVENTS = EventRules(
    asks_usage=False,
    is_numbered=False,
    has_preparations=False,
    end_signs=END_SIGNS,
    error_event=lambda error, _: error_event(error, number=None),
    refusal_event=lambda body: refusal_event(body, named=False),
)
CHAT_EVENTS = EventRules(
    asks_usage=True,
    is_numbered=False,
    has_preparations=False,
    end_signs=CHAT_END_SIGNS,
    error_event=PLAIN_EVENTS.error_event,
    refusal_event=PLAIN_EVENTS.refusal_event,
)
RESPONSE_EVENTS = EventRules(
    asks_usage=False,
    is_numbered=True,
    has_preparations=True,
    end_signs=END_SIGNS,
    error_event=lambda error, number: error_event(error, number=number),
    refusal_event=lambda body: refusal_event(body, named=True),
)

STREAM: Json = {"stream": {"type": "boolean", "description": "Whether to answer with server-sent events."}}
STREAM_OPTIONS: Json = {
    "stream_options": {
        "type": "object",
        "properties": {"include_usage": {"type": "boolean", "description": "Whether to end with an event of usage."}},
    }
}
COUNT: Json = {"type": "integer", "minimum": 0, "description": "Read for the reservation of tokens."}
MESSAGES: Json = {"messages": {"type": "array", "items": {"type": "object"}}}
TEXTS: Json = {"anyOf": [{"type": "string"}, {"type": "array", "items": {}}]}
DOCUMENTS: Json = {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "object"}]}}

FORM: Final = "multipart/form-data"
ANYTHING: Final = "*/*"

_SEGMENT = re.compile(r"\{(\w+)\}")
# A first segment is an object of this kind. What follows it lies within, but for what is an object besides.
_KINDS: Mapping[str, str] = {
    "response_id": "response",
    "completion_id": "chat.completion",
    "file_id": "file",
    "upload_id": "upload",
    "batch_id": "batch",
    "vector_store_id": "vector_store",
    "conversation_id": "conversation",
    "video_id": "video",
    "character_id": "video.character",
    "container_id": "container",
    "eval_id": "eval",
    "fine_tuning_job_id": "fine_tuning.job",
    "fine_tuned_model_checkpoint": "fine_tuning.checkpoint",
    "skill_id": "skill",
}


def relayed(**fields: Any) -> Operation:
    """Make a row of the surface's own, which runs a model."""
    usual: dict[str, Any] = {
        "dialect": OPENAI,
        "translation": None,
        "method": "POST",
        "body": JSON,
        "family": "core",
        "model": "runs",
        "segments": (),
        "pins": NONE,
        "content_pins": NONE,
        "learns": (),
        "contents": NONE,
        "lists": None,
        "deletes": False,
        "works_on": None,
        "prompt": PROMPT,
        "answer": None,
        "usage": USAGE_READER,
        "events": PLAIN_EVENTS,
    }
    return Operation(**usual | fields)


def kept(
    method: Literal["GET", "POST", "DELETE"],
    path: str,
    summary: str,
    *,
    family: Family = "objects",
    body: Literal["multipart/form-data"] | None = None,
    example: Json | None = None,
    model: Literal["names", "none"] = "none",
    is_text: bool = False,
    pins: Positions = NONE,
    content_pins: Positions = NONE,
    learns: tuple[Learnt, ...] = (),
    lists: ListRules | None = None,
    deletes: bool = False,
    events: EventRules = PLAIN_EVENTS,
    media: tuple[str, ...] = (JSON,),
) -> Operation:
    """Make a row for what upstreams keep.

    It is free, and no other model may answer.
    """
    media_type = JSON if body is None and example is not None else body
    return Operation(
        dialect=OPENAI,
        translation=None,
        method=method,
        path=path,
        name=_name(method, path),
        summary=summary,
        kind=None,
        body=media_type,
        family=family,
        model=model,
        is_text=is_text,
        has_fallbacks=False,
        segments=_segments(path),
        pins=pins,
        content_pins=content_pins,
        learns=learns,
        contents=NONE,
        lists=lists,
        deletes=deletes,
        works_on=None,
        prompt=SEARCH,
        answer=None,
        usage=USAGE_READER,
        events=events,
        request=None if media_type is None else RequestSchema(fields={}, example=example or {}),
        media=media,
    )


def positions(**kinds: tuple[str, ...]) -> Positions:
    """Return positions by kind, whose dots are written as `__`."""
    return Positions(Position(path, kind.replace("__", ".")) for kind, paths in kinds.items() for path in paths)


def makes(kind: str, *more: Position) -> tuple[Learnt, ...]:
    """Learn that answers are an object, and `more` ids in them."""
    return (Learnt(Positions((Position("id", kind), *more))),)


def _segments(path: str) -> tuple[Segment, ...]:
    """Return a path's segments: the first is an object.

    So is a vector store's file, which is one of its own.
    """
    names = _SEGMENT.findall(path)
    known = [_KINDS.get(name) if place == 0 else None for place, name in enumerate(names)]
    if path.startswith("/vector_stores/") and "file_id" in names:
        known[names.index("file_id")] = "file"
    return tuple(Segment(name, kind) for name, kind in zip(names, known, strict=True))


def _name(method: str, path: str) -> str:
    words = [word for word in re.split(r"[/_{}]+", path) if word]
    return method.capitalize() + "".join(word.capitalize() for word in words)
