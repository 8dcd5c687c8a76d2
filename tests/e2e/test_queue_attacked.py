"""What waits is nobody's loss: not by `kill -9`, and not for others by one user with many keys."""

from __future__ import annotations

import signal
from pathlib import Path

from kit import KEYS, assert_error, request_bytes
from kit.books import rows, stored
from kit.wire import Wire
from test_queue import FIRST, MOST, holding, stage_with


async def test_killed_while_it_waits_it_was_never_admitted(tmp_path: Path) -> None:
    """The one that was served is `interrupted`; the one that waited is in no row, and holds no limit."""
    async with stage_with(tmp_path, may_end=True) as stage, holding(stage, stage.model()) as held:
        await held.crowd.ask(held.model.chat(), key=FIRST)
        stage.gateway.signal(signal.SIGKILL)
        await stage.gateway.wait()
        held.release.set()
        assert held.model.asked() == [1]
    async with stage_with(tmp_path) as stage:
        assert (await stage.post(stage.model().chat(), key=FIRST)).status == 200
        await rows(stage.gateway, "anyone", 1)
    assert [(row["user_id"], row["outcome"]) for row in stored(tmp_path)] == [("42", "interrupted"), ("anyone", "ok")]


async def test_many_keys_of_one_user_are_one_user(tmp_path: Path) -> None:
    """They hold half of the queue together; somebody else still comes in."""
    async with stage_with(tmp_path) as stage, holding(stage, stage.model()) as held:
        made = []
        for _ in range(MOST // 2 + 1):
            async with Wire.open(stage.port) as wire:
                await wire.send(request_bytes("POST", "/api/ai/keys", {}, key=KEYS["user"]))
                made.append(str((await wire.reply()).json()["key"]))
        for key in made[:-1]:
            await held.crowd.ask(held.model.chat(), key=key)
        refused = await held.crowd.send(held.model.chat(), key=made[-1])
        assert_error(await refused.reply(), 503, "overloaded")
        await held.crowd.ask(held.model.chat(), key=FIRST)
        held.release.set()
