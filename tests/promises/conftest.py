"""One seed a run, told at its head; each test's dice are made from it and from the test's name."""

from __future__ import annotations

import os
import random
import sys

import pytest
from promise_kit import TORTURE

_SEED = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    told = os.environ.get("GATEWAY_SEED")
    config.stash[_SEED] = int(told) if told else random.SystemRandom().randrange(2**32)


def pytest_report_header(config: pytest.Config) -> str:
    return f"promises: {'the longer form, ' if TORTURE else ''}GATEWAY_SEED={config.stash[_SEED]}"


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """The same for the same seed and test, whichever other tests run. A failure's output tells the seed."""
    seed = request.config.stash[_SEED]
    sys.stdout.write(f"run it again with GATEWAY_SEED={seed}{' GATEWAY_TORTURE=1' if TORTURE else ''}\n")
    return random.Random(f"{seed} {request.node.name}")
