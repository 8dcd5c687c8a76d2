"""What `gateway check` takes and warns of all the same."""

from __future__ import annotations

from pathlib import Path

from cli_kit import command, write
from kit import config

MODELS = [{"id": 1, "name": "gpt", "endpoints": [{"id": "a", "url": "https://a.example/v1"}]}]


async def test_expired_keys_and_no_key_at_all_are_warned_of(tmp_path: Path) -> None:
    write(tmp_path, config(MODELS))
    expired = await command("check", cwd=tmp_path)
    line = (tmp_path / "gateway.yaml").read_text().split('"id": "expired"')[0].count("\n")
    assert expired.code == 0
    assert f"warning: gateway.yaml:{line}: the key `expired` has expired" in expired.out.splitlines()
    assert expired.out.count("warning") == 1
    write(tmp_path, config(MODELS, keys=[]))
    none = await command("check", cwd=tmp_path)
    assert none.code == 0
    assert "warning: there is no key: " in none.out
