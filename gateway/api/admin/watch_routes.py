"""Routes that watch endpoints, explain requests and list the audit."""

from __future__ import annotations

import asyncio

import msgspec

from gateway.admin_records import endpoint_states as watch
from gateway.admin_records import keys
from gateway.admin_records.editor import refuse_long_id
from gateway.admin_records.endpoint_states import CooldownShown, EndpointWatched
from gateway.admin_records.explain import Explainer, Explanation
from gateway.admin_records.redaction import AuditEntry
from gateway.api.admin.typed import answer, desk, done, limit, manage
from gateway.api.router import Hit
from gateway.errors import InvalidRequest, LedgerUnavailable
from gateway.http.reply import Reply
from gateway.pool import Pool
from gateway.proxy.books.accounting import UNWRITABLE
from gateway.types import Model

_AUDIT_ENTRIES = 100


async def _pool_of(hit: Hit) -> watch.PoolOf:
    upstreams, catalogue = hit.runtime.relay.upstreams, await hit.runtime.store.catalogue()

    def pool_of(model: Model) -> Pool:
        return upstreams.of(model, catalogue).pool

    return pool_of


async def list_endpoints(hit: Hit) -> Reply:
    return answer(await watch.endpoints(desk(hit), await _pool_of(hit), asyncio.get_running_loop().time()))


async def list_cooldowns(hit: Hit) -> Reply:
    return answer(await watch.cooldowns(desk(hit)))


async def reset_cooldown(hit: Hit) -> Reply:
    now = asyncio.get_running_loop().time()
    await watch.reset(desk(hit), await _pool_of(hit), hit.params["model"], hit.params["endpoint"], now)
    return done()


async def explain(hit: Hit) -> Reply:
    """`?key=ID` or `?user=ID`, and perhaps `&model=NAME`."""
    runtime, query = hit.runtime, hit.request.query
    key_id, user_id = query.get("key"), query.get("user")
    if (key_id is None) == (user_id is None):
        raise InvalidRequest("Give either `key` or `user`.")
    explainer = Explainer(
        runtime.settings,
        runtime.store,
        runtime.limiter,
        await _pool_of(hit),
        asyncio.get_running_loop().time,
        runtime.clock,
        lambda: LedgerUnavailable(UNWRITABLE) if runtime.ledger.status().refusing else None,
    )
    refuse_long_id(key_id or user_id or "", "key" if key_id is not None else "user")
    refuse_long_id(query.get("model") or "", "model")
    key = await keys.any_key(desk(hit), key_id) if key_id is not None else None
    owner = key.user if key is not None else runtime.store.user_id(user_id or "")
    return answer(await explainer.explain(user_id=owner, key=key, asked=query.get("model")))


async def audit(hit: Hit) -> Reply:
    return answer(await desk(hit).trail(limit(hit, _AUDIT_ENTRIES)))


class DefinedInFile(msgspec.Struct):
    """What gateway.yaml defines of one kind: the line of each, by id."""

    file: str
    lines: dict[str, int]


async def defined_in_file(hit: Hit) -> Reply:
    """Name the lines of the records that cannot be changed by routes."""
    settings, kind = hit.runtime.settings, hit.params["kind"]
    return answer(DefinedInFile(settings.source, dict(settings.lines.by_kind.get(kind, {}))))


ROUTES = [
    manage("GET", "ai/endpoints", list_endpoints, "How each endpoint is doing", answer=list[EndpointWatched]),
    manage("GET", "ai/cooldowns", list_cooldowns, "The newest 100 cooldowns", answer=list[CooldownShown]),
    manage("DELETE", "ai/endpoints/{model}/{endpoint}/cooldown", reset_cooldown, "End a cooldown, on every worker"),
    manage("GET", "explain", explain, "Why a request would be served as it is", answer=Explanation),
    manage("GET", "file/{kind}", defined_in_file, "Where gateway.yaml defines each record", answer=DefinedInFile),
    manage("GET", "audit", audit, "Who changed what, newest first", answer=list[AuditEntry]),
]
