"""Build answers and events in the shapes that clients read.

The `openai` libraries and the panel.
"""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from gateway.errors import FeatureDisabled, GatewayError

_FEATURE_DISABLED = b'{"error":"feature_disabled"}'


def error_body(error: GatewayError) -> bytes:
    """`{"error":{"message","type","param","code"}}`; for FeatureDisabled the body that panels look for."""
    return _FEATURE_DISABLED if isinstance(error, FeatureDisabled) else _error_object(error)


def flat_error_body(code: str, message: str) -> bytes:
    """The shape of panel, admin and usage routes: `{"error": CODE, "message": …}`."""
    return orjson.dumps({"error": code, "message": _encodable(message)})


def error_event(error: GatewayError, *, number: int | None) -> bytes:
    """The error as an event of a stream.

    `number`: where events have names and numbers, as on the responses route, its own `sequence_number`.
    """
    body = _error_object(error)
    if number is None:
        return _as_event(body, named=False)
    return _as_event(b'{"type":"error","sequence_number":%d,%b' % (number, body[1:]), named=True)


def model_entry(name: str) -> bytes:
    """The body of `GET models/{id}`."""
    return orjson.dumps(_model(name))


def models_list(names: Iterable[str]) -> bytes:
    """The body of `GET models`."""
    return orjson.dumps({"object": "list", "data": [_model(name) for name in names]})


def printable(text: str, limit: int = 200) -> str:
    """Make `text` fit for a header's value or a log line.

    Printable ASCII stays, all else is percent-encoded as UTF-8; what is too long ends with `...`, never in mid-escape.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    shown, length = [], 0
    for character in text[: limit + 1]:
        shown.append(character if " " <= character <= "~" else _percent_encoded(character))
        length += len(shown[-1])
    if length <= limit:
        return "".join(shown)
    while length > limit - 3:
        length -= len(shown.pop())
    return "".join(shown) + "..."


def _as_event(data: bytes, *, named: bool) -> bytes:
    return (b"event: error\n" if named else b"") + b"data: " + data + b"\n\n"


def _error_object(error: GatewayError) -> bytes:
    return orjson.dumps(
        {
            "error": {
                "message": _encodable(error.message),
                "type": error.type,
                "param": error.param and _encodable(error.param),
                "code": error.code,
            }
        }
    )


def _encodable(text: str) -> str:
    """Return `text` without lone surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()


def _model(name: str) -> dict[str, str | int]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "gateway"}


def _percent_encoded(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
