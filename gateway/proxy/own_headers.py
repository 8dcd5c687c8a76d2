"""The gateway's own response headers on relayed routes (contract §4)."""

from __future__ import annotations

from time import perf_counter

from gateway.dialects import openai
from gateway.observability.calls import Call
from gateway.store.base import Catalogue


def own_headers(call: Call, catalogue: Catalogue, *, with_timing: bool) -> list[tuple[str, str]]:
    """List the gateway's own headers for a call, as it stands."""
    own = [("x-request-id", call.request_id), ("x-gateway-attempts", str(call.attempts))]
    served, asked = call.served, call.requested_model
    if served is not None:
        own.append(("x-gateway-model", openai.printable(served.name)))
    if asked is not None and (served is None or asked != served.name) and _serves_another(call, catalogue):
        own.append(("x-gateway-requested-model", openai.printable(asked)))
    if with_timing:
        share = perf_counter() - call.began - call.upstream_seconds
        own.append(("server-timing", f"gateway;dur={share * 1000:.2f}"))
    return own


def _serves_another(call: Call, catalogue: Catalogue) -> bool:
    """Whether another model answers than the client named."""
    named = catalogue.find(call.requested_model or "")
    return named is None or named is not call.served
