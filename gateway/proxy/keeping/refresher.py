"""Read an object again where it lies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import quote

from gateway.dialects import openai
from gateway.errors import ConnectionCut, GatewayError, TransportError
from gateway.http.client import Transport
from gateway.objects.accounts import Account, Accounts
from gateway.objects.record import ObjectRecord
from gateway.proxy.attempt import Attempt
from gateway.proxy.endpoint_client import EndpointClient, Shape
from gateway.proxy.keeping.pins import models_at
from gateway.proxy.refusals.masking import readable
from gateway.proxy.upstreams import Upstream, Upstreams
from gateway.proxy.usage_meter import UsageMeter
from gateway.store.base import Catalogue
from gateway.types import id_text

_CONTENT_SECONDS = 600.0  # for a whole file
_SAFE = ":~@=+,!"
_SECONDS = 5.0  # for one look: a list shows what was seen last rather than wait for it


class Seen(NamedTuple):
    """The upstream's status, and the whole body of a good answer."""

    status: int
    body: bytes


class Refresher:
    """Reads objects for one caller's request or for none at all.

    `own_fields`: header lines that each request bears.
    """

    def __init__(
        self, transport: Transport, upstreams: Upstreams, accounts: Accounts, catalogue: Catalogue, own_fields: bytes
    ) -> None:
        self._transport = transport
        self._upstreams = upstreams
        self._accounts = accounts
        self._catalogue = catalogue
        self._own_fields = own_fields

    async def look(self, record: ObjectRecord) -> Seen | None:
        """Read an object; None where its upstream is away."""
        row = openai.RETRIEVALS.get(record.kind)
        account = self._accounts.find(record.account)
        if row is None or account is None:
            return None
        target = row.path.replace(f"{{{row.segments[0].name}}}", quote(record.id, safe=_SAFE))
        for upstream, left_out in self._upstreams_at(account, record.model):
            seen = await self._look_at(upstream, left_out, target)
            if seen is not None:
                return seen
        return None

    async def follow(self, label: str, model: str | None, file_id: str, on_data: Callable[[bytes], None]) -> int | None:
        """Read a file's content piece by piece; return the status.

        None where its upstream is away, or the content was not whole; then `on_data` may have had some of it. What that
        raises ends the reading.
        """
        account = self._accounts.find(label)
        if account is None:
            return None
        target = f"/files/{quote(file_id, safe=_SAFE)}/content"
        for upstream, left_out in self._upstreams_at(account, model):
            return await self._follow_at(upstream, left_out, target, on_data)
        return None

    def _upstreams_at(self, account: Account, first: str | None) -> Iterator[tuple[Upstream, set[str]]]:
        """Yield an account's pools, each with the endpoints to leave out."""
        for model in models_at(account, self._catalogue.models, first):
            upstream = self._upstreams.of(model, self._catalogue)
            here = {id_text(each.id) for each in account.endpoints_of(model) if "openai" in each.protocols}
            yield upstream, upstream.outlets.keys() - here

    async def _look_at(self, upstream: Upstream, left_out: set[str], target: str) -> Seen | None:
        async with self._asked(upstream, left_out, target, _SECONDS) as attempt:
            if attempt is None:
                return None
            is_whole = attempt.shape is Shape.WHOLE
            body = readable(attempt.body, attempt.head.encoding) if is_whole and attempt.status == 200 else b""
            return None if body is None else Seen(attempt.status, body)

    async def _follow_at(
        self, upstream: Upstream, left_out: set[str], target: str, on_data: Callable[[bytes], None]
    ) -> int | None:
        failures: list[Exception] = []
        async with self._asked(upstream, left_out, target, _CONTENT_SECONDS) as attempt:
            if attempt is None or attempt.head.encoding:  # which we had not asked for
                return None

            def take(data: bytes) -> None:
                try:
                    if not failures:
                        on_data(data)
                except GatewayError as fault:
                    failures.append(fault)
                    attempt.on_failure(ConnectionCut("its reader has stopped"))  # so that `pour` ends

            broken = await attempt.pour(take) if attempt.status == 200 else None
            if failures:
                raise failures[0]
            return None if broken is not None else attempt.status

    @asynccontextmanager
    async def _asked(
        self, upstream: Upstream, left_out: set[str], target: str, seconds: float
    ) -> AsyncIterator[Attempt | None]:
        """Give an answer that has opened, or None."""
        loop = asyncio.get_running_loop()
        lease = upstream.pool.take(loop.time(), left_out)
        if lease is None:
            yield None
            return
        client = upstream.outlets[lease.endpoint_id]
        attempt = Attempt(
            loop,
            lease.endpoint.timeouts,
            expects_stream=False,
            take_usage_out=False,
            give_up_at=loop.time() + seconds,
            meter=UsageMeter(),
        )
        try:
            opened = await self._opened(attempt, client, target, seconds)
            if opened and attempt.status < 500:
                lease.succeeded(loop.time())
            yield attempt if opened else None
        finally:
            attempt.close()
            lease.release()

    async def _opened(self, attempt: Attempt, client: EndpointClient, target: str, seconds: float) -> bool:
        try:
            head = client.head(target, 0, self._own_fields, method="GET", is_lasting=False)
            connect = min(client.endpoint.timeouts.connect, seconds)
            exchange = await self._transport.exchange(client.origin, head, b"", attempt, connect_timeout=connect)
            return await attempt.opened(exchange) is None
        except TransportError:
            return False

    def __repr__(self) -> str:
        return f"<Refresher over {self._accounts!r}>"
