"""/v1/responses for upstreams without WebSockets: each `create` is relayed as a stream."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import orjson

from gateway.api.openai_routes import ask_for
from gateway.api.router import Hit
from gateway.dialects import openai
from gateway.dialects.openai.operations import RESPONSES
from gateway.errors import GatewayError, InternalError, InvalidRequest, PreviousResponseNotFound
from gateway.http.memory_budget import Held
from gateway.proxy.ask import Ask
from gateway.types import id_text
from gateway.websockets.bridge.bridge_responder import BridgeResponder, prepared
from gateway.websockets.bridge.chains import Chains, input_items
from gateway.websockets.bridge.frame_queue import Outbox
from gateway.websockets.frames import error_event, members, with_lane
from gateway.websockets.request import SocketRequest
from gateway.websockets.session import Session
from gateway.websockets.socket_objects import is_stored, pinned

STEER = "response.steer"
MOST_WAITING = 32  # responses of one socket, running or waiting for their lane; then its messages wait
_OF_SOCKETS = ("type", "stream_id", "generate")
_TRUE = msgspec.Raw(b"true")


class ResponsesBridge:
    """Answers each `create` by the relay; a lane's follow each other."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._chains = Chains(session.hold())
        self._lanes: dict[str | None, asyncio.Task[None]] = {}  # the last of each
        self._room = asyncio.Semaphore(MOST_WAITING)
        self._outbox = Outbox(session.send)
        session.spawn(self._outbox.run())

    async def create(self, hit: Hit, ask: Ask, lane: str | None, held: Held) -> None:
        await self._room.acquire()
        before = self._lanes.get(lane)
        task = self._session.spawn(self._answer(hit, ask, lane, held, before))
        hit.call.task = task
        self._lanes[lane] = task

    async def other(self, body: openai.RequestBody) -> None:
        if body.fields.get("type") != STEER:
            raise InvalidRequest("This type of message is not known here.", param="type")
        await self._session.send(steering_failed(body.fields))

    async def _answer(
        self, hit: Hit, ask: Ask, lane: str | None, held: Held, before: asyncio.Task[None] | None
    ) -> None:
        fault: GatewayError | None = None
        try:
            if before is not None and not before.done():
                await asyncio.wait({before})
            await self._relay(hit, ask, lane, held)
        except GatewayError as error:
            fault = error
            self._outbox.put(error_event(error, lane=lane, request_id=hit.call.request_id))
        except asyncio.CancelledError:
            if not hit.call.was_interrupted():
                raise
        except Exception:
            fault = InternalError(f"The gateway made a mistake (request {hit.call.request_id}).")
            self._session.log.exception("a mistake of the gateway", request_id=hit.call.request_id)
            self._outbox.put(error_event(fault, lane=lane, request_id=hit.call.request_id))
        finally:
            if self._lanes.get(lane) is asyncio.current_task():
                del self._lanes[lane]
            held.release()
            self._room.release()
            self._session.finish(hit, fault)

    async def _relay(self, hit: Hit, asked: Ask, lane: str | None, held: Held) -> None:
        session, fields = self._session, asked.body.fields
        raw, whole_input = await self._rebuilt(hit, asked.json)
        if fields.get("generate") is False:
            await self._prepare(hit, asked, lane, whole_input or ())
            return
        body = await session.parsed(raw, held)
        ask = await pinned(hit, await ask_for(hit, RESPONSES, body))
        responder = BridgeResponder(
            self._outbox, lane, hit.call.request_id, ask.operation.events.refusal_event, session.most_bytes
        )
        user, refused = id_text(ask.caller.user.id), hit.runtime.settings.routing.refuse_fields
        passed = hit.passed.of_request(user, ask.operation.route, refused)
        await hit.runtime.relay.run(hit.call, ask, responder, client=responder, memory=held, passed=passed)
        if responder.response_id is not None and responder.is_good and whole_input is not None:
            self._chains.keep(lane, responder.response_id, (*whole_input, *responder.output))

    async def _rebuilt(self, hit: Hit, body: openai.RequestBody) -> tuple[bytes, tuple[bytes, ...] | None]:
        """Return the body of a POST, and its known input.

        An upstream that stores responses knows more than is kept. Raises PreviousResponseNotFound.
        """
        fields = members(body.raw)
        whole: tuple[bytes, ...] | None = input_items(fields.get("input"))
        previous = body.fields.get("previous_response_id")
        if previous is not None:
            kept = self._chains.find(previous)
            if kept is not None:
                whole = (*kept.items, *(whole or ()))
                del fields["previous_response_id"]
                fields["input"] = msgspec.Raw(b"[" + b",".join(whole) + b"]")
            elif body.fields.get("generate") is not False and await is_stored(hit, previous):
                whole = None
            else:
                raise PreviousResponseNotFound(
                    "The response named in `previous_response_id` is not kept on this socket; send the whole input.",
                    param="previous_response_id",
                )
        for name in _OF_SOCKETS:
            fields.pop(name, None)
        fields["stream"] = _TRUE
        return b"{" + b",".join(
            orjson.dumps(name) + b":" + bytes(value) for name, value in fields.items()
        ) + b"}", whole

    async def _prepare(self, hit: Hit, ask: Ask, lane: str | None, whole_input: tuple[bytes, ...]) -> None:
        """Keep an input without asking anybody for an answer."""
        call = hit.call
        request = await SocketRequest.admit(self._session, hit, ask, lane=lane)
        response_id, events = prepared(ask.body.fields, call.requested_model or ask.access.model.name, lane)
        self._chains.keep(lane, response_id, whole_input)
        request.settle_unasked()
        for event in events:
            self._outbox.put(event)

    async def release(self) -> None:
        """Cancel what runs and forget what was kept."""
        for task in list(self._lanes.values()):
            task.cancel()
        self._chains.release()

    def watch(self, now: float) -> None:
        """The relay has time-outs of its own."""

    async def ping(self) -> None:
        """There is no socket to an upstream."""

    def __repr__(self) -> str:
        return f"<ResponsesBridge, {len(self._lanes)} lanes>"


def steering_failed(fields: dict[str, Any]) -> bytes:
    """Return the event that gives steering input back."""
    event = {
        "type": "response.steer.failed",
        "sequence_number": 0,
        "steer": {"input": fields.get("input"), "previous_response_id": fields.get("previous_response_id")},
        "error": {
            "type": "invalid_request_error",
            "code": "steering_not_supported",
            "message": "The model's upstream is asked over HTTP, where a response cannot be steered.",
        },
    }
    lane = fields.get("stream_id")
    return with_lane(orjson.dumps(event), lane if isinstance(lane, str) else None)
