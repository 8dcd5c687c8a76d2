"""Each test's dice are made from the seed of the run and from the test's name."""

from __future__ import annotations

import os
import random
import sys

import pytest
from promise_kit import TORTURE


def pytest_report_header() -> str | None:
    return "promises: the longer form" if TORTURE else None


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """The same for the same seed and test, whichever other tests run. A failure's output tells the seed."""
    seed = int(os.environ["GATEWAY_SEED"])
    sys.stdout.write(f"run it again with GATEWAY_SEED={seed}{' GATEWAY_TORTURE=1' if TORTURE else ''}\n")
    return random.Random(f"{seed} {request.node.name}")
