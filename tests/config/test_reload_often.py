"""Files that never keep still, and signals by the hundred."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial
from pathlib import Path

import pytest
from store.grants_kit import Log, until

from gateway.access.diff import differences
from gateway.config import Settings, load_settings
from gateway.config.apart import Reading
from gateway.config.reload import Reloader, Watched
from gateway.types import id_text

MAIN = """include: [keys/*.yaml]
models: [{id: 1, name: m, global: true, endpoints: [{id: a, url: 'https://upstream.example/v1'}]}]
"""
KEY = "keys:\n- {{id: {name}-{number}, user: {name}, key: 'sk-{name}-{number:05}-0123456789abcdef'}}\n"
WRITES = 25


class House:
    """gateway.yaml with a folder of keys, and what was applied of it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "gateway.yaml"
        self.path.write_text(MAIN)
        (directory / "keys").mkdir()
        for name in ("ann", "bob"):
            self.file(name).write_text(KEY.format(name=name, number=0))
        self.applied: list[Settings] = []
        self.log = Log()
        watched = Watched.now(self.path)
        served = load_settings(self.path, {})
        self.reloader = Reloader(
            watched, {}, served, lambda fresh: partial(self.applied.append, fresh), differences, self.log.logger
        )

    def file(self, name: str) -> Path:
        return self.path.parent / "keys" / f"{name}.yaml"

    def keys(self) -> set[str]:
        return {id_text(key.id) for key in self.reloader.settings.keys}


async def test_two_operators_who_write_at_once_wait_for_nobody(tmp_path: Path) -> None:
    """Each writes in place and in two steps; what is served is always whole, in the end the last of both."""
    house = House(tmp_path)

    async def write(name: str) -> None:
        for number in range(1, WRITES + 1):
            text = KEY.format(name=name, number=number)
            with house.file(name).open("w") as file:
                file.write(text[:30])
                file.flush()
                await asyncio.sleep(0.01)
                file.write(text[30:])
            await asyncio.sleep(0.15)

    watching = asyncio.create_task(house.reloader.watch())
    writers = [asyncio.create_task(write(name)) for name in ("ann", "bob")]
    await until(lambda: bool(house.applied))
    assert not all(writer.done() for writer in writers), "nothing holds while files go on changing"
    await asyncio.gather(*writers)
    await until(lambda: house.keys() == {f"ann-{WRITES}", f"bob-{WRITES}"})
    assert all(len(settings.keys) == 2 for settings in house.applied)
    assert not [line for line in house.log.lines if "bug" in str(line.get("event", ""))]
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching


async def test_a_storm_of_signals_is_one_more_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house, begun, may_go_on = House(tmp_path), threading.Event(), threading.Event()
    run = Reading.run

    def slowly(self: Reading) -> Settings:
        begun.set()
        assert may_go_on.wait(30)
        return run(self)

    monkeypatch.setattr(Reading, "run", slowly)
    asked = [house.reloader.reload_soon()]
    await until(begun.is_set)
    asked += [house.reloader.reload_soon() for _ in range(300)]
    house.file("ann").write_text(KEY.format(name="ann", number=7))
    may_go_on.set()
    assert all(await asyncio.gather(*asked))
    assert house.reloader.reloads == 2
    assert house.keys() == {"ann-7", "bob-0"}
