"""An explanation for people, in lines."""

from __future__ import annotations

from gateway.admin_records.endpoint_states import EndpointWatched
from gateway.admin_records.explain.explanation import Explanation, LimitExplained, PoolExplained
from gateway.types import id_text


def explanation_text(explained: Explanation) -> str:
    """All of it, in lines."""
    user, verdict = explained.user, explained.verdict
    who = f"user {id_text(user.id)} (tier {user.tier})" + (
        f", key {id_text(explained.key.id)}" if explained.key else ""
    )
    what = f"model {explained.asked}" if explained.asked is not None else "the assigned model"
    end = f"served by {verdict.model}" if verdict.served else f"refused: {verdict.code}"
    lines = [f"{who}, {what}", f"  {end}: {verdict.why}", "sources, in order"]
    for source in explained.sources:
        mark = ">" if source.wins else "+" if source.granted else "-"
        name = source.source if source.id is None else f"{source.source} {id_text(source.id)}"
        lines.append(f"  {mark} {name}: {source.why}")
    lines += ["limits", *map(_limit_line, explained.limits)] if explained.limits else ["limits: none"]
    for pool in explained.pools:
        lines.append(f"pool of {'the fallback ' * pool.fallback}{pool.model}, by {pool.rotation}")
        lines += [_endpoint_line(pool, endpoint) for endpoint in pool.endpoints]
    return "\n".join([*lines, *explained.overridden])


def _limit_line(limit: LimitExplained) -> str:
    most = _amount(limit.most)
    used = f"{most}, used: cannot be told now" if limit.used is None else f"{_amount(limit.used)} of {most}"
    resets = f", resets at {limit.resetsAt}" if limit.resetsAt is not None else ""
    return f"  {limit.counts}: {limit.limit} {used} ({limit.window}{resets})"


def _amount(number: float) -> str:
    return f"{number:,.0f}" if number == int(number) else f"{number:g}"


def _endpoint_line(pool: PoolExplained, endpoint: EndpointWatched) -> str:
    turn = f"{pool.order.index(endpoint.endpointId) + 1}." if endpoint.endpointId in pool.order else "-"
    rest = f", {endpoint.cause} for {endpoint.secondsLeft:.0f} s more" if endpoint.cause is not None else ""
    counts = f"{endpoint.failures} failures in a row, {endpoint.inFlight} in flight"
    return f"  {turn} {id_text(endpoint.endpointId)} {endpoint.url}: {endpoint.state}{rest}, {counts}"
