"""Build answers, errors and events in the shapes that Anthropic's clients read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from gateway.errors import FeatureDisabled, GatewayError

PING = b'event: ping\ndata: {"type": "ping"}\n\n'
_FEATURE_DISABLED = b'{"error":"feature_disabled"}'
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_CREATED_AT = "1970-01-01T00:00:00Z"  # unknown, as the protocol writes it


class Page(NamedTuple):
    """A part of a list, and whether more follows in its direction."""

    names: Sequence[str]
    has_more: bool


def error_type(status: int) -> str:
    """Name the error's type by its status."""
    return _TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")


def error_body(error: GatewayError, request_id: str | None) -> bytes:
    """`{"type":"error","error":{"type","message","code"},"request_id"}`; for FeatureDisabled what panels look for."""
    if isinstance(error, FeatureDisabled):
        return _FEATURE_DISABLED
    inner: dict[str, Any] = {"type": error_type(error.status), "message": _encodable(error.message), "code": error.code}
    if error.param is not None:
        inner["param"] = _encodable(error.param)
    return _error(inner, request_id)


def error_event(error: GatewayError, request_id: str | None = None) -> bytes:
    """The error as the last event of a stream."""
    return _as_event(error_body(error, request_id))


def refusal_body(message: str) -> bytes:
    """Return a body for a refusal that cannot be shown."""
    return _error({"type": "invalid_request_error", "message": message, "code": "upstream_error"}, None)


def refusal_event(body: bytes) -> bytes:
    """Return an upstream's refusal as a stream's only event.

    In its own values.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else None
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        error = {"message": body.decode("utf-8", "replace")}
    kind = error.get("type")
    inner = error | {"type": kind if isinstance(kind, str) else "invalid_request_error"}
    request_id = parsed.get("request_id") if isinstance(parsed, dict) else None
    return _as_event(_error(inner, request_id if isinstance(request_id, str) else None))


def model_entry(name: str, display_name: str) -> bytes:
    """The body of `GET models/{id}`."""
    return orjson.dumps(_model(name, display_name))


def models_page(page: Page, display_names: Mapping[str, str]) -> bytes:
    """The body of `GET models`; `display_names` by the names listed."""
    names = page.names
    return orjson.dumps(
        {
            "data": [_model(name, display_names[name]) for name in names],
            "has_more": page.has_more,
            "first_id": names[0] if names else None,
            "last_id": names[-1] if names else None,
        }
    )


def _model(name: str, display_name: str) -> dict[str, Any]:
    return {"id": name, "type": "model", "display_name": display_name, "created_at": _CREATED_AT, "lifecycle": "active"}


def _error(inner: dict[str, Any], request_id: str | None) -> bytes:
    return orjson.dumps({"type": "error", "error": inner, "request_id": request_id})


def _as_event(data: bytes) -> bytes:
    return b"event: error\ndata: " + data + b"\n\n"


def _encodable(text: str) -> str:
    """Return `text` without lone surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()
