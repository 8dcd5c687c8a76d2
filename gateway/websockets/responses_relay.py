"""/v1/responses frame by frame: one client socket, one upstream socket."""

from __future__ import annotations

import asyncio
from collections import deque

import aiohttp

from gateway.api.router import Hit
from gateway.dialects import openai
from gateway.dialects.openai.operations import RESPONSES
from gateway.errors import GatewayError, InvalidRequest, ObjectsApart, ShuttingDown, StreamIncomplete, UpstreamTimedOut
from gateway.http.memory_budget import Held
from gateway.objects.accounts import Accounts
from gateway.observability.calls import CLIENT_GONE
from gateway.proxy.ask import Ask
from gateway.proxy.failures import Failures
from gateway.proxy.queueing import Place
from gateway.types import Endpoint, Model, id_text
from gateway.websockets.frames import ENDS, Event, content_of, error_event, read_event
from gateway.websockets.request import SocketRequest
from gateway.websockets.session import BROKEN, PASSED_CODES, Session
from gateway.websockets.socket_objects import pinned, remember
from gateway.websockets.upstream_choice import Opened, Opening, fault_of_event, lease_of, report_failure
from gateway.websockets.waiting import SocketTurn, of_one, of_opening

CREATED = "response.created"
TRY_LATER = 1013
MOST_KNOWN = 1_000


