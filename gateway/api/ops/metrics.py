"""`GET /metrics`, for keys that may read usage.

Or for everybody where `server.metrics_public` is set.
"""

from __future__ import annotations

import asyncio

from gateway.access.authenticate import Shown
from gateway.api.ops.gauges import all_samples
from gateway.api.router import Hit, Route
from gateway.errors import InsufficientScope
from gateway.http.reply import Answer, Reply
from gateway.observability.metrics import Samples

_SCOPE = "usage:read"


async def metrics(hit: Hit) -> Reply:
    """Return the metrics of all workers together.

    While draining too: the last ones are worth having.
    """
    if not hit.runtime.settings.server.metrics_public:
        await _check_key(hit)
    async with hit.runtime.scraping:  # one after another: with many models, many at once would be felt by all
        samples = await all_samples(hit.runtime)
        body, content_type = await asyncio.to_thread(_text, samples, hit.request.headers.get("accept", ""))
    return Answer(200, [("content-type", content_type), ("cache-control", "no-store")], body)


def _text(samples: Samples, accept: str) -> tuple[bytes, str]:
    from gateway.observability.metrics.exposition import exposition  # loaded here: see there

    return exposition(samples, accept)


async def _check_key(hit: Hit) -> None:
    key = await hit.runtime.authenticator.key_alone(Shown.of(hit.request.headers))
    if _SCOPE not in key.scopes:
        raise InsufficientScope(f"This key does not have the scope `{_SCOPE}`.")


ROUTES = [
    Route(
        "GET", "/metrics", metrics, scope=None, summary="What Prometheus reads; needs `usage:read` unless made public"
    )
]
