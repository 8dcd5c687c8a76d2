"""For load balancers and operators: is it alive, can it serve?"""

from __future__ import annotations

import asyncio
import os
from typing import Any, Literal

import msgspec
import orjson

from gateway import __version__
from gateway.access.authenticate import Shown
from gateway.api.router import Hit, Route
from gateway.api.runtime import Runtime
from gateway.errors import GatewayError
from gateway.http.reply import Answer, Reply

JSON = ("content-type", "application/json")

Readiness = Literal["ok", "degraded", "unready"]


async def healthz(_: Hit) -> Reply:
    return Answer(200, [JSON], b'{"status":"ok"}')


async def readyz(hit: Hit) -> Reply:
    """Return 200 while requests are served, 503 while each is refused.

    200 be it with something missing; 503 is "unready".

    Endpoints that cool are no reason: others would fare no better by asking elsewhere. More to those who may read
    usage. In several workers, each speaks for itself.
    """
    runtime = hit.runtime
    status = status_of(runtime)
    report: dict[str, object] = {"status": status}
    if await _may_see_detail(hit):
        report["detail"] = detail_of(runtime)
    return Answer(503 if status == "unready" else 200, [JSON], orjson.dumps(report))


def status_of(runtime: Runtime) -> Readiness:
    ledger, store = runtime.ledger.status(), runtime.records.status()
    if runtime.calls.draining or ledger.refusing:
        return "unready"
    has_keys = all(each.keys for each in runtime.key_sets.statuses())
    is_whole = has_keys and store.available and store.receives_changes and not _limits_alone(runtime) and ledger.is_well
    return "ok" if is_whole and not _problems(runtime) else "degraded"


def detail_of(runtime: Runtime) -> dict[str, Any]:
    store, reloader = runtime.records.status(), runtime.reloader
    return {
        "version": __version__,
        "pid": os.getpid(),
        "draining": runtime.calls.draining,
        "inFlight": len(runtime.calls),
        "tasks": len(asyncio.all_tasks()),
        "store": {
            "kind": store.kind,
            "available": store.available,
            "hearsChanges": store.receives_changes,
            "detail": store.detail,
        },
        "queue": {"waiting": len(runtime.queue), "max": runtime.settings.queue.max},
        "limits": {"keptAlone": _limits_alone(runtime)},
        "ledger": _ledger(runtime),
        "config": {
            "file": runtime.settings.source,
            "models": len(runtime.settings.models),
            "loadedAt": reloader.loaded_at.isoformat() if reloader is not None else None,
            "problems": _problems(runtime),
        },
        "issuers": [msgspec.structs.asdict(each) for each in runtime.key_sets.statuses()],
        "reloads": {
            "done": reloader.reloads if reloader is not None else 0,
            "failed": reloader.failures if reloader is not None else 0,
        },
    }


def _problems(runtime: Runtime) -> list[str]:
    """Return the problems of a file that is not served.

    An older one is served meanwhile.
    """
    return list(runtime.reloader.problems) if runtime.reloader is not None else []


def _limits_alone(runtime: Runtime) -> bool:
    """Whether this worker counts without the others, Redis being away."""
    # The limiter of a single process has no such state: it is never more than itself.
    return bool(runtime.limiter.is_degraded)


def _ledger(runtime: Runtime) -> dict[str, Any]:
    status = runtime.ledger.status()
    fields = msgspec.structs.asdict(status)
    return {"isWell": status.is_well} | {_camel_case(name): value for name, value in fields.items()}


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


async def _may_see_detail(hit: Hit) -> bool:
    try:
        key = await hit.runtime.authenticator.key_alone(Shown.of(hit.request.headers))
    except GatewayError:
        return False
    return "usage:read" in key.scopes


ROUTES = [
    Route("GET", "/healthz", healthz, scope=None),
    Route("GET", "/readyz", readyz, scope=None),
]
