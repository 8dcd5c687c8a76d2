"""Hot reload: watch gateway.yaml, validate a change, swap it in whole.

What changed is logged.

The file is looked at four times a second rather than by file-system events: that costs nothing measurable, and it sees
what events miss (symbolic links that are swapped, network file systems, editors that replace the file).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from structlog.typing import FilteringBoundLogger

from gateway.config import Settings
from gateway.config.apart import Reading
from gateway.config.yaml.fingerprints import Fingerprint, fingerprint
from gateway.errors import ConfigError

LOOK_EACH_SECONDS = 0.25
# Several files may be written one after the other: the first change does not wait for ever until all keep still.
_MOST_LOOKS = 3
# Of the problems of a file; an operator mends them in turns, and `gateway check` tells all.
MOST_PROBLEMS = 200


class Watched(NamedTuple):
    """A file and its fingerprint just before it was read.

    A change since then is one to reload.
    """

    path: Path
    fingerprint: Fingerprint | None

    @classmethod
    def now(cls, path: Path) -> Watched:
        return cls(path, fingerprint(path))


class Reloader:
    """Reload gateway.yaml whenever it changes.

    `watched`: the file as it was before `settings` were read from it.

    `prepare` is given new settings in a thread, and gives what swaps them in: that is called on the event loop and must
    not fail. `describe` tells in words what changes from one to the other. `problems` are those of the file as it
    stands, empty while it is the one that is served; `loaded_at` is when the served one was read. Files that a
    `${file:…}` names are watched as well.
    """

    def __init__(
        self,
        watched: Watched,
        environ: Mapping[str, str],
        settings: Settings,
        prepare: Callable[[Settings], Callable[[], None]],
        describe: Callable[[Settings, Settings], list[str]],
        log: FilteringBoundLogger,
    ) -> None:
        self.path = watched.path
        self.settings = settings
        self.problems: tuple[str, ...] = ()
        self.loaded_at = datetime.now(UTC)
        self.reloads = 0
        self.failures = 0
        self._environ = environ
        self._prepare = prepare
        self._describe = describe
        self._log = log
        self._seen: dict[str, Fingerprint | None] = {str(self.path): watched.fingerprint, **settings.files}
        self._one_at_a_time = asyncio.Lock()
        self._asked: asyncio.Task[bool] | None = None  # has not begun to read

    async def watch(self) -> None:
        """Watch until cancelled.

        A change counts once the files have kept still for one look: writing takes a moment. Where they go on changing,
        it counts with the third, so that it holds within a second; what was read half written is read again.
        """
        moving, looks = self._seen, 0
        while True:
            await asyncio.sleep(LOOK_EACH_SECONDS)
            found = {path: fingerprint(path) for path in self._seen}
            looks = looks + 1 if found != self._seen and found[str(self.path)] is not None else 0
            if looks and (found == moving or looks == _MOST_LOOKS):
                await self.reload()
                looks = 0
            moving = found

    def reload_soon(self) -> asyncio.Task[bool]:
        """Read the file again, once for all that ask meanwhile."""
        if self._asked is None:
            self._asked = asyncio.get_running_loop().create_task(self.reload())
        return self._asked

    async def reload(self) -> bool:
        """Read the file now; True where it is served from here.

        A broken one changes nothing and is logged.
        """
        async with self._one_at_a_time:
            self._asked = None
            before = self._seen = {path: fingerprint(path) for path in self._seen}
            reading = Reading(self.path, self._environ)
            try:
                fresh, changes, swap = await asyncio.to_thread(self._read, reading)
            except asyncio.CancelledError:
                reading.stop()
                raise
            except ConfigError as error:
                self._seen = {**before, **error.files}  # one that is missing may come
                self._failed(error.problems)
                return False
            except Exception as error:  # a fault of ours: it must not end the watching
                self._log.exception("configuration not reloaded: a bug", error=type(error).__name__)
                self._failed((f"{self.path}:1: cannot be taken over because of a bug in the gateway; see its log",))
                return False
            swap()
            self._seen = {str(self.path): before[str(self.path)], **fresh.files}
            self.settings, self.problems, self.loaded_at = fresh, (), datetime.now(UTC)
            self.reloads += 1
            self._log.info("configuration reloaded", changes=changes or ["nothing of substance"])
            return True

    def _failed(self, problems: tuple[str, ...]) -> None:
        self.failures += 1
        more = [f"… and {len(problems) - MOST_PROBLEMS} more"] if len(problems) > MOST_PROBLEMS else []
        self.problems = (*problems[:MOST_PROBLEMS], *more)
        self._log.error("configuration not reloaded: the file has problems", problems=list(self.problems))

    def _read(self, reading: Reading) -> tuple[Settings, list[str], Callable[[], None]]:
        fresh = reading.run()
        return fresh, self._describe(self.settings, fresh), self._prepare(fresh)
