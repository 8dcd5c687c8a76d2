"""What the relay reports of a stream, as frames."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import orjson

from gateway.dialects.base import Usage
from gateway.errors import GatewayError, UpstreamFailed
from gateway.http.sse import EventFramer, Fragment, event_data, event_name, whole_events
from gateway.proxy.refusals.masking import readable
from gateway.proxy.responder import Head
from gateway.websockets.bridge.chains import replayed
from gateway.websockets.bridge.frame_queue import Outbox, Pressure
from gateway.websockets.frames import ENDS, Event, error_event, items, members, read_event, told, with_lane

_ITEM_DONE, _DONE = "response.output_item.done", b"[DONE]"


class BridgeResponder:
    """Send a response's events, the last once it is settled.

    `response_id` and `output` are what it came to. Implements the relay's `Responder` and `Client`.
    """

    chunked = None  # each event is a message

    def __init__(
        self, outbox: Outbox, lane: str | None, request_id: str, refusal: Callable[[bytes], bytes], most_bytes: int
    ) -> None:
        self.started = False
        self.response_id: str | None = None
        self.output: tuple[bytes, ...] = ()
        self.is_good = False  # it completed, or is incomplete: others may follow on it
        self._outbox = outbox
        self._lane = lane
        self._request_id = request_id
        self._refusal = refusal
        self._framer = EventFramer(most_bytes)
        self._items: list[bytes] = []
        self._last: bytes | None = None
        self._on_pressure: Pressure | None = None

    # -- Responder

    def on_head(self, head: Head) -> None:
        self.started = True

    def on_heartbeat(self) -> None:
        """Nothing: the socket has pings of its own."""

    def on_event(self, data: bytes) -> None:
        for piece in self._framer.take(data):
            if isinstance(piece, Fragment):  # no frame could bear it
                fault = UpstreamFailed("An event of the model's answer is too large.")
                self._last = error_event(fault, lane=self._lane, request_id=self._request_id, number=0)
                continue
            for event in whole_events(piece):
                self._pass_on(event)

    def on_answer(self, head: Head, body: bytes, encoding: bytes) -> None:
        """Send a whole response as the events of a short stream."""
        content = readable(body, encoding)
        response = _json_object(content) if content is not None else None
        if content is None or response is None:
            raise UpstreamFailed("The model's answer came in a form that cannot be told in events.")
        if response.get("error") and "output" not in response:
            self.on_refusal(head, content, content)
            return
        begun = {**response, "status": "in_progress", "output": [], "usage": None}
        self._put(b'{"type":"response.created","sequence_number":0,"response":%b}' % orjson.dumps(begun))
        status = response.get("status")
        end = f"response.{status}" if f"response.{status}" in ENDS else "response.completed"
        self._event(b'{"type":"%b","sequence_number":1,"response":%b}' % (end.encode(), content.strip()), None)

    def on_refusal(self, head: Head, body: bytes, text: bytes) -> None:
        event = _json_object(event_data(self._refusal(text)) or b"{}") or {}
        error = event.get("error", {"message": "", "type": "invalid_request_error"})
        status = head.status if head.status >= 400 else 400
        self._last = told(error, status, {"x-request-id": self._request_id}, self._lane, None)

    def on_error(self, fault: GatewayError, number: int | None) -> None:
        """End with an error event; frames are always whole."""
        self._last = error_event(fault, lane=self._lane, request_id=self._request_id, number=number or 0)
        self._flush()

    def on_end(self, usage: Usage | None) -> None:
        rest = self._framer.end()
        if rest:
            self._pass_on(rest)
        self._flush()

    # -- Client

    def watch(self, on_pressure: Pressure | None) -> None:
        self.unwatch()
        self._on_pressure = on_pressure
        if on_pressure is not None:
            self._outbox.watch(on_pressure)

    def unwatch(self) -> None:
        if self._on_pressure is not None:
            self._outbox.unwatch(self._on_pressure)
            self._on_pressure = None

    # -- frames

    def _pass_on(self, event: bytes) -> None:
        payload = event_data(event)
        if payload is None or not payload.strip() or payload.strip() == _DONE:
            return
        self._event(payload, event_name(event))

    def _event(self, payload: bytes, name: bytes | None) -> None:
        event = read_event(payload)
        kind = event.type if isinstance(event.type, str) else (name or b"").decode("utf-8", "replace")
        if not isinstance(event.type, str):
            payload = _with_type(payload, kind)
        if kind == _ITEM_DONE:
            self._items.append(bytes(members(payload).get("item", b"null")))
        if kind in ENDS:
            self._note_end(event, kind)
        if self._last is not None:
            self._put(self._last)
            self._last = None
        if kind in ENDS or kind == "error":
            self._last = with_lane(payload.strip(), self._lane)
        else:
            self._put(payload)

    def _note_end(self, event: Event, kind: str) -> None:
        self.response_id, self.is_good = event.id, kind != "response.failed"
        told_output = bytes(members(bytes(event.response)).get("output", b"[]")) if event.id is not None else b"[]"
        whole = tuple(bytes(each) for each in items(told_output)) if told_output.startswith(b"[") else ()
        self.output = replayed(whole or tuple(self._items))

    def _put(self, payload: bytes) -> None:
        self.started = True
        self._outbox.put(payload if payload is self._last else with_lane(payload.strip(), self._lane))

    def _flush(self) -> None:
        if self._last is not None:
            self.started = True
            self._outbox.put(self._last)
            self._last = None

    def __repr__(self) -> str:
        return f"<BridgeResponder on lane {self._lane!r}>"


def prepared(fields: dict[str, Any], model: str, lane: str | None) -> tuple[str, list[bytes]]:
    """Return the id and the events of a response that generates nothing."""
    response_id = f"resp_{secrets.token_hex(24)}"
    nothing = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    response: dict[str, Any] = {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
        "previous_response_id": fields.get("previous_response_id"),
        "store": False,
    }
    ended = response | {"status": "completed", "usage": nothing | details}
    told_events = [
        {"type": "response.created", "sequence_number": 0, "response": response},
        {"type": "response.completed", "sequence_number": 1, "response": ended},
    ]
    return response_id, [with_lane(orjson.dumps(each), lane) for each in told_events]


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _with_type(payload: bytes, kind: str) -> bytes:
    """Add the type that an event's name or content shows."""
    content = payload.strip()
    if not content.startswith(b"{"):
        return payload
    found = kind or ("error" if b'"error"' in content else "")
    return b'{"type":' + orjson.dumps(found) + b"," + content[1:] if found and content != b"{}" else payload
