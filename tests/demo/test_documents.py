"""What README and the page about objects show is run as it stands there, but for address and key."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from kit import FakeUpstream
from kit.gateway import KEYS, GatewayProcess, config
from kit.keeping import Keeping
from kit.stage import endpoint, model

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"```python\n(.*?)```", re.S)
_ADDRESS = re.compile(r"http://127\.0\.0\.1:8080")


def snippets(page: str) -> list[str]:
    """The page's Python that asks for something."""
    return [each for each in _BLOCK.findall((ROOT / page).read_text(encoding="utf-8")) if "client" in each]


async def run(gateway: GatewayProcess, snippet: str, names: dict[str, Any]) -> None:
    """Beside the loop, as a user does it; `names` are those of the snippets before it as well."""
    here = _ADDRESS.sub(f"http://127.0.0.1:{gateway.port}", snippet).replace("sk-ecli-…", KEYS["user"])
    assert snippet.count("sk-ecli-…") == snippet.count("OpenAI(")
    code = compile(here.replace("time.sleep(30)", "time.sleep(0.1)"), "snippet", "exec")
    await asyncio.wait_for(asyncio.to_thread(exec, code, names), 60)


@pytest_asyncio.fixture
async def gateway(steady: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GatewayProcess]:
    """A model over two accounts and one for speech, and the two files of which README speaks."""
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions"}
    (tmp_path / "talk.mp3").write_bytes(b"ID3 sounds")
    (tmp_path / "lines.jsonl").write_text(
        json.dumps(line | {"body": {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}})
    )
    monkeypatch.chdir(tmp_path)
    accounts = [{"id": name, "url": steady, "api_key": f"sk-of-{name}-0123456789"} for name in ("one", "two")]
    models = [
        {"id": number, "name": name, "global": True, "endpoints": accounts}
        for number, name in enumerate(("gpt-4o", "whisper-1"))
    ]
    async with GatewayProcess.start(config(models), tmp_path) as running:
        yield running


@pytest.mark.parametrize(("page", "count"), [("README.md", 1), ("docs/objects.md", 3)])
async def test_each_snippet_runs_against_the_demos_upstream(
    gateway: GatewayProcess, page: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    shown = snippets(page)
    assert len(shown) == count
    for each in shown:
        await run(gateway, each, names)
    names["client"].close()
    said = capsys.readouterr().out
    assert said.strip(), "a transcription was printed"
    if page != "README.md":
        assert names["batch"].status == "completed"
        assert '"custom_id"' in said


async def test_the_chain_meets_no_account_that_does_not_keep_it(tmp_path: Path) -> None:
    keeping = Keeping()
    upstream = await FakeUpstream.start(keeping)
    models = [model("gpt-4o", [endpoint(upstream, "a"), endpoint(upstream, "b")])]
    async with GatewayProcess.start(config(models), tmp_path) as running:
        for _ in range(2):
            names: dict[str, Any] = {}
            await run(running, snippets("docs/objects.md")[0], names)
            names["client"].close()
    assert [len({each[0] for each in keeping.asked[turn : turn + 3]}) for turn in (0, 3)] == [1, 1]
    assert [each[1] for each in keeping.asked] == ["POST", "POST", "DELETE"] * 2
    await upstream.close()
