"""`/readyz` for load balancers: taken out of rotation only where every request would be refused."""

from __future__ import annotations

from kit import Stage, assert_error
from kit.answers import upstream_error


async def test_endpoints_that_cool_take_nobody_out_of_rotation(stage: Stage) -> None:
    """All of one model's endpoints are cooling: other models are served, and elsewhere it would be no better."""
    model = stage.model()
    for endpoint in model.endpoints:
        endpoint.always(upstream_error(429, retry_after="60"))
    assert_error(await stage.post(model.chat()), 429, "upstream_rate_limited", "rate_limit_error")
    ready = await stage.get("/readyz", key=None)
    assert (ready.status, ready.json()) == (200, {"status": "ok"})
