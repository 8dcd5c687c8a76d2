"""The relayed routes of Anthropic's protocol, one row each."""

from __future__ import annotations

from typing import Any, Final

from gateway.dialects.anthropic.message_contents import MESSAGES_READER
from gateway.dialects.anthropic.message_shapes import error_event, refusal_body, refusal_event
from gateway.dialects.anthropic.translation import MessagesOverChat
from gateway.dialects.base import (
    CLIENT_HEADERS,
    AnswerFields,
    Dialect,
    EventRules,
    Json,
    Operation,
    PromptFields,
    RequestSchema,
    Translation,
)
from gateway.dialects.openai.operations import CHAT_COMPLETIONS
from gateway.dialects.references import NONE

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"

ANTHROPIC = Dialect(protocol="anthropic", refusal_body=refusal_body)
_TRANSLATION = Translation(operation=CHAT_COMPLETIONS, translate=MessagesOverChat)
_PROMPT = PromptFields(with_parts=frozenset(("messages", "system")), of_tokens=frozenset())
_MESSAGE_EVENTS = EventRules(
    asks_usage=False,
    is_numbered=False,
    has_preparations=False,
    end_signs=(b"message_stop",),
    error_event=lambda error, _: error_event(error),
    refusal_event=refusal_event,
)
_TEXT_OR_BLOCKS: Json = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}
_FIELDS: Json = {
    "messages": {"type": "array", "items": {"type": "object"}},
    "system": _TEXT_OR_BLOCKS,
    "tools": {"type": "array", "items": {"type": "object"}},
}
_EXAMPLE: Json = {"model": "claude-sonnet", "messages": [{"role": "user", "content": "Hello!"}]}


def _row(**fields: Any) -> Operation:
    """Make a row; nothing of the protocol is kept upstream here."""
    usual: dict[str, Any] = {
        "dialect": ANTHROPIC,
        "translation": _TRANSLATION,
        "method": "POST",
        "body": JSON,
        "family": "core",
        "kind": "chat",
        "is_text": True,
        "segments": (),
        "pins": NONE,
        "content_pins": NONE,
        "learns": (),
        "contents": NONE,
        "lists": None,
        "deletes": False,
        "works_on": None,
        "prompt": _PROMPT,
        "usage": MESSAGES_READER,
        "events": _MESSAGE_EVENTS,
        "client_headers": (*CLIENT_HEADERS, "anthropic-version", "anthropic-beta"),
    }
    return Operation(**usual | fields)


MESSAGES = _row(
    path="/messages",
    name="Messages",
    summary="A message, in Anthropic's protocol",
    model="runs",
    has_fallbacks=True,
    answer=AnswerFields(bounds=("max_tokens",), repeats=(), prompts=""),
    request=RequestSchema(
        fields=_FIELDS
        | {
            "max_tokens": {"type": "integer", "minimum": 0, "description": "Read for the reservation of tokens."},
            "stream": {"type": "boolean", "description": "Whether to answer with server-sent events."},
        },
        example=_EXAMPLE | {"max_tokens": 1024},
    ),
    media=(JSON, EVENTS),
)
COUNT_TOKENS = _row(
    path="/messages/count_tokens",
    name="MessagesCountTokens",
    summary="How many tokens a message would take; free",
    model="names",
    has_fallbacks=False,  # another model counts in other tokens
    answer=None,
    request=RequestSchema(fields=_FIELDS, example=_EXAMPLE),
    media=(JSON,),
)

OPERATIONS = (MESSAGES, COUNT_TOKENS)
