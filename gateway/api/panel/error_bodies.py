"""Errors as a panel reads them: flat."""

from __future__ import annotations

import orjson

from gateway.dialects import openai
from gateway.errors import AiUnavailable, GatewayError, TierRequired

UNAVAILABLE_REPLY = "AI service temporarily unavailable. Please try again shortly."


def flat_body(fault: GatewayError) -> bytes:
    """Return `{"error": CODE, "message": …}` and the error's own fields."""
    match fault:
        case AiUnavailable():
            more = {"reply": UNAVAILABLE_REPLY}
        case TierRequired():
            more = {"required": fault.required}
        case _:
            return openai.flat_error_body(fault.code, fault.message)
    return orjson.dumps({"error": fault.code, "message": fault.message, **more})
