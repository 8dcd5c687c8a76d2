"""gateway explain, beside a gateway and without one."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

from cli_kit import command, write
from kit import config

MODELS = [
    {"id": 1, "name": "gpt", "endpoints": [{"id": "a", "url": "https://a.example/v1", "api_key": "sk-secret"}]},
    {"id": 2, "name": "other", "endpoints": [{"id": "b", "url": "https://b.example/v1"}]},
]


def settings(**sections: Any) -> dict[str, Any]:
    users = [{"id": 42, "tier": "paid", "plans": ["pro"]}]
    plans = [{"id": "pro", "grants": [{"model": "gpt", "limits": {"rpm": 5, "tokens": 100}}]}]
    return config(MODELS, users=users, plans=plans, **sections)


async def test_explain_tells_who_grants_what_and_where_to_ask_for_the_rest(tmp_path: Path) -> None:
    """No gateway runs: the file is enough, nothing is made on disk, and what cannot be known is not made up."""
    write(tmp_path, settings())
    served, refused, as_json, unknown = await asyncio.gather(
        command("explain", "--user", "42", "--model", "\x1b[31mred", cwd=tmp_path),
        command("explain", "--key", "reader", "--model", "other", cwd=tmp_path),
        command("explain", "--user", "42", "--json", cwd=tmp_path),
        command("explain", "--key", "nobody's", cwd=tmp_path),
    )
    assert (served.code, served.err) == (0, "")
    assert "  > plan pro: " in served.out
    assert "pool of gpt, by round_robin: a https://a.example/v1" in served.out
    assert "GET /api/admin/explain?user=42&model=%1B%5B31mred" in served.out
    assert r"no model is called `\x1b[31mred`" in served.out  # a terminal is given no orders
    assert "sk-secret" not in served.out
    assert "  refused: insufficient_scope" in refused.out
    told = json.loads(as_json.out)
    assert (told["verdict"]["served"], told["verdict"]["model"], told["pools"]) == (True, "gpt", [])
    assert {(each["limit"], each["most"], each["used"]) for each in told["limits"]} == {
        ("rpm", 5, None),
        ("tokens", 100, None),
    }
    assert unknown.code == 1
    assert "`gateway keys list`" in unknown.err
    assert os.listdir(tmp_path) == ["gateway.yaml"]


async def test_without_its_store_explain_goes_by_the_file_and_says_so(tmp_path: Path) -> None:
    """A damaged file and a Redis that is away are told; a list of keys that is not whole is a failure."""
    write(tmp_path, settings(store={"kind": "redis", "url": "redis://:hidden-word@127.0.0.1:1/0"}))
    write(tmp_path, settings(store={"path": "broken"}), "embedded.yaml")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "gateway.db").write_bytes(b"no database at all " * 100)
    without_redis, without_file, keys = await asyncio.gather(
        command("explain", "--user", "42", cwd=tmp_path),
        command("explain", "--user", "42", "-c", "embedded.yaml", cwd=tmp_path),
        command("keys", "list", cwd=tmp_path),
    )
    for explained, source in ((without_redis, "gateway.yaml"), (without_file, "embedded.yaml")):
        assert explained.code == 0
        assert "  > plan pro: " in explained.out
        assert f"What follows is from {source} alone." in explained.err
    assert keys.code == 1
    assert re.fullmatch(r"reader +42 +usage:read +never +gateway\.yaml:\d+", keys.row("reader"))
    assert "Only the keys of gateway.yaml are listed" in keys.err
    assert "hidden-word" not in without_redis.err + keys.err
