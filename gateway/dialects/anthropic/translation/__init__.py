"""Messages over chat completions.

The request up, the answer and its stream down: pure functions of objects and bytes.
"""

from gateway.dialects.anthropic.translation.chat_request import ChatRequest, chat_request
from gateway.dialects.anthropic.translation.completion import UntranslatableAnswer
from gateway.dialects.anthropic.translation.message_stream import MessageStream
from gateway.dialects.anthropic.translation.messages_over_chat import MessagesOverChat
from gateway.dialects.anthropic.translation.whole_message import message

__all__ = [
    "ChatRequest",
    "MessageStream",
    "MessagesOverChat",
    "UntranslatableAnswer",
    "chat_request",
    "message",
]
