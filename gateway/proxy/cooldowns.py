"""Share cooldowns with other workers and keep them for panels (contract §5)."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import orjson

from gateway.pool import Cause, Cooldown
from gateway.proxy.upstreams import Upstreams
from gateway.store.base import RecordStore, SharedCooldown
from gateway.types import id_text


class Cooldowns:
    """Publish this worker's cooldowns and apply other workers'.

    `clock` is the monotonic one of the pools, `epoch` the seconds since 1970 that machines share.
    """

    def __init__(self, records: RecordStore, upstreams: Upstreams) -> None:
        self._records = records
        self._upstreams = upstreams
        records.on_cooldown(self._apply)

    def began(self, cooldown: Cooldown) -> None:
        """Publish a cooldown to other workers.

        A rate limit goes on record for admins and panels besides.
        """
        self._records.share_cooldown(
            SharedCooldown(
                id_text(cooldown.model_id),
                id_text(cooldown.endpoint_id),
                cooldown.cause,
                round(time.time() * 1000) + cooldown.wait_ms,
            )
        )
        if cooldown.cause is Cause.RATE_LIMITED:
            self._records.push_cooldown(record(cooldown, datetime.now(UTC)))

    def _apply(self, cooldown: SharedCooldown) -> None:
        left_seconds = cooldown.until_epoch_ms / 1000 - time.time()
        self._upstreams.apply_shared(cooldown.model_id, cooldown.endpoint_id, cooldown.cause, left_seconds)


def record(cooldown: Cooldown, at: datetime) -> bytes:
    """Return a cooldown as panels read it.

    `endpoint` is its base URL without credentials.
    """
    return orjson.dumps(
        {
            "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "modelId": cooldown.model_id,
            "modelName": cooldown.model_name,
            "endpoint": cooldown.endpoint_url,
            "waitMs": cooldown.wait_ms,
        }
    )
