"""A large upload takes no memory of its size: the script that measures a gigabyte, with less of it."""

from __future__ import annotations

from pathlib import Path

from bench.uploads import GOAL_MB, upload


async def test_an_upload_of_a_hundred_megabytes_takes_less_than_twenty(tmp_path: Path) -> None:
    outcome = await upload(100, tmp_path)
    assert (outcome.status, outcome.is_equal) == (200, True)
    assert outcome.grown_mb < GOAL_MB
