"""Who of several workers writes what all of them would say."""

from __future__ import annotations

import fcntl
import os
from typing import Any

import pytest
import structlog

from gateway.observability.chorus import Chorus

RELOADED = "configuration reloaded"


class Workers:
    """Two that speak in turn, as one process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.chorus = Chorus()
        self.chorus.workers = 2
        self._monkeypatch = monkeypatch

    def say(self, worker: int, event: str, **fields: Any) -> dict[str, Any] | None:
        """The line, or None where another has said it."""
        self._monkeypatch.setattr(os, "getpid", lambda: worker)
        try:
            return dict(self.chorus(None, "info", {"event": event, **fields}))
        except structlog.DropEvent:
            return None


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    return Workers(monkeypatch)


def test_the_first_speaks_for_all_each_time_anew(workers: Workers) -> None:
    said = [workers.say(each, RELOADED, changes=["a"]) is not None for each in (1, 2, 2, 1, 1)]
    assert said == [True, False, True, False, True]


def test_other_words_are_another_line(workers: Workers) -> None:
    assert workers.say(1, RELOADED, changes=["a"])
    assert workers.say(2, RELOADED, changes=["b"])
    assert workers.say(1, "draining", in_flight=3)
    assert workers.say(2, "draining", in_flight=3), "what each has in flight is its own matter"
    assert workers.say(1, "redis is away")
    assert workers.say(2, "redis is away"), "it may be away for one of them"


def test_that_they_listen_is_told_once_all_do(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = set[int]()

    def kill(pid: int, _: int) -> None:
        if pid in dead:
            raise ProcessLookupError

    monkeypatch.setattr(os, "kill", kill)
    assert workers.say(1, "listening") is None
    assert workers.say(2, "listening") == {"event": "listening", "workers": [1, 2]}
    dead.add(1)
    assert workers.say(3, "listening") == {"event": "listening", "workers": [2, 3]}


def test_that_all_have_stopped_is_the_supervisors_word(workers: Workers) -> None:
    own = os.getpid()
    assert workers.say(1, "stopped") is None
    assert workers.say(own, "stopped")


def test_a_single_process_says_everything(workers: Workers) -> None:
    workers.chorus.workers = 1
    assert all(workers.say(1, event) == {"event": event} for event in ("listening", RELOADED, RELOADED, "stopped"))


def test_where_they_cannot_agree_each_speaks(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: object) -> None:
        raise BlockingIOError

    monkeypatch.setattr(fcntl, "lockf", taken)
    assert workers.say(1, RELOADED)
    assert workers.say(2, RELOADED)
    assert workers.say(1, "listening")


def test_a_name_that_is_no_text_is_told_by_each(workers: Workers) -> None:
    """Nor is it an error, which would end the watch of the file."""
    problems = ["/etc/g\udcff.yaml:1: bogus: unknown key"]
    assert all(
        workers.say(each, "configuration not reloaded: the file has problems", problems=problems) for each in (1, 2)
    )
