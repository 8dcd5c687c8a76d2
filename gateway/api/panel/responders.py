"""Translate OpenAI's event streams into the panel's.

`RetoldStream` retells each event as it comes; `KeptAnswer` waits for the whole, though the upstream may stream unasked.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from gateway.api.panel.error_bodies import flat_body
from gateway.api.panel.replies import Transcript, parsed, transcript_of
from gateway.dialects import openai
from gateway.dialects.base import Usage
from gateway.errors import AiUnavailable, GatewayError, StreamIncomplete
from gateway.http.content_coding import unpacked_whole
from gateway.http.message import Headers, Request
from gateway.http.reply import EventStream
from gateway.http.sse import EventFramer, event_data, event_name
from gateway.proxy.responder import Head

_HEADERS = (
    ("content-type", "text/event-stream"),
    ("cache-control", "no-cache"),
    ("x-accel-buffering", "no"),
)
_SIGN_OF_LIFE = b": waiting for the model\n\n"
_DONE = b"[DONE]"
_MOST_HELD_BYTES = 16 * 2**20  # of an unfinished event


def fields_of(head: Head) -> tuple[tuple[str, str], ...]:
    """Return the relayed headers that hold for the panel's answer."""
    return (*head.own, *(field for field in head.passed if field[0] == "x-upstream-request-id"))


class Listener:
    """Read an event stream into a transcript.

    `fault` is set as soon as it turns out to be no answer.
    """

    def __init__(self) -> None:
        self.transcript = Transcript()
        self.fault: GatewayError | None = None
        self._framer = EventFramer(_MOST_HELD_BYTES)
        self._is_stream = True
        self._has_text = False

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
        return [text for event in self._framer.feed(data) if (text := self._text_of(event)) != ""]

    def end(self) -> list[str | None]:
        """Yield the texts left at the end.

        The last may be one of ours, where the model had none.
        """
        if not self._is_stream:
            self.fault = AiUnavailable("The model's answer could not be read.")
            return []
        rest = self._framer.end()
        last = self._text_of(rest) if rest else None
        if self.fault is not None:
            return []
        return [text for text in (last, self.transcript.conclude()) if text]

    def whole(self, body: bytes, encoding: bytes) -> list[str | None]:
        """Read a whole answer; return its text.

        It may be compressed although nobody asked for that.
        """
        content = unpacked_whole(body, encoding, _MOST_HELD_BYTES) if encoding else body
        transcript = transcript_of(content) if content is not None else None
        if transcript is None:
            self.fault = AiUnavailable("The model's answer could not be read.")
            return []
        self.transcript = transcript
        return [transcript.reply]

    def refused(self) -> None:
        """Note that the upstream refused; its words are not passed on."""
        self.fault = AiUnavailable("The model's provider refused the request.")

    def broke_off(self, fault: GatewayError) -> None:
        """Note that the relay could not bring it to its end."""
        self.fault = self.fault or self._fault(is_broken=isinstance(fault, StreamIncomplete))

    def _text_of(self, event: bytes) -> str | None:
        payload = event_data(event)
        if payload is None:
            return None if event.startswith(b":") else ""
        if openai.is_error_payload(payload, event_name(event)):
            self.fault = self.fault or self._fault_in(payload)
        document = parsed(payload) if self.fault is None and payload != _DONE else None
        self._has_text = True
        text = self.transcript.add(document) if document is not None else ""
        if self.transcript.is_too_long:
            self.fault = StreamIncomplete("The answer is too long.")
        return text

    def _fault_in(self, payload: bytes) -> GatewayError:
        """Return the error of an event, in our words.

        The event's may be the upstream's: they are not passed on.
        """
        error = (parsed(payload) or {}).get("error")
        return self._fault(is_broken=isinstance(error, dict) and error.get("code") == StreamIncomplete.code)

    def _fault(self, *, is_broken: bool) -> GatewayError:
        if self._has_text or is_broken:
            return StreamIncomplete("The answer broke off before its end.")
        return AiUnavailable("The model could not answer.")

    def __repr__(self) -> str:
        return f"<Listener: {self.transcript!r}, {self.fault.code if self.fault is not None else 'no fault'}>"


