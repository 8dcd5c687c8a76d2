"""/v1/realtime: one client socket, one upstream socket, frame by frame."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec
import orjson

from gateway.access.companions import companions, require_common_endpoint
from gateway.api.openai_routes import ask_for
from gateway.api.router import Hit
from gateway.dialects import openai
from gateway.dialects.openai import Mention
from gateway.dialects.openai.operations import REALTIME
from gateway.errors import (
    FieldNotAllowed,
    GatewayError,
    QuotaUsedUp,
    RateLimited,
    ShuttingDown,
    StreamIncomplete,
    UpstreamTimedOut,
)
from gateway.proxy.ask import Ask
from gateway.types import Model
from gateway.websockets.frames import Event, content_of, read_event, realtime_error
from gateway.websockets.request import SocketRequest
from gateway.websockets.session import BROKEN, PASSED_CODES, Session
from gateway.websockets.sockets import Sockets
from gateway.websockets.upstream_choice import Opened

CREATED, DONE = "response.created", "response.done"
TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
_SESSION_MODEL = ("session", "model")


class RealtimeSession(Session):
    """A session whose upstream is there before its client is answered."""

    def __init__(self, sockets: Sockets, hit: Hit, ask: Ask, opened: Opened) -> None:
        super().__init__(sockets, hit)
        self._opened = opened
        self._asked = self._model = ask.access.model
        self._requested = hit.call.requested_model
        self._transcribes: Model | None = None
        self._requests: dict[str, SocketRequest] = {}  # by the response's id
        self._refused: set[str] = set()  # responses that are being cancelled

    async def begun(self) -> None:
        self.spawn(self._pump())

    # -- the client's events

    async def take(self, content: bytes, *, is_text: bool) -> None:
        held = self.hold()
        try:
            body = await self.parsed(content, held)
            await self._opened.socket.send(await self._renamed(body), is_text=is_text)
        except GatewayError as fault:
            event_id = read_event(content).event_id
            await self.send(realtime_error(fault, event_id if isinstance(event_id, str) else None))
        finally:
            held.release()

    async def _renamed(self, body: openai.RequestBody) -> bytes:
        """Look up, grant and replace the models that an event names."""
        fields = body.fields
        if "model" in fields or "modelId" in fields:
            raise FieldNotAllowed("A session's model is named in `session.update` alone.", param="model")
        response = fields.get("response")
        if isinstance(response, dict):
            refused = self.sockets.current.runtime.settings.routing.refuse_fields
            within = openai.allowed_fields(refused).examine({"session": response})
            body.mentions += tuple([Mention(("response", *each.path[1:]), each.value) for each in within])
        if not body.mentions:
            return body.raw
        runtime, endpoint = self.sockets.current.runtime, self._opened.lease.endpoint
        caller, catalogue = await self.caller(runtime), await runtime.store.catalogue()
        found = companions(caller, catalogue, body.mentions)
        served = [each._replace(model=self._serving(each.model)) for each in found]
        require_common_endpoint(served, [endpoint])
        for mention, companion in zip(body.mentions, found, strict=True):
            if mention.path == _SESSION_MODEL:
                self._model, self._requested = companion.model, str(mention.value)
            elif "transcription" in str(mention.path[-2]):
                self._transcribes = companion.model
        body.adds_model = False
        return body.rewritten("", mentioned=[each.provider_model_at(endpoint) or each.model.name for each in served])

    def _serving(self, model: Model) -> Model:
        """Return the model that answered for this one, or itself."""
        leads_to = self._opened.model
        return leads_to if model.id == self._asked.id != leads_to.id else model

    # -- the upstream's events

    async def _pump(self) -> None:
        socket = self._opened.socket
        while (content := content_of(message := await socket.receive())) is not None:
            await self._pass_on(content, is_text=message.type is aiohttp.WSMsgType.TEXT)
        code = socket.close_code
        await self._break_off(StreamIncomplete("The upstream closed the socket."))
        self.close_soon(code if code in PASSED_CODES else BROKEN)

    async def _pass_on(self, content: bytes, *, is_text: bool) -> None:
        event = read_event(content)
        refusal = await self._noted(content, event)
        if event.type == "error":
            content = self._opened.client.mask.over(content)
        if event.type in (CREATED, DONE) or event.id not in self._refused:
            await self.send(content, is_text=is_text)
        if event.type == DONE and event.id is not None:
            self._refused.discard(event.id)
        if refusal is not None:
            await self.send(realtime_error(refusal, None))

    async def _noted(self, content: bytes, event: Event) -> GatewayError | None:
        """Book what an event reports; return why its response is refused."""
        if event.type == CREATED and event.id is not None and event.id not in self._requests:
            try:
                await self._begin_response(event.id, event)
            except GatewayError as fault:
                self._refused.add(event.id)
                cancel = {"type": "response.cancel", "response_id": event.id}
                await self._opened.socket.send(orjson.dumps(cancel))
                return fault
        elif event.type == TRANSCRIBED:
            await self._transcribed(content, event)
        request = self._requests.get(event.id) if event.id is not None else None
        if request is not None:
            request.saw(content, event)
            if event.type == DONE:
                self._requests.pop(event.id or "")
                request.ended()
        return None

    async def _begin_response(self, response_id: str, event: Event) -> None:
        hit = await self.begin()
        bound = event.max_output_tokens
        request = await self._admitted(hit, self._model, {} if bound is None else {"max_output_tokens": bound})
        hit.call.requested_model = self._requested
        request.response_id = response_id
        hit.call.on_interrupt = lambda: self._interrupted(request)
        self._requests[response_id] = request

    async def _admitted(
        self, hit: Hit, model: Model, fields: dict[str, Any], *, is_done: bool = False
    ) -> SocketRequest:
        """Reserve and journal; `is_done`: whatever the limits say."""
        try:
            body = openai.RequestBody(b"{}", {"modelId": model.id, **fields})
            ask = await ask_for(hit, REALTIME, body)
            hit.call.attempts, hit.call.endpoint, hit.call.served = 1, self._opened.lease.endpoint, self._serving(model)
            try:
                request = await SocketRequest.admit(self, hit, ask)
            except (RateLimited, QuotaUsedUp):
                if not is_done:
                    raise
                request = await SocketRequest.admit(
                    self, hit, msgspec.structs.replace(ask, terms=msgspec.structs.replace(ask.terms, demands=()))
                )
        except GatewayError as fault:
            self.finish(hit, fault)
            raise
        except BaseException:
            self.finish(hit)
            raise
        request.meter.asked = True
        return request

    async def _transcribed(self, content: bytes, event: Event) -> None:
        """Book a transcription, which ran beside any response."""
        if event.usage is None:
            return
        try:
            hit = await self.begin(is_new=False)
            request = await self._admitted(hit, self._transcribes or self._model, {}, is_done=True)
        except GatewayError as fault:
            self.log.error("a transcription could not be booked", because=fault.code)
            return
        request.saw(content, event)
        request.ended()

    # -- endings

    async def _break_off(self, fault: GatewayError) -> None:
        for request in list(self._requests.values()):
            await self._fail(request, fault)

    async def _fail(self, request: SocketRequest, fault: GatewayError) -> None:
        self._requests.pop(request.response_id or "", None)
        if request.is_over:
            return
        request.failed(fault, "interrupted" if isinstance(fault, ShuttingDown) else "upstream_error")
        told = StreamIncomplete("The stream broke off before its end.") if isinstance(fault, ShuttingDown) else fault
        await self.send(realtime_error(told, None))

    def _interrupted(self, request: SocketRequest) -> None:
        self.ending = True
        self.spawn(self._fail(request, ShuttingDown()))

    def watch(self, now: float) -> None:
        idle = self._opened.lease.endpoint.timeouts.idle
        if any(now - request.heard_at > idle for request in self._requests.values()):
            self.spawn(self._fall_silent())

    async def _fall_silent(self) -> None:
        await self._break_off(UpstreamTimedOut("The upstream fell silent."))
        self.close_soon(BROKEN)

    async def ping(self) -> None:
        await super().ping()
        await self._opened.socket.ping()

    async def release(self) -> None:
        await self._opened.close()
        self._opened.lease.release()
        for request in list(self._requests.values()):
            request.left()
        self._requests.clear()

    def abandon(self) -> None:
        """Close the upstream: the client left before it was answered."""
        self.spawn(self.release())
