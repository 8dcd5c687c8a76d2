"""Relay one request: admit, pick, attempt, respond, settle.

Resolve → reserve → attempt … attempt → answer or stream → settle. `Relay` holds what all requests share;
`RelayedRequest` is one request, and reads from top to bottom.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import msgspec
from structlog.typing import FilteringBoundLogger

from gateway.dialects.affinity import affinity_of
from gateway.errors import GatewayError, InternalError, ShuttingDown, TransportError, UpstreamFailed
from gateway.http.client import Transport
from gateway.http.client.passed_on import NOTHING, PassedOn
from gateway.http.memory_budget import Held
from gateway.http.via import Via
from gateway.observability.calls import Call
from gateway.observability.tracing import span_id
from gateway.pool import Cooldown, Lease
from gateway.proxy.ask import Ask
from gateway.proxy.attempt import Attempt
from gateway.proxy.books.accounting import Accounts
from gateway.proxy.endpoint_client import EndpointClient, Shape
from gateway.proxy.failures import Failures, Refusal
from gateway.proxy.heartbeat import Heartbeat
from gateway.proxy.queueing import Turn, Turns
from gateway.proxy.refusals.judging import (
    Fault,
    Meaning,
    cause_of,
    fault_in,
    meaning_of,
    reason_of,
    refuses_stream_options,
)
from gateway.proxy.refusals.refused import refused
from gateway.proxy.refusals.upstream_text import upstream_text
from gateway.proxy.responder import Client, Responder
from gateway.proxy.response import Response
from gateway.proxy.stream.translating import answering
from gateway.proxy.upstreams import Upstream, Upstreams, asked_of_fallback, asked_of_own_model, candidates
from gateway.proxy.usage_meter import UsageMeter
from gateway.proxy.verdicts import Verdicts, about

# The loop's timers count whole milliseconds and may be one early: a time-out that has fired is over nevertheless.
TIMER_SLACK_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Relay:
    """The shared parts of all relayed requests of one configuration.

    `heartbeat_seconds`: see the contract, §4; 0 is off. `has_spans`: the gateway makes spans of its own, which a
    client's trace goes on with.
    """

    transport: Transport
    upstreams: Upstreams
    accounts: Accounts
    on_cooldown: Callable[[Cooldown], None]
    log: FilteringBoundLogger
    via: Via
    heartbeat_seconds: float
    turns: Turns | None = None  # None where no request waits
    has_spans: bool = False
    logs_texts: bool = True  # what upstreams say in errors

    def run(
        self,
        call: Call,
        ask: Ask,
        responder: Responder,
        *,
        client: Client,
        memory: Held | None = None,
        passed: PassedOn = NOTHING,
    ) -> Coroutine[None, None, None]:
        """Relay a request to its responder.

        `memory`: what it may hold of the answer. `passed`: what of its head goes up.

        Raises GatewayError where nothing of an answer went out, ConnectionResetError where the client has gone.
        """
        response = Response(self.log, call, ask, responder, client, UsageMeter(ask.operation.usage))
        return RelayedRequest(self, call, ask, response, memory, passed).run()


class RelayedRequest(msgspec.Struct, eq=False):
    """Relay one request: each endpoint at most once, then fallbacks' pools."""

    relay: Relay
    call: Call
    ask: Ask
    response: Response
    memory: Held | None = None
    passed: PassedOn = NOTHING
    loop: asyncio.AbstractEventLoop = msgspec.field(default_factory=asyncio.get_running_loop)
    responder: Responder = msgspec.UNSET  # type: ignore[assignment]  # the client's own
    asked: Ask = msgspec.UNSET  # type: ignore[assignment]  # as the present pool's endpoints take it
    wants_stream: bool = False
    adds_usage: bool = False
    own_fields: bytes = b""  # header lines for whichever endpoint
    began: float = 0.0
    give_up_at: float = math.inf  # set by the first endpoint's `total`
    failures: Failures = msgspec.field(default_factory=Failures)
    verdicts: Verdicts | None = None  # made at the first failed attempt
    turn: Turn | None = None  # where requests wait

    def __post_init__(self) -> None:
        self.began, self.wants_stream = self.loop.time(), self.ask.wants_stream
        self.responder, self.asked = self.response.responder, self.ask
        trace, via = self.call.trace, self.relay.via.line(self.call.via)
        self.own_fields = via if trace is None else trace.fields + via
        fields = self.ask.body.fields
        if fields.get("stream") is True:
            options = fields.get("stream_options")
            self.adds_usage = not (isinstance(options, dict) and options.get("include_usage") is True)

    async def run(self) -> None:
        ask, response = self.ask, self.response
        asked = ask if ask.is_spoken_by(ask.access.model) else await asked_of_own_model(ask, self.memory)
        beats: Heartbeat | Turn | None = None  # what ends with the answer
        if self.relay.turns is None:
            account = response.account = await self.relay.accounts.open(self.call, ask, streamed=self.wants_stream)
            if self.wants_stream:
                beats = Heartbeat(self.loop, self.relay.heartbeat_seconds, response.beat)
        elif (turn := await self._open_in_turn(self.relay.turns, asked)) is not None:
            beats, account, asked = turn, turn.account, turn.asked
        else:
            return
        response.client.watch(None)
        try:
            await self._from_any_endpoint(asked)
        except asyncio.CancelledError:
            if not self.call.was_interrupted():
                response.left()
                raise
            response.failed(ShuttingDown())
        except ConnectionResetError:
            response.left()
            raise
        except GatewayError as fault:
            response.failed(fault)
        except Exception:
            self.relay.log.exception("a mistake of the gateway", request_id=self.call.request_id)
            response.failed(InternalError(f"The gateway made a mistake (request {self.call.request_id})."))
        finally:
            if beats is not None:
                beats.stop()
            response.client.unwatch()
        if account.work is not None:
            await response.book_work(self.relay.accounts.bookings)

    async def _open_in_turn(self, turns: Turns, asked: Ask) -> Turn | None:
        """Admit the request once an endpoint is free.

        None where its refusal went into the stream that it had begun.
        """
        relay, response = self.relay, self.response
        turn = Turn.of(turns, relay.upstreams, asked, response, self.memory, relay.heartbeat_seconds)
        if not await turn.open(relay.accounts):
            return None
        self.ask = response.ask
        if turn.has_waited:
            self.began, self.turn = self.loop.time(), turn
        return turn

    # -- which endpoint

    async def _from_any_endpoint(self, own: Ask) -> None:
        for upstream, of_own in candidates(self.ask, own, self.relay.upstreams):
            asked = of_own or await asked_of_fallback(self.ask, upstream.model, self.memory)
            if asked is not None and await self._from_pool(upstream, asked):
                return
            if self._is_out_of_time() or (self.ask.pin is not None and self.call.attempts):
                break
        refusal = self.failures.refusal
        if refusal is None:
            raise self.failures.error(self.loop.time(), is_pinned=self.ask.pin is not None)
        self.call.endpoint, self.call.served = refusal.endpoint, refusal.model
        if refusal.asked is not self.asked:
            self._use(refusal.asked)
        self.response.refused(refusal.answer)

    def _use(self, asked: Ask) -> None:
        """Ask in these words, and put back what is answered."""
        response = self.response
        self.asked, response.meter.reader = asked, asked.operation.usage
        response.responder = answering(self.responder, asked.translated, self.memory, response.meter)

    async def _from_pool(self, upstream: Upstream, asked: Ask) -> bool:
        """Try the pool's endpoints; whether one had an answer for us."""
        if asked is not self.asked or asked.translated is not None:
            self._use(asked)
        tried = asked.endpoints_left_out(upstream.model)
        pool, conversation = upstream.pool, None
        if upstream.model.rotation == "cache_affinity":
            call = self.call
            conversation = affinity_of(self.ask.body.fields, call.conversation, self.ask.caller, upstream.model.id)
        take = pool.take if self.turn is None else partial(self.turn.take, pool)
        while (lease := take(self.loop.time(), tried, conversation)) is not None:
            tried.add(lease.endpoint_id)
            if self.call.attempts == 0:
                self.give_up_at = self.began + lease.endpoint.timeouts.total
            try:
                is_answered = await self._from_endpoint(upstream, upstream.outlets[lease.endpoint_id], lease)
            finally:
                lease.release()
            if is_answered:
                return True
            if self._is_out_of_time():
                break
        else:
            self.failures.obstacles += pool.blocked(self.loop.time(), tried)
        if self.verdicts is not None:
            self.verdicts.end_pool(self.ask.body, self.loop.time())
        return False

    def _is_out_of_time(self) -> bool:
        return self.loop.time() >= self.give_up_at - TIMER_SLACK_SECONDS

    # -- one endpoint

    async def _from_endpoint(self, upstream: Upstream, endpoint_client: EndpointClient, lease: Lease) -> bool:
        """Answer from this endpoint; False to try the next."""
        call = self.call
        call.attempts += 1
        call.endpoint, call.served = endpoint_client.endpoint, upstream.model
        if call.trace is not None and call.trace.is_sampled and self.relay.has_spans:
            parent = span_id(call.request_id, call.attempts)
            self.own_fields = call.trace.continued(parent) + self.relay.via.line(call.via)
        asks_usage = (
            self.adds_usage and self.asked.operation.events.asks_usage and not endpoint_client.refuses_stream_options
        )
        attempt, error = await self._try(upstream, endpoint_client, asks_usage)
        try:
            if asks_usage and error is None and refuses_stream_options(attempt):
                attempt.close()
                attempt, error = await self._try(upstream, endpoint_client, False)
                endpoint_client.refuses_stream_options = error is None and 200 <= attempt.status < 300
            if error is not None:
                fault = Fault(cause_of(error), str(error))
                text = self._text(endpoint_client, attempt)
                self._failed(lease, fault, reason_of(error, attempt.status), attempt.status, answer_text=text)
                return False
            return await self._judge(endpoint_client, lease, attempt)
        finally:
            attempt.close()

    async def _try(
        self, upstream: Upstream, endpoint_client: EndpointClient, asks_usage: bool
    ) -> tuple[Attempt, TransportError | None]:
        """Send the request and wait for its answer to open.

        The caller closes the attempt.
        """
        asked, endpoint = self.asked, endpoint_client.endpoint
        began = self.call.attempt_began = perf_counter()
        passed = self.passed if asked.translated is None else self.passed.in_other_words()
        body, operation = asked.body_for(endpoint, upstream.model, include_usage=asks_usage), asked.operation
        attempt = Attempt(
            self.loop,
            endpoint.timeouts,
            expects_stream=self.wants_stream,
            take_usage_out=asks_usage and asked.translated is None,
            give_up_at=self.give_up_at,
            meter=self.response.meter,
            memory=self.memory,
            events=operation.events,
        )
        try:
            exchange = await self.relay.transport.exchange(
                endpoint_client.origin,
                asked.head_at(endpoint_client, len(body), self.own_fields, passed),
                body,
                attempt,
                connect_timeout=min(endpoint.timeouts.connect, max(self.give_up_at - self.loop.time(), 0.001)),
            )
            self.response.meter.asked = True
            return attempt, await attempt.opened(exchange)
        except TransportError as error:
            return attempt, error
        except BaseException:
            if not self.wants_stream:
                self.response.note_part(attempt)
            attempt.close()
            raise
        finally:
            self.call.upstream_seconds += perf_counter() - began

    async def _judge(self, endpoint_client: EndpointClient, lease: Lease, attempt: Attempt) -> bool:
        """Answer the client by what the upstream sent; False for a failure."""
        status, now = attempt.status, self.loop.time()
        meaning = meaning_of(status)
        if meaning is Meaning.ANSWER:
            self._alive(lease, now)
            if attempt.shape is Shape.WHOLE:
                attempt.meter_whole(is_text=self.ask.operation.is_text)
                await self.response.whole(attempt)
            else:
                await self.response.streamed(attempt)
            return True
        if meaning is Meaning.FAILED:
            if status == 401:
                self.relay.log.error("upstream refuses the credential of this endpoint", **about(self.call, lease))
            text = self._text(endpoint_client, attempt)
            self._failed(lease, fault_in(attempt), reason_of(None, status), status, answer_text=text)
            return False
        if meaning is Meaning.REDIRECT:
            # Following it could lead anywhere; relaying it would lead the client past us.
            self.relay.log.error(
                "upstream redirects; its url needs correcting", **about(self.call, lease), status=status
            )
            self.call.attempt_failed("refused", reason_of(None, status), status)
            if self.failures.refusal is None:
                raise UpstreamFailed("The model's endpoint is not set up correctly.")
            return False
        self._alive(lease, now)
        said = {"upstream_said": self._text(endpoint_client, attempt)} if self.relay.logs_texts else {}
        self.relay.log.info("upstream refuses the request", **about(self.call, lease), status=status, **said)
        answer = refused(endpoint_client, attempt, self.asked.operation.dialect)
        if meaning is Meaning.REFUSED:
            self.response.refused(answer)
            return True
        self.call.attempt_failed("refused", reason_of(None, status), status)
        if self.failures.refusal is None:
            self.failures.refusal = Refusal(answer, self.call.endpoint, self.call.served, self.asked)
        return False

    def _alive(self, lease: Lease, now: float) -> None:
        lease.succeeded(now)
        if self.verdicts is not None:
            self.verdicts.succeeded(lease, now)

    def _failed(self, lease: Lease, fault: Fault, reason: str, status: int, *, answer_text: str | None = None) -> None:
        self.call.attempt_failed(fault.cause.value, reason, status)
        if self.verdicts is None:
            self.verdicts = Verdicts(self.call, self.relay.log, self.relay.on_cooldown, self.failures)
        self.verdicts.failed(lease, fault, self.loop.time(), answer_text)

    def _text(self, endpoint_client: EndpointClient, attempt: Attempt) -> str | None:
        return upstream_text(endpoint_client, attempt) if self.relay.logs_texts else None
