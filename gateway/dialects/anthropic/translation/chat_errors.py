"""Errors of chat upstreams in Anthropic's shape."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.dialects.anthropic.message_shapes import error_type
from gateway.dialects.openai.refusal import error_members

_TYPES = frozenset(
    (
        "api_error",
        "authentication_error",
        "billing_error",
        "invalid_request_error",
        "not_found_error",
        "overloaded_error",
        "permission_error",
        "rate_limit_error",
        "request_too_large",
        "timeout_error",
    )
)


def stream_error(error: object) -> bytes:
    """Write an upstream's error as the last event of a stream."""
    found: dict[str, Any] = error if isinstance(error, dict) else {"message": error}
    kind, code, message = found.get("type"), found.get("code"), found.get("message")
    body = {
        "type": "error",
        "error": {
            "type": kind if isinstance(kind, str) and kind in _TYPES else "api_error",
            "message": message if isinstance(message, str) else "The model's endpoint reported an error.",
            "code": code if isinstance(code, str | int) else "upstream_error",
        },
    }
    return b"event: error\ndata: " + orjson.dumps(body) + b"\n\n"


def refusal(status: int, body: bytes, request_id: str) -> bytes:
    """Write an upstream's refusal, its message kept.

    `status` says of which type it is.
    """
    members = error_members(body)
    error = {
        "type": error_type(status),
        "message": members["message"],
        "code": members["code"],
    }
    return orjson.dumps({"type": "error", "error": error, "request_id": request_id})
