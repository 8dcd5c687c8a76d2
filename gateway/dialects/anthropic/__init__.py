"""Anthropic's protocol, Messages: answers, errors, usage."""

from gateway.dialects.anthropic.message_contents import MESSAGES_READER, contents_of_message
from gateway.dialects.anthropic.message_rows import ANTHROPIC, COUNT_TOKENS, MESSAGES, OPERATIONS
from gateway.dialects.anthropic.message_shapes import (
    PING,
    Page,
    error_body,
    error_event,
    error_type,
    model_entry,
    models_page,
    refusal_body,
    refusal_event,
)
from gateway.dialects.anthropic.message_usage import MessagesUsage, joined_usage, read_message_report
from gateway.dialects.anthropic.named_objects import may_name_objects, refuse_objects
from gateway.dialects.anthropic.whole_stream import message_as_events

__all__ = [
    "ANTHROPIC",
    "COUNT_TOKENS",
    "MESSAGES",
    "MESSAGES_READER",
    "OPERATIONS",
    "PING",
    "MessagesUsage",
    "Page",
    "contents_of_message",
    "error_body",
    "error_event",
    "error_type",
    "joined_usage",
    "may_name_objects",
    "message_as_events",
    "model_entry",
    "models_page",
    "read_message_report",
    "refusal_body",
    "refusal_event",
    "refuse_objects",
]
