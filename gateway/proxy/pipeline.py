"""Relay one request: admit, pick, attempt, respond, settle.

Resolve → reserve → attempt … attempt → answer or stream → settle. `Relay` holds what all requests share;
`RelayedRequest` is one request, and reads from top to bottom.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

from structlog.typing import FilteringBoundLogger

from gateway.dialects.affinity import affinity_of
from gateway.errors import TransportError
from gateway.http.client import Transport, Upload
from gateway.http.client.passed_on import NOTHING, PassedOn
from gateway.http.memory_budget import Held
from gateway.http.via import Via
from gateway.observability.calls import Call
from gateway.observability.tracing import Trace, span_id
from gateway.pool import Cooldown, Lease
from gateway.proxy.ask import Ask
from gateway.proxy.attempt import Attempt
from gateway.proxy.books.accounting import Accounts
from gateway.proxy.endpoint_client import JSON, WHOLE, EndpointClient
from gateway.proxy.heartbeat import Heartbeat
from gateway.proxy.queueing import Turn, Turns
from gateway.proxy.refusals.judgement import Judgement
from gateway.proxy.refusals.judging import refuses_stream_options
from gateway.proxy.responder import Client, Responder
from gateway.proxy.stream.translating import answering
from gateway.proxy.stream.waits import Waits
from gateway.proxy.upstreams import Upstream, Upstreams, asked_of_fallback, asked_of_own_model, candidates
from gateway.proxy.usage_meter import UsageMeter

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
    waits: Waits = field(default_factory=Waits)

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
        sides = call, ask, responder, client, UsageMeter(ask.operation.usage)
        return RelayedRequest(*sides, self.log, relay=self, memory=memory, passed=passed).run()


class RelayedRequest(Judgement, kw_only=True):
    """Relay one request: each endpoint at most once, then fallbacks' pools."""

    relay: Relay
    memory: Held | None
    passed: PassedOn
    client_responder: Responder | None = None  # the client's own, where another puts answers back into its protocol
    wants_stream: bool = False
    adds_usage: bool = False
    own_fields: bytes = b""  # header lines for whichever endpoint
    began: float = 0.0
    give_up_at: float = math.inf  # set by the first endpoint's `total`
    turn: Turn | None = None  # where requests wait

    async def run(self) -> None:
        relay, call, ask = self.relay, self.call, self.ask
        self._begin(ask)
        own_pool = self._own_pool()
        if own_pool is not None and ask.operation.dialect.protocol in own_pool.spoken_by_all:
            asked = ask
        else:
            asked = await asked_of_own_model(ask, self.memory)
        beats: Heartbeat | Turn | None = None  # what ends with the answer
        if relay.turns is None:
            account = relay.accounts.account(call, ask)
            if ask.terms.demands:
                relay.accounts.hold(account, await relay.accounts.reserve(account, ask))
            relay.accounts.admit(account, ask, streamed=self.wants_stream)
            self.account = account
            if self.wants_stream:
                beats = Heartbeat(self.loop, relay.heartbeat_seconds, self.beat)
        elif (turn := await self._open_in_turn(relay.turns, asked)) is not None:
            beats, account, asked, own_pool = turn, turn.account, turn.asked, self._own_pool()
        else:
            return
        self.client.watch(None)
        try:
            if own_pool is None or not await self._from_pool(own_pool, asked):
                await self._from_others(asked)
        except (asyncio.CancelledError, Exception) as error:
            self.ended_by(error)
        finally:
            if beats is not None:
                beats.stop()
            self.client.unwatch()
        if account.work is not None:
            await self.book_work(relay.accounts.bookings)

    def _begin(self, ask: Ask) -> None:
        call, fields = self.call, ask.body.fields
        via = self.relay.via
        self.asked, self.began = ask, self.loop.time()
        self.own_fields = via.line(call.via) if call.via else via.own_line
        if call.trace is not None:
            self.own_fields = call.trace.fields + self.own_fields
        if "stream" in fields or "stream_format" in fields or ask.streams_by_query:
            self.wants_stream = ask.wants_stream
            if fields.get("stream") is True:
                options = fields.get("stream_options")
                self.adds_usage = not (isinstance(options, dict) and options.get("include_usage") is True)

    async def _open_in_turn(self, turns: Turns, asked: Ask) -> Turn | None:
        """Admit the request once an endpoint is free.

        None where its refusal went into the stream that it had begun.
        """
        relay = self.relay
        turn = Turn.of(turns, relay.upstreams, asked, self, self.memory, relay.heartbeat_seconds)
        if not await turn.open(relay.accounts):
            return None
        if turn.has_waited:
            self.began, self.turn = self.loop.time(), turn
        return turn

    # -- which endpoint

    def _own_pool(self) -> Upstream | None:
        """Return its own model's pool; None where an object's account decides."""
        ask, upstreams = self.ask, self.relay.upstreams
        if ask.pin is not None:
            return None
        model = ask.access.model
        known = upstreams.latest.get(model.id)
        return known if known is not None and known.model is model else upstreams.of(model, ask.catalogue)

    async def _from_pool(self, upstream: Upstream, asked: Ask) -> bool:
        """Try the pool's endpoints; whether one had an answer for us."""
        if asked is not self.asked or asked.translated is not None:
            self._use(asked)
        pool, model, conversation = upstream.pool, upstream.model, None
        tried = self._left_out(upstream, asked)
        if model.rotation == "cache_affinity":
            call, ask = self.call, self.ask
            conversation = affinity_of(ask.body.fields, call.conversation, ask.caller, model.id)
        take = pool.take if self.turn is None else partial(self.turn.take, pool)
        while (lease := take(self.loop.time(), tried, conversation)) is not None:
            tried.add(lease.endpoint_id)
            try:
                attempt = await self._ask(upstream, upstream.outlets[lease.endpoint_id], lease)
                if attempt.shape is WHOLE and 200 <= attempt.status < 300:  # as most are
                    self._well_answered(lease, attempt)
                    if self.ask.keeper is not None:
                        await self.remember(self.ask.keeper, attempt)
                    self.whole(attempt)
                    return True
                if await self.judge(upstream.outlets[lease.endpoint_id], lease, attempt):
                    return True
            finally:
                lease.release()
            if self._is_out_of_time():
                break
        else:
            self.noted().obstacles += pool.blocked(self.loop.time(), tried)
        if self.verdicts is not None:
            self.verdicts.end_pool(self.ask.body, self.loop.time())
        return False

    def _left_out(self, upstream: Upstream, asked: Ask) -> set[str]:
        """List endpoints that cannot be asked this."""
        spoken = asked.operation.dialect.protocol in upstream.spoken_by_all
        if spoken and not asked.companions and not asked.keeps and asked.pin is None:
            return set()
        return asked.endpoints_left_out(upstream.model)

    async def _from_others(self, own: Ask) -> None:
        """Try the pools of fallbacks, or of an object's account."""
        ask = self.ask
        is_pinned = ask.pin is not None
        for upstream, of_own in candidates(ask, own, self.relay.upstreams):
            if of_own is not None and not is_pinned:
                continue  # its own model's, which have been tried
            if self._is_out_of_time() or (is_pinned and self.call.attempts):
                break
            asked = of_own or await asked_of_fallback(ask, upstream.model, self.memory)
            if asked is not None and await self._from_pool(upstream, asked):
                return
        refusal = self.noted().refusal
        if refusal is None:
            raise self.noted().error(self.loop.time(), is_pinned=is_pinned)
        self.call.endpoint, self.call.served = refusal.endpoint, refusal.model
        if refusal.asked is not self.asked:
            self._use(refusal.asked)
        self.refused(refusal.answer)

    def _use(self, asked: Ask) -> None:
        """Ask in these words, and put back what is answered."""
        if self.client_responder is None:
            self.client_responder = self.responder
        self.asked, self.meter.reader = asked, asked.operation.usage
        self.responder = answering(self.client_responder, asked.translated, self.memory, self.meter)

    def _is_out_of_time(self) -> bool:
        return self.loop.time() >= self.give_up_at - TIMER_SLACK_SECONDS

    # -- one endpoint

    def _ask(self, upstream: Upstream, endpoint_client: EndpointClient, lease: Lease) -> Awaitable[Attempt]:
        """Begin an attempt at this endpoint; await its answer."""
        call = self.call
        if call.attempts == 0:
            self.give_up_at = self.began + lease.endpoint.timeouts.total
        call.attempts += 1
        call.endpoint, call.served = endpoint_client.endpoint, upstream.model
        if call.trace is not None:
            self._continue_trace(call.trace)
        asks_usage = self.adds_usage and self.asked.operation.events.asks_usage
        return self._try(upstream, endpoint_client, asks_usage and not endpoint_client.refuses_stream_options)

    def _continue_trace(self, trace: Trace) -> None:
        """Give this attempt a span of its own."""
        if trace.is_sampled and self.relay.has_spans:
            span = span_id(self.call.request_id, self.call.attempts)
            self.own_fields = trace.continued(span) + self.relay.via.line(self.call.via)

    async def _try(self, upstream: Upstream, endpoint_client: EndpointClient, asks_usage: bool) -> Attempt:
        """Send the request and wait for its answer to open.

        Of no answer the attempt has no `shape`, but a `failure`. The caller closes it.
        """
        call, times = self.call, endpoint_client.endpoint.timeouts
        began = call.attempt_began = perf_counter()
        head, body = self._request(upstream, endpoint_client, asks_usage)
        asked, until = self.asked, self.give_up_at
        attempt = Attempt(
            self.loop,
            times,
            self.wants_stream,
            asks_usage and asked.translated is None,
            until,
            self.meter,
            asked.operation.events,
            memory=self.memory,
            waits=self.relay.waits,
        )
        connect = min(times.connect, max(until - self.loop.time(), 0.001))
        try:
            transport, origin = self.relay.transport, endpoint_client.origin
            exchange = transport.reuse(origin, head, body, attempt, connect)
            if exchange is None:
                exchange = await transport.exchange(origin, head, body, attempt, connect_timeout=connect)
            self.meter.asked = True
            await attempt.opening(exchange)
            if attempt.shape is None or attempt.head.encoding:
                await attempt.unpacked()
        except TransportError as error:
            attempt.failure = error.with_traceback(None)  # whose frames know the attempt
        except BaseException:
            if not self.wants_stream:
                self.note_part(attempt)
            attempt.close()
            raise
        finally:
            call.upstream_seconds += perf_counter() - began
        if asks_usage and refuses_stream_options(attempt):
            attempt.close()
            attempt = await self._try(upstream, endpoint_client, asks_usage=False)
            endpoint_client.refuses_stream_options = attempt.shape is not None and 200 <= attempt.status < 300
        return attempt

    def _request(
        self, upstream: Upstream, endpoint_client: EndpointClient, asks_usage: bool
    ) -> tuple[bytes, bytes | Upload]:
        """The request's head and body as they go to this endpoint."""
        asked, passed = self.asked, self.passed
        operation = asked.operation
        if asked.companions or asked.pin is not None:
            body = asked.body_for(endpoint_client.endpoint, upstream.model, include_usage=asks_usage)
        else:
            body = asked.body.upload(endpoint_client.model, include_usage=asks_usage)
        if asked.translated is not None:
            passed = passed.in_other_words()
        begin, kind = endpoint_client.plain_heads.get(asked.target or operation.path), asked.body.content_type
        if begin is not None and kind == JSON and operation.method == "POST" and body and not passed.query:
            return b"%b%b%bcontent-length: %d\r\n\r\n" % (begin, passed.fields, self.own_fields, len(body)), body
        path, protocol = asked.target or operation.path, operation.dialect.protocol
        fields, lasts = self.own_fields, asked.target is None
        return endpoint_client.head(path, len(body), fields, passed, protocol, kind, operation.method, lasts), body

    def _well_answered(self, lease: Lease, attempt: Attempt) -> None:
        """Meter a whole answer, which speaks for its endpoint."""
        now = self.loop.time()  # as `_alive`, without its call: a plain request stays on its way
        lease.succeeded(now)
        if self.verdicts is not None:
            self.verdicts.succeeded(lease, now)
        attempt.meter_whole(is_text=self.ask.operation.is_text)
