"""What is read of messages, and our own events."""

from __future__ import annotations

import secrets
from typing import Any

import aiohttp
import msgspec
import orjson

from gateway.dialects import openai
from gateway.errors import GatewayError

_NOTHING = msgspec.Raw(b"null")
ENDS = frozenset(("response.completed", "response.incomplete", "response.failed"))


class _Object(msgspec.Struct):
    id: Any = None
    max_output_tokens: Any = None


class Event(msgspec.Struct):
    """An upstream's event, as far as it is looked at."""

    type: Any = None
    event_id: Any = None
    stream_id: Any = None
    response_id: Any = None
    sequence_number: Any = None
    status: Any = None
    headers: Any = None
    usage: Any = None
    response: msgspec.Raw = _NOTHING
    error: msgspec.Raw = _NOTHING

    @property
    def id(self) -> str | None:
        """The id of the response that it is about."""
        found = self.response_id if isinstance(self.response_id, str) else self._object.id
        return found if isinstance(found, str) else None

    @property
    def max_output_tokens(self) -> Any:
        """The bound of the response's answer, of whatever type."""
        return self._object.max_output_tokens

    @property
    def _object(self) -> _Object:
        try:
            return _object(self.response)
        except msgspec.DecodeError:
            return _Object()

    @property
    def lane(self) -> str | None:
        """The lane that it came on."""
        return self.stream_id if isinstance(self.stream_id, str) else None


_event = msgspec.json.Decoder(Event).decode
_object = msgspec.json.Decoder(_Object).decode
members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
items = msgspec.json.Decoder(list[msgspec.Raw]).decode


def read_event(content: bytes) -> Event:
    """Read an upstream's event; an empty one for other messages."""
    try:
        return _event(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Event()


def content_of(message: aiohttp.WSMessage) -> bytes | None:
    """Return a message's content; None where the socket is over."""
    if message.type is aiohttp.WSMsgType.TEXT:
        return message.data.encode("utf-8", "surrogatepass")  # type: ignore[no-any-return]
    return bytes(message.data) if message.type is aiohttp.WSMsgType.BINARY else None


def error_event(fault: GatewayError, *, lane: str | None, request_id: str, number: int | None = None) -> bytes:
    """Return an error as an event of /v1/responses.

    `number`: its `sequence_number`, where a response has begun.
    """
    headers = {name: value for name, value in fault.headers if name != "connection"} | {"x-request-id": request_id}
    return told(orjson.loads(openai.error_body(fault))["error"], fault.status, headers, lane, number)


def told(error: Any, status: int, headers: dict[str, str], lane: str | None, number: int | None) -> bytes:
    """Return an error event.

    The library reads `headers` within the error, Codex beside it.
    """
    if isinstance(error, str):  # that of a feature that is switched off
        error = {"message": error, "type": "server_error", "param": None, "code": error}
    event: dict[str, Any] = {"type": "error"}
    if number is not None:
        event["sequence_number"] = number
    event |= {"status": status, "error": error | {"headers": headers}, "headers": headers}
    if lane is not None:
        event["stream_id"] = lane
    return orjson.dumps(event)


def with_lane(payload: bytes, lane: str | None) -> bytes:
    """Add the lane to an event that is a JSON object."""
    if lane is None or not payload.startswith(b"{"):
        return payload
    rest = payload[1:].lstrip()
    return b'{"stream_id":' + orjson.dumps(lane) + (b"" if rest.startswith(b"}") else b",") + rest


def realtime_error(fault: GatewayError, about: str | None) -> bytes:
    """Return an error as an event of /v1/realtime; `about`: the client's event."""
    error = orjson.loads(openai.error_body(fault))["error"]
    if isinstance(error, str):
        error = {"message": error, "type": "server_error", "param": None, "code": error}
    event = {"type": "error", "event_id": f"event_{secrets.token_hex(12)}", "error": error | {"event_id": about}}
    return orjson.dumps(event)
