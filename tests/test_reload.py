"""The reloader on its own: real files, no gateway; what it takes over, what it leaves, and that nothing ends it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grants.grants_kit import Log, until

from gateway.config import Settings, load_settings
from gateway.reload import Reloader, Watched, fingerprint

MODELS = "models: [{id: 1, name: NAME, global: true, endpoints: [{id: a, url: 'https://upstream.example/v1'}]}]\n"


class Scene:
    """A file, and what was applied of it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "gateway.yaml"
        self.write("first")
        self.log = Log()
        self.before = Watched.now(self.path).fingerprint
        self.served = load_settings(self.path, {})
        self.applied: list[Settings] = []

    def write(self, name: str) -> None:
        self.path.write_text(MODELS.replace("NAME", name))

    @property
    def watched(self) -> Watched:
        return Watched(self.path, self.before)

    def reloader(self) -> Reloader:
        return Reloader(self.watched, {}, self.served, self.applied.append, self.log.logger)

    def names(self) -> list[str]:
        return [settings.models[0].name for settings in self.applied]


class Environ(dict[str, str]):
    """An empty environment that counts how often it was asked: each reading of the file asks as often."""

    asked = 0

    def get(self, *arguments: Any) -> Any:
        self.asked += 1
        return super().get(*arguments)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@contextlib.asynccontextmanager
async def watching(reloader: Reloader) -> AsyncIterator[None]:
    task = asyncio.create_task(reloader.watch())
    try:
        yield
        assert not task.done(), "the watching has ended"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_reload_applies_the_file_and_tells_what_changed(scene: Scene) -> None:
    reloader = scene.reloader()
    loaded_at = reloader.loaded_at
    scene.write("second")
    assert await reloader.reload()
    assert scene.names() == ["second"]
    assert reloader.settings is scene.applied[0]
    assert reloader.loaded_at > loaded_at
    assert (reloader.reloads, reloader.failures, reloader.problems) == (1, 0, ())
    (told,) = scene.log.events("configuration reloaded")
    assert "model second: name first → second" in told["changes"]


async def test_a_broken_file_is_told_and_nothing_is_applied(scene: Scene) -> None:
    """The problems stay until the file is whole again, be it with what is served already."""
    reloader = scene.reloader()
    whole = scene.path.read_text()
    scene.path.write_text("modles: []\n")
    assert not await reloader.reload()
    assert scene.applied == []
    assert (reloader.reloads, reloader.failures) == (0, 1)
    assert f"{scene.path}:1: modles" in reloader.problems[0]
    scene.path.write_text(whole)
    assert await reloader.reload()
    assert reloader.problems == ()


async def test_a_change_from_before_the_watching_is_found(scene: Scene) -> None:
    """Between the reading of the file and the first look lies the whole start of a gateway."""
    scene.write("meanwhile")
    async with watching(scene.reloader()):
        await until(lambda: scene.names() == ["meanwhile"])


async def test_a_break_from_before_the_watching_is_told(scene: Scene) -> None:
    scene.path.write_text("modles: []\n")
    reloader = scene.reloader()
    async with watching(reloader):
        await until(lambda: reloader.problems != ())
    assert scene.applied == []


async def test_an_unchanged_file_is_not_even_read_at_the_start(scene: Scene) -> None:
    """With a hundred thousand keys, reading it takes seconds in which requests would share the interpreter with it."""
    once, environ = Environ(), Environ()
    load_settings(scene.path, once)
    reloader = Reloader(scene.watched, environ, scene.served, scene.applied.append, scene.log.logger)
    async with watching(reloader):
        scene.write("the first change")
        await until(lambda: scene.names() == ["the first change"])
    assert (reloader.reloads, environ.asked) == (1, once.asked)


async def test_a_file_that_goes_and_comes_back_is_watched_on(scene: Scene) -> None:
    reloader = scene.reloader()
    async with watching(reloader):
        scene.path.unlink()
        assert not await reloader.reload()
        scene.write("back")
        await until(lambda: scene.names() == ["back"])


async def test_a_link_that_is_swapped_counts_as_a_change(scene: Scene, tmp_path: Path) -> None:
    """As Kubernetes does with its ConfigMaps."""
    other = tmp_path / "other.yaml"
    other.write_text(MODELS.replace("NAME", "swapped"))
    link = tmp_path / "link.yaml"
    link.symlink_to(scene.path)
    scene.path = link
    async with watching(scene.reloader()):
        fresh = tmp_path / "fresh.yaml"
        fresh.symlink_to(other)
        fresh.replace(link)
        await until(lambda: scene.names() == ["swapped"])


async def test_a_fault_of_our_own_is_told_and_does_not_end_the_watching(scene: Scene) -> None:
    """A bug met while a file is taken over is logged and shown, and the next change is looked at all the same."""
    reloader = scene.reloader()
    before, reloader.settings = reloader.settings, None  # type: ignore[assignment]  # a bug, of which there are none
    async with watching(reloader):
        scene.write("second")
        await until(lambda: reloader.failures == 1)
        assert "because of a bug" in reloader.problems[0]
        reloader.settings = before
        scene.write("the third")
        await until(lambda: scene.names() == ["the third"])
    assert scene.log.events("configuration not reloaded: a bug")[0]["level"] == "error"


def test_a_fingerprint_tells_a_file_from_none_and_from_another(tmp_path: Path) -> None:
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_text("x")
    first = fingerprint(file)
    other.write_text("y")
    other.replace(file)
    assert fingerprint(tmp_path / "none") is None
    assert None not in (first, fingerprint(file))
    assert first != fingerprint(file)
