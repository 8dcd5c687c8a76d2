"""Answer Anthropic clients: the upstream's bytes, and errors of our own."""

from __future__ import annotations

import msgspec

from gateway.api.openai_routes import OpenAIResponder
from gateway.dialects import anthropic
from gateway.errors import GatewayError, UpstreamFailed
from gateway.http.reply import Answer
from gateway.proxy.refusals.masking import readable
from gateway.proxy.responder import Fields, Head

_REQUEST_ID = "x-request-id"


class MessagesResponder(OpenAIResponder):
    """The same byte for byte, with `request-id` and Anthropic's signs of life."""

    _request_id: str | None = None

    def on_head(self, head: Head) -> None:
        super().on_head(self._named(head))

    def on_heartbeat(self) -> None:
        self.send(anthropic.PING)

    def on_answer(self, head: Head, body: bytes, encoding: bytes) -> None:
        """Send a whole answer, or its events after a heartbeat."""
        if not self.started:
            self._answer = Answer(head.status, [*head.passed, *self._named(head).own], body)
            return
        content = readable(body, encoding)
        events = anthropic.message_as_events(content) if content is not None else None
        if events is None:
            raise UpstreamFailed("The model could not answer this request.")
        self.send(events)

    def on_refusal(self, head: Head, body: bytes, text: bytes) -> None:
        super().on_refusal(self._named(head), body, text)

    def on_error(self, fault: GatewayError, number: int | None) -> None:
        if number is None:
            self.cut()
        else:
            self.send(anthropic.error_event(fault, self._request_id))
            self.finish()

    def _named(self, head: Head) -> Head:
        """Return the head with `request-id`."""
        self._request_id = request_id = next((value for name, value in head.own if name == _REQUEST_ID), None)
        return msgspec.structs.replace(head, own=[*head.own, *request_id_field(request_id)])


def request_id_field(request_id: str | None) -> Fields:
    return [("request-id", request_id)] if request_id is not None else []
