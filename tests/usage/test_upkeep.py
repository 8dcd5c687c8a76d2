"""Steps of a migration that could wait, beside the rest of the writer's rounds."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.usage.sql.rows_store import Store
from gateway.usage.upkeep import Upkeep


class Stored:
    """A database whose every row is in the sums, and of which no step can be taken."""

    def __init__(self) -> None:
        self.tried = self.blocks = 0

    def take_step(self) -> int:
        self.tried += 1
        raise OSError("the disk is full")

    def due_blocks(self, _: int) -> list[int]:
        self.blocks += 1
        return []

    def __getattr__(self, _: str) -> Any:
        return lambda *_: True

    def recount_some(self) -> bool:
        return False

    def add_some(self) -> int:
        return 0


def test_a_step_that_fails_is_told_and_does_not_keep_the_rest_from_its_turn() -> None:
    stored, upkeep = Stored(), Upkeep(None, None)
    with pytest.raises(OSError, match="full"):
        upkeep.go_on(cast(Store, stored), lambda: False)
    for _ in range(3):
        upkeep.go_on(cast(Store, stored), lambda: False)
    assert stored.tried == 1
    assert stored.blocks > 0