class ResponsesRelay:
    """The upstream's side of a socket, and its running responses.

    A lane's responses follow each other; those of different lanes run side by side.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._opened: Opened | None = None
        self._named: Model | None = None  # by the first `create`; the one that serves it may be a fallback
        self._opening: asyncio.Task[None] | None = None
        self._commit = asyncio.Event()  # no other endpoint is tried once one has been asked
        self._lanes: dict[str | None, deque[SocketRequest]] = {}
        self._known: deque[str] = deque(maxlen=MOST_KNOWN)  # ids of its responses, stored or not
        self._line: asyncio.Task[None] | None = None  # the last response that may wait for its turn
        self._last: dict[str | None, SocketRequest] = {}  # by lane, for steered successors

    # -- the client's messages

    async def create(self, hit: Hit, ask: Ask, lane: str | None, held: Held) -> None:
        """Ask for a response; where it waits for its turn, return before."""
        turn = SocketTurn.of(hit, ask, self._places)
        before = self._line if self._line is not None and not self._line.done() else None
        if turn is None and before is None:
            await self._respond(before, hit, ask, lane, held, turn)
            return
        task = self._line = self._session.spawn(self._respond(before, hit, ask, lane, held, turn))
        if before is None and turn is not None:
            await asyncio.wait({task, turn.stands}, return_when=asyncio.FIRST_COMPLETED)

    async def _respond(
        self,
        before: asyncio.Task[None] | None,
        hit: Hit,
        ask: Ask,
        lane: str | None,
        held: Held,
        turn: SocketTurn | None,
    ) -> None:
        """Ask for a response, behind those of this socket that wait."""
        session = self._session
        try:
            if before is not None:
                await asyncio.wait({before})
            request, place = await self._admit(hit, ask, lane, turn)
        except GatewayError as fault:
            try:
                await session.refuse(fault, lane, hit.call.request_id)
            finally:
                session.finish(hit, fault)
            return
        except BaseException as error:
            hit.call.status = CLIENT_GONE if isinstance(error, asyncio.CancelledError) else hit.call.status
            session.finish(hit)
            raise
        finally:
            held.release()
        hit.call.on_interrupt = lambda: self._interrupted(request)
        if place is None:
            self._lanes[lane] = deque((request,))
            self._opening = session.spawn(self._open(request))
        else:
            self._lanes.setdefault(lane, deque()).append(request)
            await self._ask(request, *place)

    async def _admit(
        self, hit: Hit, ask: Ask, lane: str | None, turn: SocketTurn | None
    ) -> tuple[SocketRequest, tuple[Endpoint, Model] | None]:
        """Admit a response, and say where it goes; None: open one."""
        ask = await pinned(hit, ask, self._known)
        await self._ready()
        place = self._place_for(ask)
        if turn is None:
            return await SocketRequest.admit(self._session, hit, ask, lane=lane), place
        turn.ask = ask
        request = await SocketRequest.admit(self._session, hit, ask, lane=lane, turn=turn)
        return request, self._place_for(request.ask)

    def _places(self, hit: Hit, ask: Ask) -> list[Place]:
        """List what a response may wait for. Raises ObjectsApart."""
        place = self._place_for(ask)
        return of_opening(hit, ask) if place is None else of_one(*place)

    async def other(self, body: openai.RequestBody) -> None:
        await self._ready()
        if self._opened is None:
            raise InvalidRequest("There is no response yet that this could be about.")
        await self._opened.socket.send(body.raw)

    async def _ready(self) -> None:
        """Wait until it is known where the socket leads.

        Whoever has more to say than the first message does not wait for that one's first event.
        """
        if self._opening is not None:
            self._commit.set()
            await asyncio.wait({self._opening})

    def _place_for(self, ask: Ask) -> tuple[Endpoint, Model] | None:
        """Return the endpoint and model at this socket's account, or None.

        Raises ObjectsApart where the model is not served there.
        """
        if self._opened is None or self._named is None:
            return None
        own, leads_to, model = self._opened.lease.endpoint, self._opened.model, ask.access.model
        if model.id == self._named.id:  # it goes on with the model that its first `create` got
            model = ask.catalogue.by_id(leads_to.id) or model
        left_out = ask.endpoints_left_out(model)
        if model.id == leads_to.id and own in model.endpoints and id_text(own.id) not in left_out:
            return own, model
        account = Accounts((leads_to, model)).of(leads_to, own)
        for endpoint in account.endpoints_of(model) if account is not None else ():
            if id_text(endpoint.id) not in left_out:
                return endpoint, model
        raise ObjectsApart("This model is not served where this socket leads; open another one for it.", param="model")

    async def _open(self, request: SocketRequest) -> None:
        """Open the upstream's socket by its first request."""
        ask, session = request.ask, self._session
        turn, most = request.turn, session.most_bytes
        opening = Opening(request.hit, ask, RESPONSES.path, None, most, turn=turn, commit=self._commit)

        def payload(endpoint: Endpoint, model: Model) -> bytes:
            request.meter.asked = True
            return ask.json_for(endpoint, model)

        try:
            opened = await opening.open(payload)
        except GatewayError as fault:
            self._opening = None
            await self._fail(request, fault)
            return
        if request.is_over:  # interrupted meanwhile
            opened.lease.release()
            await opened.close()
            self._opening = None
            return
        self._opened, self._named, request.lease = opened, ask.access.model, opened.lease
        session.spawn(self._pump(opened))
        self._opening = None

    async def _ask(self, request: SocketRequest, endpoint: Endpoint, model: Model) -> None:
        ask, call, opened = request.ask, request.hit.call, self._opened
        if opened is None or request.is_over:
            return
        loop = asyncio.get_running_loop()
        pool = request.hit.runtime.relay.upstreams.of(model, ask.catalogue).pool
        call.attempts, call.endpoint, call.served = 1, endpoint, model
        request.lease = lease_of(pool, endpoint, loop.time(), request.turn)
        if request.lease is None:
            fault = Failures(obstacles=pool.blocked(loop.time())).error(loop.time())
            await self._fail(request, fault)
            return
        request.meter.asked, request.heard_at = True, loop.time()
        await opened.socket.send(ask.json_for(endpoint, model))

    # -- the upstream's events

    async def _pump(self, opened: Opened) -> None:
        message = await opened.first if opened.first is not None else await opened.socket.receive()
        while (content := content_of(message)) is not None:
            await self._pass_on(content, opened, is_text=message.type is aiohttp.WSMsgType.TEXT)
            message = await opened.socket.receive()
        code = opened.socket.close_code
        await self._break_off(StreamIncomplete("The upstream closed the socket."))
        self._session.close_soon(code if code in PASSED_CODES else BROKEN)

    async def _pass_on(self, content: bytes, opened: Opened, *, is_text: bool) -> None:
        event = read_event(content)
        request = await self._created(event) if event.type == CREATED else self._about(event)
        if request is not None:
            request.saw(content, event)
            if not await self._is_remembered(request, content):
                return
        if event.type == "error":
            content = opened.client.mask.over(content)
        if request is not None and event.type in ENDS:
            self._over(request)
            request.ended()
        elif request is not None and event.type == "error":
            self._refused(request, event)
        await self._session.send(content, is_text=is_text)

    async def _is_remembered(self, request: SocketRequest, content: bytes) -> bool:
        """Remember an event's objects, without which it is held."""
        call = request.hit.call
        if request.ask.keeper is None or call.served is None or call.endpoint is None:
            return True
        try:
            await remember(request.ask, content, call.served, call.endpoint)
        except GatewayError as fault:
            await self._fail(request, fault)
            self._session.close_soon(BROKEN)
            return False
        return True

    def _about(self, event: Event) -> SocketRequest | None:
        """Find the response that an event is about: its lane's first."""
        waiting = self._lanes.get(event.lane)
        if waiting:
            return waiting[0]
        # An upstream that knows no lanes: there can be no doubt where only one runs.
        running = [lane[0] for lane in self._lanes.values() if lane]
        return running[0] if len(running) == 1 and event.lane is None else None

    async def _created(self, event: Event) -> SocketRequest | None:
        """Note that a response has begun, be it a steered successor."""
        request = self._about(event)
        if request is None or request.response_id not in (None, event.id):
            before = self._last.get(event.lane)
            if before is None:
                return None
            request = await self._successor(before)
            if request is None:
                return None
            self._lanes.setdefault(event.lane, deque()).appendleft(request)
        request.response_id = event.id
        if event.id is not None:
            self._known.append(event.id)
        self._last[request.lane] = request
        return request

    async def _successor(self, before: SocketRequest) -> SocketRequest | None:
        """Admit a steered successor; the socket ends where it is refused."""
        session, asked = self._session, before.hit.call
        try:
            hit = await session.begin(is_new=False)
            hit.call.access, hit.call.requested_model = asked.access, asked.requested_model
            hit.call.endpoint, hit.call.served, hit.call.attempts = asked.endpoint, asked.served, 1
            try:
                request = await SocketRequest.admit(session, hit, before.ask, lane=before.lane)
            except GatewayError as fault:
                session.finish(hit, fault)
                raise
        except GatewayError as fault:
            await session.refuse(fault, before.lane, asked.request_id)
            session.close_soon(TRY_LATER)
            return None
        request.meter.asked = True
        hit.call.on_interrupt = lambda: self._interrupted(request)
        return request

    def _refused(self, request: SocketRequest, event: Event) -> None:
        fault = fault_of_event(event)
        if fault is not None and request.lease is not None and not request.created:
            report_failure(request.hit, request.lease, fault)
        self._over(request)
        request.refused(event.status if isinstance(event.status, int) else 502)

    # -- endings

    def _over(self, request: SocketRequest) -> None:
        waiting = self._lanes.get(request.lane)
        if waiting is not None and request in waiting:
            waiting.remove(request)
            if not waiting:
                del self._lanes[request.lane]

    async def _fail(self, request: SocketRequest, fault: GatewayError) -> None:
        """Settle a response that came to nothing, and say so."""
        self._over(request)
        if request.is_over:
            return
        number = request.next_number if request.created else None
        request.failed(fault, "interrupted" if isinstance(fault, ShuttingDown) else "upstream_error")
        if isinstance(fault, ShuttingDown) and number is not None:
            fault = StreamIncomplete("The stream broke off before its end.")
        await self._session.send(
            error_event(fault, lane=request.lane, request_id=request.hit.call.request_id, number=number)
        )

    async def _break_off(self, fault: GatewayError) -> None:
        for request in self._running():
            await self._fail(request, fault)

    def _interrupted(self, request: SocketRequest) -> None:
        """The drain is over: what still runs ends."""
        self._session.ending = True
        self._session.spawn(self._fail(request, ShuttingDown()))

    def _running(self) -> list[SocketRequest]:
        return [request for lane in self._lanes.values() for request in lane]

    def watch(self, now: float) -> None:
        opened = self._opened
        if opened is None:
            return
        times = opened.lease.endpoint.timeouts
        for request in self._running():
            patience = times.idle if request.created else times.first_byte
            if request is self._lanes[request.lane][0] and now - request.heard_at > patience:
                self._session.spawn(self._fall_silent())
                return

    async def _fall_silent(self) -> None:
        await self._break_off(UpstreamTimedOut("The upstream fell silent."))
        self._session.close_soon(BROKEN)

    async def ping(self) -> None:
        if self._opened is not None:
            await self._opened.socket.ping()

    async def release(self) -> None:
        """Close the upstream and settle what ran."""
        if self._opened is not None:
            await self._opened.close()
        elif self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        for request in self._running():
            request.left()
        self._lanes.clear()

    def __repr__(self) -> str:
        return f"<ResponsesRelay, {len(self._running())} responses>"
