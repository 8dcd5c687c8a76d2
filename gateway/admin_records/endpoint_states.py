"""Watch endpoints: their health, their cooldowns, and resets."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.admin_records.editor import Desk
from gateway.admin_records.models import known_model
from gateway.errors import RecordNotFound
from gateway.pool import Pool
from gateway.pool.state import EndpointState, State
from gateway.store.base import SharedCooldown
from gateway.types import Id, Model, id_text

PoolOf = Callable[[Model], Pool]

MOST_COOLDOWNS = 100


class EndpointWatched(msgspec.Struct):
    """`cause` and `secondsLeft` are of a cooldown; `failures` those in a row."""

    modelId: Id
    modelName: str
    endpointId: Id
    url: str
    priority: int
    weight: int
    state: State
    cause: str | None
    secondsLeft: float
    failures: int
    inFlight: int


class CooldownShown(msgspec.Struct):
    """A rate-limit cooldown.

    `endpoint` is its base URL, `timestamp` ISO 8601.
    """

    timestamp: str
    modelId: Id
    modelName: str
    endpoint: str
    waitMs: int


async def endpoints(desk: Desk, pool_of: PoolOf, now: float) -> list[EndpointWatched]:
    """List every model's endpoints as this process sees them.

    `now` is of the clock of the pools.
    """
    catalogue = await desk.catalogue()
    return [watched(model, state) for model in catalogue.models for state in pool_of(model).snapshot(now)]


def watched(model: Model, state: EndpointState) -> EndpointWatched:
    return EndpointWatched(
        modelId=model.id,
        modelName=model.name,
        endpointId=state.id,
        url=state.url,
        priority=state.priority,
        weight=state.weight,
        state=state.state,
        cause=state.cause.value if state.cause is not None else None,
        secondsLeft=round(state.seconds_left, 3),
        failures=state.failures,
        inFlight=state.in_flight,
    )


async def cooldowns(desk: Desk) -> list[CooldownShown]:
    """List the newest 100 cooldowns, newest first.

    Entries that a panel wrote in another form are passed over.
    """
    shown = [_shown(record) for record in await desk.records.cooldowns(MOST_COOLDOWNS)]
    return [each for each in shown if each is not None]


def _shown(record: bytes) -> CooldownShown | None:
    try:
        return msgspec.json.decode(record, type=CooldownShown)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


async def reset(desk: Desk, pool_of: PoolOf, model_id: str, endpoint_id: str, now: float) -> None:
    """End a cooldown on every worker, and forget its failures."""
    model = known_model(await desk.catalogue(), model_id)
    pool = pool_of(model)
    before = next((state for state in pool.snapshot(now) if id_text(state.id) == endpoint_id), None)
    if before is None:
        raise RecordNotFound(f"The model `{model.name}` has no endpoint with the id `{endpoint_id}`.")
    pool.reset(endpoint_id)
    epoch_ms = int(desk.clock().timestamp() * 1000)
    desk.records.share_cooldown(SharedCooldown(id_text(model.id), endpoint_id, None, epoch_ms))
    after = next(state for state in pool.snapshot(now) if state.id == before.id)
    await desk.written_down("delete", "cooldown", before.id, before=watched(model, before), after=watched(model, after))
