"""What commands say of values that the environment sets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from cli_kit import command, write
from kit import config

MODELS = [{"id": 1, "name": "gpt", "endpoints": [{"id": "a", "url": "https://a.example/v1"}]}]


async def test_check_and_explain_say_where_a_value_came_from(tmp_path: Path) -> None:
    """A name that fits nothing is refused before anything is done."""
    write(tmp_path, config(MODELS))
    checked, explained, as_json, refused = await asyncio.gather(
        command("check", cwd=tmp_path, GATEWAY__SERVER__DRAIN_SECONDS="7"),
        command("explain", "--user", "42", cwd=tmp_path, GATEWAY__SERVER__DRAIN_SECONDS="7"),
        command("explain", "--user", "42", "--json", cwd=tmp_path, GATEWAY__SERVER__DRAIN_SECONDS="7"),
        command("check", cwd=tmp_path, GATEWAY__SERVER__DRIAN_SECONDS="7"),
    )
    line = (tmp_path / "gateway.yaml").read_text().split('"drain_seconds"')[0].count("\n") + 1
    said = f"server.drain_seconds: 7, from GATEWAY__SERVER__DRAIN_SECONDS in the environment (over gateway.yaml:{line})"
    assert said in checked.out.splitlines()
    assert said in explained.out.splitlines()
    assert json.loads(as_json.out)["overridden"] == [said]
    assert refused.code == 1
    assert "environment: GATEWAY__SERVER__DRIAN_SECONDS: server has no key 'drian_seconds'" in refused.err
    assert "did you mean 'drain_seconds'?" in refused.err
