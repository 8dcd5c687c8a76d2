"""Put each piece of an answer back into the client's protocol."""

from __future__ import annotations

from gateway.dialects.base import Translated, Usage
from gateway.errors import GatewayError, UpstreamFailed
from gateway.http.memory_budget import Held
from gateway.http.sse import EventFramer, Fragment, event_data, event_name
from gateway.proxy.refusals.masking import readable
from gateway.proxy.responder import Fields, Head, Responder
from gateway.proxy.usage_meter import UsageMeter

_MOST_HELD_BYTES = 16 << 20  # of one event: it must be whole
_OF_THE_BODY = ("content-type", "content-encoding")
_JSON = ("content-type", "application/json")
_UNTRANSLATABLE = "The model's answer came in a form that cannot be translated."
_TOO_LARGE = "an event of it is larger than what can be kept"


class TranslatingResponder:
    """Stand before a responder and put each piece of an answer back.

    `memory`: what the request may hold of an event that is too large to come as a whole. `meter`: of the answer, which
    has failed where it cannot be put back.
    """

    def __init__(self, inner: Responder, translated: Translated, memory: Held | None, meter: UsageMeter) -> None:
        self._inner = inner
        self._translated = translated
        self._memory = memory
        self._meter = meter
        self._framer = EventFramer(_MOST_HELD_BYTES)
        self._is_stream = False

    chunked = None  # each event is worded anew

    @property
    def started(self) -> bool:
        return self._inner.started

    def on_head(self, head: Head) -> None:
        fields = dict(head.passed)
        if "content-encoding" in fields or not fields.get("content-type", "").startswith("text/event-stream"):
            raise UpstreamFailed(_UNTRANSLATABLE)
        self._inner.on_head(self._marked(head, head.passed))

    def on_heartbeat(self) -> None:
        self._inner.on_heartbeat()

    def on_event(self, data: bytes) -> None:
        self._is_stream = True
        events = [self._put_back(piece) for piece in self._framer.feed(data)]
        if not self._framer.holds_nothing and self._memory is not None and not self._memory.has_grown(len(data)):
            events.append(self._translated.break_off(_TOO_LARGE))
        self._send(b"".join(events))
        if self._translated.failed:
            self._meter.failed = True

    def on_answer(self, head: Head, body: bytes, encoding: bytes) -> None:
        content = readable(body, encoding)
        if content is not None and self._inner.started:
            self._send(self._translated.whole_as_events(content))
            return
        whole = self._translated.whole(content) if content is not None else None
        if whole is None:
            raise UpstreamFailed(_UNTRANSLATABLE)
        self._inner.on_answer(self._marked(head, _as_json(head.passed)), whole, b"")

    def on_refusal(self, head: Head, body: bytes, text: bytes) -> None:
        request_id = dict(head.own).get("x-request-id", "")
        refusal = self._translated.refusal(head.status, text, request_id)
        self._inner.on_refusal(self._marked(head, _as_json(head.passed)), refusal, refusal)

    def on_error(self, fault: GatewayError, number: int | None) -> None:
        """End with the error, unless the stream has ended."""
        if self._translated.ended:
            self._inner.on_end(None)
        else:
            self._inner.on_error(fault, number or 0)

    def on_end(self, usage: Usage | None) -> None:
        if self._is_stream:
            rest = self._framer.end()
            self._send((self._put_back(rest) if rest else b"") + self._translated.end())
        self._inner.on_end(usage)

    def _put_back(self, event: bytes) -> bytes:
        if isinstance(event, Fragment):
            return self._translated.break_off(_TOO_LARGE)
        data = event_data(event)
        return self._translated.event(data, event_name(event)) if data is not None else b""

    def _send(self, events: bytes) -> None:
        if events:
            self._inner.on_event(events)

    def _marked(self, head: Head, passed: Fields) -> Head:
        dropped = self._translated.dropped
        own = [*head.own, ("x-gateway-dropped", ", ".join(dropped))] if dropped else head.own
        return Head(head.status, passed, own)

    def __repr__(self) -> str:
        return f"<TranslatingResponder for {self._inner!r}>"


def answering(responder: Responder, translated: Translated | None, memory: Held | None, meter: UsageMeter) -> Responder:
    """Return what answers the client: its responder, or a translating one."""
    return responder if translated is None else TranslatingResponder(responder, translated, memory, meter)


def _as_json(passed: Fields) -> Fields:
    return [_JSON, *(field for field in passed if field[0] not in _OF_THE_BODY)]
