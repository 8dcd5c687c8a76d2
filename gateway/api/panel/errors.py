"""Refusals and failures that tell a panel more than a code and a message.

GatewayError
├── ClientFault
│   └── TierRequired    403 tier_required, with `required`: the tier that it takes
└── UpstreamFault
    └── AiUnavailable   502 ai_unavailable, with `reply`: what a chat window may show in the answer's place
"""

from __future__ import annotations

import orjson

from gateway.dialects import openai
from gateway.errors import ClientFault, GatewayError, UpstreamFault

UNAVAILABLE_REPLY = "AI service temporarily unavailable. Please try again shortly."


class TierRequired(ClientFault):
    status, type, code = 403, "permission_error", "tier_required"

    def __init__(self, required: str) -> None:
        super().__init__(f"This needs the tier `{required}` or a higher one.")
        self.required = required


class AiUnavailable(UpstreamFault):
    """No answer of a model that could be shown, whoever is to blame: the person who chats cannot mend it."""

    status, code = 502, "ai_unavailable"


def flat_body(fault: GatewayError) -> bytes:
    """`{"error": CODE, "message": …}`, and what the fault says besides."""
    match fault:
        case AiUnavailable():
            more = {"reply": UNAVAILABLE_REPLY}
        case TierRequired():
            more = {"required": fault.required}
        case _:
            return openai.flat_error_body(fault.code, fault.message)
    return orjson.dumps({"error": fault.code, "message": fault.message, **more})