class PanelStream(EventStream):
    """Stream a panel's events: deltas, the ending, `[DONE]`.

    `{"delta": …}` for each, and at the end what `ending` makes of it all.

    A stream that breaks ends with `{"error": CODE, "message": …}` and has no `[DONE]`. Where the upstream had no answer
    and nothing has gone out, nothing goes out here: `fault` says why.
    """

    chunked = None  # each event is worded anew

    def __init__(self, request: Request, ending: Callable[[Transcript, Usage | None], bytes]) -> None:
        self.fields: Headers = ()
        self._request = request
        self._ending = ending
        self._listener = Listener()

    @property
    def fault(self) -> GatewayError | None:
        return self._listener.fault

    def on_head(self, head: Head) -> None:
        self._listener.begin(head.status, head.passed)
        self._open(fields_of(head))

    def on_heartbeat(self) -> None:
        self.send(_SIGN_OF_LIFE)

    def on_event(self, data: bytes) -> None:
        if self._listener.fault is None:
            self._send_texts(self._listener.feed(data))

    def on_answer(self, head: Head, body: bytes, encoding: bytes) -> None:
        texts, self.fields = self._listener.whole(body, encoding), fields_of(head)
        if self._listener.fault is None and not self.started:
            self._open(self.fields)
        self._send_texts(texts)

    def on_refusal(self, head: Head, body: bytes, text: bytes) -> None:
        self.fields = fields_of(head)
        self._listener.refused()
        self._send_texts([])

    def on_error(self, fault: GatewayError, number: int | None) -> None:
        if self._listener.fault is None:
            self._listener.broke_off(fault)
            self._send_texts([])
        self.finish()

    def on_end(self, usage: Usage | None) -> None:
        if self._listener.fault is None:
            self._send_texts(self._listener.end())
        if self._listener.fault is None:
            self.send(_event(self._ending(self._listener.transcript, usage)) + _event(_DONE))
        self.finish()

    def send_whole(self, fields: Headers, transcript: Transcript) -> None:
        """Send the whole stream of a finished transcript."""
        self._listener.transcript = transcript
        self._open(fields)
        self._send_texts([transcript.reply])
        self.on_end(None)

    def _open(self, fields: Headers) -> None:
        self.start(self._request, 200, [*_HEADERS, *fields])

    def _send_texts(self, texts: list[str | None]) -> None:
        events = [_SIGN_OF_LIFE if text is None else _event(orjson.dumps({"delta": text})) for text in texts]
        if self._listener.fault is not None:
            events.append(_event(flat_body(self._listener.fault)))
        self.send(b"".join(events))


class KeptAnswer:
    """Keep an answer, so that errors can still be answers.

    Nothing goes to the client.
    """

    started, chunked = False, None

    def __init__(self) -> None:
        self.fields: Headers = ()
        self.usage: Usage | None = None
        self._listener = Listener()

    @property
    def fault(self) -> GatewayError | None:
        return self._listener.fault

    @property
    def transcript(self) -> Transcript:
        return self._listener.transcript

    def on_head(self, head: Head) -> None:
        self.fields = fields_of(head)
        self._listener.begin(head.status, head.passed)

    def on_heartbeat(self) -> None:
        """Do nothing: a kept answer needs no heartbeat."""

    def on_event(self, data: bytes) -> None:
        self._listener.feed(data)

    def on_answer(self, head: Head, body: bytes, encoding: bytes) -> None:
        self.fields = fields_of(head)
        self._listener.whole(body, encoding)

    def on_refusal(self, head: Head, body: bytes, text: bytes) -> None:
        self.fields = fields_of(head)
        self._listener.refused()

    def on_error(self, fault: GatewayError, number: int | None) -> None:
        self._listener.broke_off(fault)

    def on_end(self, usage: Usage | None) -> None:
        self.usage = usage
        if self._listener.fault is None:
            self._listener.end()

    def __repr__(self) -> str:
        return f"<KeptAnswer: {self._listener!r}>"


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"
