"""The reloader on its own: real files, no gateway; what it takes over, what it leaves, and that nothing ends it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from store.grants_kit import Log, until

from gateway.access.diff import differences
from gateway.config import Settings, load_settings
from gateway.config.apart import Reading
from gateway.config.reload import Reloader, Watched
from gateway.config.yaml.fingerprints import fingerprint
from gateway.errors import ConfigError

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
        return Reloader(self.watched, {}, self.served, self.prepare, differences, self.log.logger)

    def prepare(self, fresh: Settings) -> Callable[[], None]:
        return partial(self.applied.append, fresh)

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
    reloader = Reloader(scene.watched, environ, scene.served, scene.prepare, differences, scene.log.logger)
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


async def test_a_file_that_is_cut_to_nothing_changes_nothing(scene: Scene) -> None:
    """As editors and config managers leave it for a moment, or a full disk for good."""
    reloader = scene.reloader()
    for text in ("", "\n\n", "# all of it is a comment\n"):
        scene.path.write_text(text)
        assert not await reloader.reload()
        assert reloader.problems == (
            f"{scene.path}:1: (top level): the file has no section: it is empty, or holds comments alone",
        )
    assert scene.applied == []


async def test_a_large_file_is_taken_over_as_a_small_one(scene: Scene) -> None:
    reloader = scene.reloader()
    users = "users:\n" + "".join(f"- {{id: {n}}}\n" for n in range(3_000))
    scene.path.write_text(MODELS.replace("NAME", "large") + users)
    assert await reloader.reload()
    assert len(scene.applied[0].users) == 3_000
    (told,) = scene.log.events("configuration reloaded")
    assert "user 2999 added (tier free)" not in told["changes"]  # the rest is a number
    assert told["changes"][-1].startswith("… and ")
    scene.path.write_text(scene.path.read_text() + "x: [\n" + "y: 1\n" * 500)
    assert not await reloader.reload()


async def test_a_file_with_a_thousand_problems_is_told_of_in_bounds(scene: Scene) -> None:
    reloader = scene.reloader()
    scene.path.write_text("".join(f"unknown{n}: 1\n" for n in range(1_000)))
    assert not await reloader.reload()
    assert len(reloader.problems) == 201
    assert reloader.problems[-1] == "… and 800 more"


class Credential:
    """A file that gateway.yaml names, as a secrets manager keeps it."""

    def __init__(self, scene: Scene, directory: Path) -> None:
        self.path = directory / "credential"
        self.path.write_text("first")
        with_key = MODELS.replace("id: a,", "id: a, api_key: '${file:credential}',").replace("NAME", "first")
        scene.path.write_text(with_key)
        scene.before = fingerprint(scene.path)
        scene.served = load_settings(scene.path, {})
        self._scene = scene

    def served(self) -> list[str]:
        keys = [settings.models[0].endpoints[0].api_key for settings in self._scene.applied]
        return [key.reveal() for key in keys if key is not None]


async def test_a_rotated_credential_is_taken_over(scene: Scene, tmp_path: Path) -> None:
    """The file's own text has not changed at all; each of the ways to write the other one counts."""
    credential = Credential(scene, tmp_path)
    async with watching(scene.reloader()):
        credential.path.write_text("second")
        await until(lambda: credential.served() == ["second"])
        fresh = tmp_path / "fresh"
        fresh.write_text("third")
        fresh.replace(credential.path)
        await until(lambda: credential.served() == ["second", "third"])


async def test_a_credential_rotated_before_the_watching_is_found(scene: Scene, tmp_path: Path) -> None:
    credential = Credential(scene, tmp_path)
    credential.path.write_text("rotated")
    async with watching(scene.reloader()):
        await until(lambda: credential.served() == ["rotated"])


async def test_a_credential_that_is_gone_for_a_while_changes_nothing_until_it_is_back(
    scene: Scene, tmp_path: Path
) -> None:
    credential = Credential(scene, tmp_path)
    reloader = scene.reloader()
    async with watching(reloader):
        credential.path.unlink()
        await until(lambda: reloader.problems != ())
        assert "the file 'credential' cannot be read" in reloader.problems[0]
        credential.path.write_text("back")
        await until(lambda: credential.served() == ["back"])
        assert reloader.problems == ()


async def test_a_credential_that_a_broken_file_waits_for_is_watched(scene: Scene, tmp_path: Path) -> None:
    """The configuration came before its secret did."""
    reloader = scene.reloader()
    async with watching(reloader):
        text = scene.path.read_text()
        scene.path.write_text(text.replace("id: a,", "id: a, api_key: '${file:later}',"))
        await until(lambda: reloader.problems != ())
        (tmp_path / "later").write_text("here")
        await until(lambda: len(scene.applied) == 1)


async def test_a_reload_that_is_cancelled_ends_its_process(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop does not wait for a large file."""
    stopped, begun = threading.Event(), threading.Event()

    def run(self: Reading) -> Settings:
        begun.set()
        assert stopped.wait(30)
        raise ConfigError(["ended"])

    monkeypatch.setattr(Reading, "run", run)
    monkeypatch.setattr(Reading, "stop", lambda self: stopped.set())
    reloading = asyncio.create_task(scene.reloader().reload())
    await until(begun.is_set)
    reloading.cancel()
    await asyncio.gather(reloading, return_exceptions=True)
    assert stopped.is_set()


async def test_a_file_that_a_reload_names_for_the_first_time_is_watched_from_then_on(
    scene: Scene, tmp_path: Path
) -> None:
    credential = tmp_path / "credential"
    credential.write_text("first")
    reloader = scene.reloader()
    async with watching(reloader):
        scene.path.write_text(scene.path.read_text().replace("id: a,", "id: a, api_key: '${file:credential}',"))
        await until(lambda: len(scene.applied) == 1)
        credential.write_text("second")
        await until(lambda: len(scene.applied) == 2)
    key = scene.applied[1].models[0].endpoints[0].api_key
    assert key is not None
    assert key.reveal() == "second"
    assert reloader.reloads == 2
