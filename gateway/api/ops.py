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
from gateway.api.runtime import State
from gateway.errors import GatewayError
from gateway.http.reply import Answer, Reply

JSON = ("content-type", "application/json")

Readiness = Literal["ok", "degraded", "unready"]


async def healthz(_: Hit) -> Reply:
    return Answer(200, [JSON], b'{"status":"ok"}')


async def readyz(hit: Hit) -> Reply:
    """200 while requests are served, be it with something missing; 503 while each would be refused ("unready").

    Endpoints that cool are no reason: others would fare no better by asking elsewhere. More to those who may read
    usage. In several workers, each speaks for itself.
    """
    state = hit.state
    status = status_of(state)
    report: dict[str, object] = {"status": status}
    if await _may_see_detail(hit):
        report["detail"] = detail_of(state)
    return Answer(503 if status == "unready" else 200, [JSON], orjson.dumps(report))


def status_of(state: State) -> Readiness:
    ledger, store = state.ledger.status(), state.records.status()
    if state.calls.draining or ledger.refusing:
        return "unready"
    is_whole = store.available and store.hears_changes and not _limits_alone(state) and ledger.is_well
    return "ok" if is_whole and not _problems(state) else "degraded"


def detail_of(state: State) -> dict[str, Any]:
    store, reloader = state.records.status(), state.reloader
    return {
        "version": __version__,
        "pid": os.getpid(),
        "draining": state.calls.draining,
        "inFlight": len(state.calls),
        "tasks": len(asyncio.all_tasks()),
        "store": {
            "kind": store.kind,
            "available": store.available,
            "hearsChanges": store.hears_changes,
            "detail": store.detail,
        },
        "limits": {"keptAlone": _limits_alone(state)},
        "ledger": _ledger(state),
        "config": {
            "file": state.settings.source,
            "models": len(state.settings.models),
            "loadedAt": reloader.loaded_at.isoformat() if reloader is not None else None,
            "problems": _problems(state),
        },
        "reloads": {
            "done": reloader.reloads if reloader is not None else 0,
            "failed": reloader.failures if reloader is not None else 0,
        },
    }


def _problems(state: State) -> list[str]:
    """What is wrong with the file as it stands, while an older one is served."""
    return list(state.reloader.problems) if state.reloader is not None else []


def _limits_alone(state: State) -> bool:
    """Whether this worker counts without the others, Redis being away."""
    # The limiter of a single process has no such state: it is never more than itself.
    return bool(state.limiter.is_degraded)


def _ledger(state: State) -> dict[str, Any]:
    status = state.ledger.status()
    fields = msgspec.structs.asdict(status)
    return {"isWell": status.is_well} | {_camel_case(name): value for name, value in fields.items()}


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


async def _may_see_detail(hit: Hit) -> bool:
    try:
        key = await hit.state.authenticator.key_alone(Shown.of(hit.request.headers))
    except GatewayError:
        return False
    return "usage:read" in key.scopes


ROUTES = [
    Route("GET", "/healthz", healthz, scope=None),
    Route("GET", "/readyz", readyz, scope=None),
]
