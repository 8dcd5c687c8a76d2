"""Choose a socket's endpoint: take, connect, ask, judge the first event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import NamedTuple

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from gateway.api.router import Hit
from gateway.errors import ConnectionCut, FirstByteTimedOut, TransportError
from gateway.http.client import Proxy
from gateway.pool import Cause, Lease, Pool, retry_after_seconds
from gateway.proxy.ask import Ask
from gateway.proxy.endpoint_client import EndpointClient
from gateway.proxy.failures import Failures
from gateway.proxy.queueing import Wait
from gateway.proxy.refusals.judging import Fault, Meaning, cause_of, meaning_of
from gateway.proxy.upstreams import Upstream, candidates
from gateway.types import Endpoint, Model, id_text
from gateway.websockets.frames import Event, content_of, read_event
from gateway.websockets.upstream_socket import Dialling, HandshakeRefused, Network, UpstreamSocket

_OF_HTTP = frozenset(("host", "content-type", "content-length", "accept", "idempotency-key"))


Payload = Callable[[Endpoint, Model], bytes]
Query = Callable[[Endpoint, Model], dict[str, str]]


class Opened(NamedTuple):
    """A socket to an endpoint; `first`: its first event, if asked."""

    socket: UpstreamSocket
    client: EndpointClient
    model: Model  # whose endpoint it is: the request's own, or a fallback
    lease: Lease
    first: asyncio.Task[aiohttp.WSMessage] | None

    async def close(self) -> None:
        if self.first is not None:
            self.first.cancel()
        await self.socket.close()


class Opening:
    """Open a socket to an endpoint of a model or its fallbacks.

    Each is tried at most once."""

    def __init__(
        self,
        hit: Hit,
        ask: Ask,
        path: str,
        query: Query | None,
        most_bytes: int,
        *,
        turn: Wait | None = None,
        commit: asyncio.Event | None = None,
    ) -> None:
        self._turn = turn  # has waited for an endpoint
        self._commit = commit or asyncio.Event()  # once set, an endpoint that has been asked is the one
        self._hit = hit
        self._ask = ask
        self._path = path
        self._query = query
        self._most_bytes = most_bytes
        self._failures = Failures()
        self._loop = asyncio.get_running_loop()
        self._began = 0.0
        self._is_out_of_time = False

    async def open(self, payload: Payload | None = None) -> Opened:
        """Open a socket; with a payload, await its first event.

        Raises the GatewayError of the contract's table, where no endpoint will do.
        """
        self._began = self._loop.time()
        for upstream, _ in candidates(self._ask, self._ask, self._hit.runtime.relay.upstreams):
            opened = await self._from_pool(upstream, payload)
            if opened is not None:
                return opened
            if self._is_out_of_time:
                break
        raise self._failures.error(self._loop.time())

    async def _from_pool(self, upstream: Upstream, payload: Payload | None) -> Opened | None:
        """Open a socket to one of the pool's endpoints, if any will."""
        call, model = self._hit.call, upstream.model
        tried = self._ask.endpoints_left_out(model) | silent(model)
        if len(tried) == len(model.endpoints) and model is not self._ask.access.model:
            return None
        take = upstream.pool.take if self._turn is None else partial(self._turn.take, upstream.pool)
        while (lease := take(self._loop.time(), tried)) is not None:
            tried.add(lease.endpoint_id)
            call.attempts += 1
            call.attempt_began = perf_counter()
            call.endpoint, call.served = lease.endpoint, model
            opened = await self._from_endpoint(upstream, lease, payload)
            if opened is not None:
                return opened
            self._is_out_of_time = self._loop.time() - self._began >= lease.endpoint.timeouts.total
            if self._is_out_of_time:
                return None
        self._failures.obstacles += upstream.pool.blocked(self._loop.time(), tried)
        return None

    async def _from_endpoint(self, upstream: Upstream, lease: Lease, payload: Payload | None) -> Opened | None:
        """Open a socket to this endpoint; None to try the next."""
        socket, first = None, None
        client, model = upstream.outlets[lease.endpoint_id], upstream.model
        try:
            socket = await UpstreamSocket.connect(self._network(), self._dialling(client, model))
            if payload is not None:
                await socket.send(payload(lease.endpoint, model))
                first = self._loop.create_task(socket.receive())
                await self._judge(first, lease.endpoint)
        except (TransportError, ConnectionError, _Refused) as error:
            self._failed(lease, error)
        except BaseException:
            lease.release()
            await _discarded(socket, first)
            raise
        else:
            return Opened(socket, client, model, lease, first)
        lease.release()
        await _discarded(socket, first)
        return None

    async def _judge(self, first: asyncio.Task[aiohttp.WSMessage], endpoint: Endpoint) -> None:
        """Wait for the first event, while others may be asked."""
        committed = self._loop.create_task(self._commit.wait())
        try:
            timeout = endpoint.timeouts.first_byte
            await asyncio.wait([first, committed], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            committed.cancel()
        if not first.done():
            if self._commit.is_set():
                return
            raise FirstByteTimedOut("no event in time")
        message = first.result()
        if content_of(message) is None:
            raise ConnectionCut("the upstream closed the socket before an event")
        fault = fault_in(message)
        if fault is not None:
            raise _Refused(fault)

    def _dialling(self, client: EndpointClient, model: Model) -> Dialling:
        hit, relay, timeouts = self._hit, self._hit.runtime.relay, client.endpoint.timeouts
        trace = hit.call.trace
        own = relay.via.line(hit.call.via) + (trace.fields if trace is not None else b"")
        user, refused = id_text(hit.caller.user.id), hit.runtime.settings.routing.refuse_fields
        passed = hit.passed.of_request(user, self._ask.operation.route, refused)
        # The head that an HTTP request would have, without what is a body's or the handshake's own.
        first, *lines = client.head(self._path, 0, own, passed).decode("latin-1").split("\r\n")
        target = first.split(" ")[1]
        fields = CIMultiDict(
            (name, value)
            for name, _, value in (line.partition(": ") for line in lines)
            if name and name not in _OF_HTTP
        )
        url = URL(f"{client.origin.scheme}://{client.origin.authority}{target}", encoded=True)
        if self._query is not None:
            url = url.extend_query(self._query(client.endpoint, model))
        return Dialling(client.origin, url, fields, timeouts.connect, timeouts.first_byte, self._most_bytes)

    def _network(self) -> Network:
        settings = self._hit.runtime.settings
        proxy = settings.proxy
        used: Proxy | None = None
        if proxy.refusal:
            used = Proxy("", 0, None, proxy.no_proxy, proxy.refusal)
        elif proxy.https_proxy is not None:
            used = Proxy.from_url(proxy.https_proxy.reveal(), proxy.no_proxy)
        return Network(used, settings.server.private_endpoints, self._hit.runtime.transport.authorities)

    def _failed(self, lease: Lease, error: Exception) -> None:
        fault = _fault_of(error)
        report_failure(self._hit, lease, fault, counts=_counts(error))
        self._failures.add(lease.obstacle(fault.cause), fault)


class _Refused(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.why)
        self.fault = fault


async def _discarded(socket: UpstreamSocket | None, first: asyncio.Task[aiohttp.WSMessage] | None) -> None:
    if first is not None:
        first.cancel()
    if socket is not None:
        await socket.close()


def silent(model: Model) -> set[str]:
    """List a model's endpoints that speak no WebSocket, ids as text."""
    return {id_text(one.id) for one in model.endpoints if not one.websocket}


def lease_of(pool: Pool, endpoint: Endpoint, now: float, turn: Wait | None = None) -> Lease | None:
    """Lease this endpoint of the pool, if it is free.

    `turn`: it may have waited for it.
    """
    others = {id_text(one.id) for one in pool.model.endpoints} - {id_text(endpoint.id)}
    return pool.take(now, others) if turn is None else turn.take(pool, now, others)


def fault_in(message: aiohttp.WSMessage) -> Fault | None:
    """Return the endpoint's fault in an event; None for the request's."""
    content = content_of(message)
    event = read_event(content) if content is not None else Event()
    return fault_of_event(event) if event.type == "error" else None


def fault_of_event(event: Event) -> Fault | None:
    """Return the endpoint's fault in an error; None for the request's."""
    status = event.status if isinstance(event.status, int) else 500
    if meaning_of(status) is not Meaning.FAILED:
        return None
    headers = event.headers if isinstance(event.headers, dict) else {}
    texts = {str(name).lower(): str(value) for name, value in headers.items()}
    return _fault_by_status(status, texts)


def _fault_by_status(status: int, headers: dict[str, str]) -> Fault:
    why = f"status {status}"
    if status == 401:
        return Fault(Cause.CREDENTIALS, why)
    wait = retry_after_seconds(headers, datetime.now(UTC)) if status == 429 or status >= 500 else None
    return Fault(Cause.RATE_LIMITED if status == 429 else Cause.BROKEN, why, wait)


def _fault_of(error: Exception) -> Fault:
    if isinstance(error, _Refused):
        return error.fault
    if isinstance(error, HandshakeRefused):
        return _fault_by_status(error.status, dict(error.headers))._replace(why=str(error))
    if isinstance(error, TransportError):
        return Fault(cause_of(error), str(error))
    return Fault(Cause.BROKEN, "the upstream closed the socket")


def _counts(error: Exception) -> bool:
    """Whether a failure says something of the endpoint beyond its WebSockets.

    One that does not speak them after all serves HTTP as before.
    """
    return not isinstance(error, HandshakeRefused) or meaning_of(error.status) is Meaning.FAILED


def report_failure(hit: Hit, lease: Lease, fault: Fault, *, counts: bool = True) -> None:
    """Count and log a failed attempt."""
    call, relay = hit.call, hit.runtime.relay
    call.attempt_failed(fault.cause.value)
    now = asyncio.get_running_loop().time()
    cooldown = lease.failed(fault.cause, now, retry_after_seconds=fault.wait_seconds) if counts else None
    about = {
        "request_id": call.request_id,
        "model": call.served.name if call.served is not None else None,
        "endpoint": lease.endpoint.id,
        "why": fault.why,
    }
    if cooldown is None:
        relay.log.warning("attempt failed", **about)
    else:
        relay.log.warning("attempt failed, endpoint cools down", **about, wait_ms=cooldown.wait_ms)
        relay.on_cooldown(cooldown)
