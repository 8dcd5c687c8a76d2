"""/v1/responses over a WebSocket: relayed or bridged, as its first `create` decides."""

from __future__ import annotations

from typing import Protocol

from gateway.api.openai_routes import ask_for
from gateway.api.router import Hit
from gateway.dialects import openai
from gateway.dialects.openai.operations import RESPONSES
from gateway.errors import GatewayError, InvalidRequest
from gateway.http.memory_budget import Held
from gateway.proxy.ask import Ask
from gateway.websockets.bridge.responses_bridge import ResponsesBridge
from gateway.websockets.frames import read_event
from gateway.websockets.responses_relay import ResponsesRelay
from gateway.websockets.session import UNSUPPORTED, Session
from gateway.websockets.sockets import Sockets

CREATE, STEER = "response.create", "response.steer"


class Way(Protocol):
    """How a socket's responses are made."""

    async def create(self, hit: Hit, ask: Ask, lane: str | None, held: Held) -> None:
        """Answer a `response.create`; the call and the memory are taken over."""

    async def other(self, body: openai.RequestBody) -> None:
        """Take any other message. Raises GatewayError."""

    async def release(self) -> None: ...
    def watch(self, now: float) -> None: ...
    async def ping(self) -> None: ...


class ResponsesSession(Session):
    """A client's socket on /v1/responses."""

    def __init__(self, sockets: Sockets, hit: Hit) -> None:
        super().__init__(sockets, hit)
        self._way: Way | None = None

    async def take(self, content: bytes, *, is_text: bool) -> None:
        if not is_text:
            self.close_soon(UNSUPPORTED)
            return
        held = self.hold()
        is_handed_over = False
        request_id = self.opened_by.request_id
        try:
            body = await self.parsed(content, held)
            lane = lane_of(body)
            if body.fields.get("type") == CREATE:
                hit = await self.begin()
                request_id, is_handed_over = hit.call.request_id, True
                await self._create(hit, body, lane, held)
            else:
                await self._other(body)
        except GatewayError as fault:
            await self.refuse(fault, read_event(content).lane, request_id)
        finally:
            if not is_handed_over:
                held.release()

    async def _create(self, hit: Hit, body: openai.RequestBody, lane: str | None, held: Held) -> None:
        """Resolve and answer. Raises GatewayError, and has ended the call then."""
        try:
            ask = await ask_for(hit, RESPONSES, body)
            if self._way is None:
                is_relayed = any(endpoint.websocket for endpoint in ask.access.model.endpoints)
                self._way = ResponsesRelay(self) if is_relayed else ResponsesBridge(self)
        except GatewayError as fault:
            held.release()
            self.finish(hit, fault)
            raise
        except BaseException:
            held.release()
            self.finish(hit)
            raise
        await self._way.create(hit, ask, lane, held)

    async def _other(self, body: openai.RequestBody) -> None:
        if body.mentions or "model" in body.fields or "modelId" in body.fields:
            raise InvalidRequest("Only `response.create` names models.")
        if self._way is not None:
            await self._way.other(body)
        elif body.fields.get("type") == STEER:
            await ResponsesBridge(self).other(body)  # there is no response to be steered yet
        else:
            raise InvalidRequest("The first message is a `response.create`.")

    async def release(self) -> None:
        if self._way is not None:
            await self._way.release()

    def watch(self, now: float) -> None:
        if self._way is not None:
            self._way.watch(now)

    async def ping(self) -> None:
        await super().ping()
        if self._way is not None:
            await self._way.ping()


def lane_of(body: openai.RequestBody) -> str | None:
    """Return a message's lane. Raises InvalidRequest."""
    lane = body.fields.get("stream_id")
    if lane is None or (isinstance(lane, str) and len(lane) <= 256):
        return lane
    raise InvalidRequest("`stream_id` is a text of at most 256 characters.", param="stream_id")
