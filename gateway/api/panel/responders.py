"""Translate OpenAI's event streams into the panel's.

Both streams here take the place of the plain `EventStream` that a relay writes to. One retells each event as it comes;
the other keeps what an upstream streams unasked, to be answered whole.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from gateway.api.panel.error_bodies import flat_body
from gateway.api.panel.replies import Transcript, parsed
from gateway.dialects import openai
from gateway.errors import AiUnavailable, GatewayError, StreamIncomplete
from gateway.http.message import Headers, Request
from gateway.http.reply import EventStream
from gateway.http.sse import EventFramer, event_data, event_name

_HEADERS = (
    ("content-type", "text/event-stream"),
    ("cache-control", "no-cache"),
    ("x-accel-buffering", "no"),
)
_OWN = ("x-gateway-", "x-ratelimit-", "x-request-id", "x-upstream-request-id", "server-timing")
_SIGN_OF_LIFE = b": waiting for the model\n\n"
_DONE = b"[DONE]"
_MOST_HELD_BYTES = 16 * 2**20  # of an unfinished event


def own_headers(headers: Headers) -> list[tuple[str, str]]:
    """Return the relayed headers that hold for the panel's answer."""
    return [(name, value) for name, value in headers if name.startswith(_OWN)]


class Listener:
    """Read an event stream into a transcript.

    `fault` is set as soon as the stream turns out to be no answer.
    """

    def __init__(self) -> None:
        self.transcript = Transcript()
        self.fault: GatewayError | None = None
        self._framer = EventFramer(_MOST_HELD_BYTES)
        self._is_stream = True
        self._heard = False

    def begin(self, status: int, headers: Headers) -> None:
        """Read the stream's head.

        A body that is no event stream, or is compressed, cannot be read.
        """
        fields = dict(headers)
        is_events = fields.get("content-type", "").lower().startswith("text/event-stream")
        self._is_stream = status < 300 and is_events and "content-encoding" not in fields

    def feed(self, data: bytes) -> list[str | None]:
        """Yield the texts that `data` completes, None for a comment.

        A comment is a sign of life.
        """
        if not self._is_stream or self.fault is not None:
            return []
        return [text for event in self._framer.feed(data) if (text := self._hear(event)) != ""]

    def end(self) -> list[str | None]:
        """Yield the texts left at the end.

        The last may be one of ours, where the model had none.
        """
        if not self._is_stream:
            self.fault = AiUnavailable("The model's answer could not be read.")
            return []
        rest = self._framer.end()
        last = self._hear(rest) if rest else None
        if self.fault is not None:
            return []
        return [text for text in (last, self.transcript.conclude()) if text]

    def _hear(self, event: bytes) -> str | None:
        payload = event_data(event)
        if payload is None:
            return None if event.startswith(b":") else ""
        if openai.is_error_payload(payload, event_name(event)):
            self.fault = self.fault or self._fault_in(payload)
        document = parsed(payload) if self.fault is None and payload != _DONE else None
        self._heard = True
        text = self.transcript.hear(document) if document is not None else ""
        if self.transcript.is_too_long:
            self.fault = StreamIncomplete("The answer is too long.")
        return text

    def _fault_in(self, payload: bytes) -> GatewayError:
        """Return the error of an event, in our words.

        The event's may be the upstream's: they are not passed on.
        """
        error = (parsed(payload) or {}).get("error")
        code = error.get("code") if isinstance(error, dict) else None
        if self._heard or code == StreamIncomplete.code:
            return StreamIncomplete("The answer broke off before its end.")
        return AiUnavailable("The model could not answer.")

    def __repr__(self) -> str:
        return f"<Listener: {self.transcript!r}, {self.fault.code if self.fault is not None else 'no fault'}>"


class RetoldStream(EventStream):
    """Stream a panel's events: deltas, the ending, `[DONE]`.

    `{"delta": …}` for each, and at the end what `ending` makes of it all.

    A stream that breaks ends with `{"error": CODE, "message": …}` and has no `[DONE]`.
    """

    def __init__(self, ending: Callable[[Transcript], bytes]) -> None:
        super().__init__()
        self._ending = ending
        self._listener = Listener()

    def start(self, request: Request, status: int, headers: Headers) -> None:
        self._listener.begin(status, headers)
        super().start(request, 200, [*_HEADERS, *own_headers(headers)])

    def send(self, data: bytes) -> None:
        if self._listener.fault is None:
            self._tell(self._listener.feed(data))

    def finish(self) -> None:
        if self._listener.fault is None:
            self._tell(self._listener.end())
        if self._listener.fault is None:
            super().send(_event(self._ending(self._listener.transcript)) + _event(_DONE))
        super().finish()

    def tell_whole(self, request: Request, headers: Headers, transcript: Transcript) -> None:
        """Return the whole stream of a finished transcript."""
        self.start(request, 200, [*_HEADERS, *own_headers(headers)])
        self._listener.transcript = transcript
        self._tell([transcript.reply])
        self.finish()

    def _tell(self, texts: list[str | None]) -> None:
        events = [_SIGN_OF_LIFE if text is None else _event(orjson.dumps({"delta": text})) for text in texts]
        if self._listener.fault is not None:
            events.append(_event(flat_body(self._listener.fault)))
        super().send(b"".join(events))


class KeptStream(EventStream):
    """Keep a stream, so that errors can still be answers.

    Nothing goes to the client.
    """

    def __init__(self) -> None:
        super().__init__()
        self.headers_kept: Headers = ()
        self._listener = Listener()

    def start(self, request: Request, status: int, headers: Headers) -> None:
        self.headers_kept = headers
        self._listener.begin(status, headers)

    def send(self, data: bytes) -> None:
        self._listener.feed(data)

    def finish(self) -> None:
        self.finished = True
        self._listener.end()

    def cut(self) -> None:
        """What was kept is not the whole: `finished` stays False."""

    @property
    def transcript(self) -> Transcript | None:
        """Return the transcript, None where it did not end."""
        return self._listener.transcript if self.finished and self._listener.fault is None else None


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"
