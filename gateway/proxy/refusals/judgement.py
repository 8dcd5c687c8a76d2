"""Judge what an endpoint answered: for the request, and for the endpoint.

All but a whole good answer, which the pipeline sees to by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway.errors import UpstreamFailed
from gateway.pool import Cause, Cooldown, Lease
from gateway.proxy.ask import Ask
from gateway.proxy.attempt import Attempt
from gateway.proxy.endpoint_client import EndpointClient
from gateway.proxy.failures import Failures, Refusal
from gateway.proxy.refusals.judging import Fault, Meaning, cause_of, fault_in, meaning_of, reason_of
from gateway.proxy.refusals.refused import refused
from gateway.proxy.refusals.upstream_text import upstream_text
from gateway.proxy.response import Response
from gateway.proxy.verdicts import Verdicts, about


class Parts(Protocol):
    """Of what all requests share."""

    @property
    def on_cooldown(self) -> Callable[[Cooldown], None]: ...
    @property
    def logs_texts(self) -> bool: ...


class Judgement(Response, kw_only=True):
    """What a request's attempts came to, and what follows."""

    relay: Parts
    loop: asyncio.AbstractEventLoop = msgspec.field(default_factory=asyncio.get_running_loop)
    asked: Ask = msgspec.UNSET  # type: ignore[assignment]  # as the present pool's endpoints take it
    failures: Failures | None = None  # made at the first
    verdicts: Verdicts | None = None  # made at the first failed attempt

    async def judge(self, endpoint_client: EndpointClient, lease: Lease, attempt: Attempt) -> bool:
        """Answer by what came of an attempt; False for a failure."""
        try:
            if attempt.shape is not None:
                return await self._judge(endpoint_client, lease, attempt)
            self._had_no_answer(endpoint_client, lease, attempt)
            return False
        finally:
            attempt.close()

    async def _judge(self, endpoint_client: EndpointClient, lease: Lease, attempt: Attempt) -> bool:
        status = attempt.status
        meaning = meaning_of(status)
        if meaning is Meaning.ANSWER:
            self._alive(lease)
            await self.streamed(attempt)
            return True
        if meaning is Meaning.FAILED:
            if status == 401:
                self.log.error("upstream refuses the credential of this endpoint", **about(self.call, lease))
            text = self._text(endpoint_client, attempt)
            self._failed(lease, fault_in(attempt), reason_of(None, status), status, answer_text=text)
            return False
        if meaning is Meaning.REDIRECT:
            # Following it could lead anywhere; relaying it would lead the client past us.
            self.log.error("upstream redirects; its url needs correcting", **about(self.call, lease), status=status)
            self.call.attempt_failed("refused", reason_of(None, status), status)
            if self.noted().refusal is None:
                raise UpstreamFailed("The model's endpoint is not set up correctly.")
            return False
        self._alive(lease)
        said = {"upstream_said": self._text(endpoint_client, attempt)} if self.relay.logs_texts else {}
        self.log.info("upstream refuses the request", **about(self.call, lease), status=status, **said)
        answer = refused(endpoint_client, attempt, self.asked.operation.dialect)
        if meaning is Meaning.REFUSED:
            self.refused(answer)
            return True
        self.call.attempt_failed("refused", reason_of(None, status), status)
        if self.noted().refusal is None:
            self.noted().refusal = Refusal(answer, self.call.endpoint, self.call.served, self.asked)
        return False

    def _had_no_answer(self, endpoint_client: EndpointClient, lease: Lease, attempt: Attempt) -> None:
        """Note an attempt whose answer did not come whole."""
        text, status, error = self._text(endpoint_client, attempt), attempt.status, attempt.failure
        cause = Cause.BROKEN if error is None else cause_of(error)
        self._failed(lease, Fault(cause, str(error)), reason_of(error, status), status, answer_text=text)

    def _alive(self, lease: Lease) -> None:
        now = self.loop.time()
        lease.succeeded(now)
        if self.verdicts is not None:
            self.verdicts.succeeded(lease, now)

    def _failed(self, lease: Lease, fault: Fault, reason: str, status: int, *, answer_text: str | None = None) -> None:
        self.call.attempt_failed(fault.cause.value, reason, status)
        if self.verdicts is None:
            self.verdicts = Verdicts(self.call, self.log, self.relay.on_cooldown, self.noted())
        self.verdicts.failed(lease, fault, self.loop.time(), answer_text)

    def _text(self, endpoint_client: EndpointClient, attempt: Attempt) -> str | None:
        return upstream_text(endpoint_client, attempt) if self.relay.logs_texts else None

    def noted(self) -> Failures:
        """What stood in the request's way so far."""
        if self.failures is None:
            self.failures = Failures()
        return self.failures
