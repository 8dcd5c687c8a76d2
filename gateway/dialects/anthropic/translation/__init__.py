"""Messages over chat completions: the request up, the answer and its stream down. Pure functions of bytes."""

from gateway.dialects.anthropic.translation.answer import message
from gateway.dialects.anthropic.translation.reading import UntranslatableAnswer
from gateway.dialects.anthropic.translation.request import MAX_TOKENS_FIELD, ChatRequest, chat_request
from gateway.dialects.anthropic.translation.stream import PING, MessageStream
from gateway.dialects.anthropic.translation.words import stream_error

__all__ = [
    "MAX_TOKENS_FIELD",
    "PING",
    "ChatRequest",
    "MessageStream",
    "UntranslatableAnswer",
    "chat_request",
    "message",
    "stream_error",
]
