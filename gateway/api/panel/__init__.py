"""The panel's protocol, in place of OpenAI's (contract §6).

chat_bodies.py    from `{message, systemPrompt, history, …}` to the body of a chat completion
replies.py        from a model's answer, whatever its shape, to text for a reader
responders.py     what the relay reports, as the panel reads it: streamed, or kept until it is whole
answer_shapes.py  the shapes of what is answered
error_bodies.py   refusals and failures, with what a front end shows
tiers.py          which tier reaches which
"""

from gateway.api.panel.answer_shapes import (
    ChatAnswer,
    ChatEnd,
    ModelView,
    MyModel,
    StudioAnswer,
    my_model,
    usage_view,
    view,
)
from gateway.api.panel.chat_bodies import Asked, ChatBody, StudioBody, chat_completion, read_as, studio_completion
from gateway.api.panel.error_bodies import flat_body
from gateway.api.panel.replies import Transcript
from gateway.api.panel.responders import KeptAnswer, PanelStream
from gateway.api.panel.tiers import reaches

__all__ = [
    "Asked",
    "ChatAnswer",
    "ChatBody",
    "ChatEnd",
    "KeptAnswer",
    "ModelView",
    "MyModel",
    "PanelStream",
    "StudioAnswer",
    "StudioBody",
    "Transcript",
    "chat_completion",
    "flat_body",
    "my_model",
    "reaches",
    "read_as",
    "studio_completion",
    "usage_view",
    "view",
]
