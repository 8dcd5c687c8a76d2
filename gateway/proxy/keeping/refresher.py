"""Read an object again where it lies."""

from __future__ import annotations

import asyncio
from typing import NamedTuple
from urllib.parse import quote

from gateway.dialects import openai
from gateway.errors import TransportError
from gateway.http.client import Transport
from gateway.objects.accounts import Accounts
from gateway.objects.record import ObjectRecord
from gateway.proxy.attempt import Attempt
from gateway.proxy.endpoint_client import Shape
from gateway.proxy.keeping.pins import models_at
from gateway.proxy.refusals.masking import readable
from gateway.proxy.upstreams import Upstream, Upstreams
from gateway.proxy.usage_meter import UsageMeter
from gateway.store.base import Catalogue
from gateway.types import id_text

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
        target = row.path.replace(f"{{{row.segments[0].name}}}", quote(record.id, safe=":~@=+,!"))
        for model in models_at(account, self._catalogue.models, record.model):
            upstream = self._upstreams.of(model, self._catalogue)
            here = {id_text(each.id) for each in account.endpoints_of(model) if "openai" in each.protocols}
            seen = await self._look_at(upstream, upstream.outlets.keys() - here, target)
            if seen is not None:
                return seen
        return None

    async def _look_at(self, upstream: Upstream, left_out: set[str], target: str) -> Seen | None:
        loop = asyncio.get_running_loop()
        lease = upstream.pool.take(loop.time(), left_out)
        if lease is None:
            return None
        client = upstream.outlets[lease.endpoint_id]
        attempt = Attempt(
            loop,
            lease.endpoint.timeouts,
            expects_stream=False,
            take_usage_out=False,
            give_up_at=loop.time() + _SECONDS,
            meter=UsageMeter(),
        )
        try:
            head = client.head(target, 0, self._own_fields, method="GET", is_lasting=False)
            exchange = await self._transport.exchange(
                client.origin, head, b"", attempt, connect_timeout=min(lease.endpoint.timeouts.connect, _SECONDS)
            )
            if await attempt.opened(exchange) is not None:
                return None
            if attempt.status < 500:
                lease.succeeded(loop.time())
            is_whole = attempt.shape is Shape.WHOLE
            body = readable(attempt.body, attempt.head.encoding) if is_whole and attempt.status == 200 else b""
            return None if body is None else Seen(attempt.status, body)
        except TransportError:
            return None
        finally:
            attempt.close()
            lease.release()

    def __repr__(self) -> str:
        return f"<Refresher over {self._accounts!r}>"
