"""The panel's protocol, in place of OpenAI's (contract §6).

bodies    from `{message, systemPrompt, history, …}` to the body of a chat completion
replies   from a model's answer, whatever its shape, to text for a reader
retold    event streams: OpenAI's in, the panel's out
answers   the shapes of what is answered
errors    refusals and failures that tell a panel more than a code and a message
tiers     which tier reaches which
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
from gateway.api.panel.chat_bodies import ChatBody, StudioBody, completion_body, read_as
from gateway.api.panel.error_bodies import flat_body
from gateway.api.panel.replies import Transcript
from gateway.api.panel.responders import KeptAnswer, PanelStream
from gateway.api.panel.tiers import reaches

__all__ = [
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
    "completion_body",
    "flat_body",
    "my_model",
    "reaches",
    "read_as",
    "usage_view",
    "view",
]
