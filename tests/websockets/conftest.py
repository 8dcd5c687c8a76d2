"""A stand for each test: nothing is shared, so that nothing of one socket is seen on another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websocket_kit import Stand


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with Stand.open(tmp_path) as one:
        yield one
