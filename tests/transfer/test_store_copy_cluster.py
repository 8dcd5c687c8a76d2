"""`gateway store copy` to a Cluster and back: each key at its primary, what is counted together in one place."""

from __future__ import annotations

from pathlib import Path

from cli.cli_kit import command
from kit.redis_nodes import Cluster, needs_redis
from transfer_kit import embedded


async def test_to_a_cluster_and_back_everything_is_as_it_was(tmp_path: Path) -> None:
    """Alerts go where one step of theirs finds them; a second copy finds everything alike."""
    needs_redis()
    async with embedded(tmp_path / "data") as store:
        await store.fill()
        before = await store.content()
    options = ("--requirepass", "hidden-word", "--masterauth", "hidden-word")
    with Cluster.open(tmp_path / "cluster", *options, login={"password": "hidden-word"}) as cluster:
        url = cluster.url(login=":${WORD}@")
        there = await command("store", "copy", "data", url, cwd=tmp_path, WORD="hidden-word")
        assert (there.code, there.err) == (0, "")
        again = await command("store", "copy", "data", url, cwd=tmp_path, WORD="hidden-word")
        assert (again.code, again.err) == (0, "")
        assert again.out.startswith("nothing written to Redis at ")
        assert cluster.do("gw:user:42", "EXISTS", "gw:user:42") == 1
        assert cluster.do("{gw}:alert:episodes", "EXISTS", "{gw}:alert:episodes") == 1
        back = await command("store", "copy", url, "back", cwd=tmp_path, WORD="hidden-word")
        assert (back.code, back.err) == (0, "")
    assert "hidden-word" not in there.out + again.out + back.out
    async with embedded(tmp_path / "back") as store:
        assert await store.content() == before
