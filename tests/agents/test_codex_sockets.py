"""Codex over the WebSocket that it asks for first: relayed frame by frame, and bridged to streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from agents_kit import INSTALL_SECONDS, LAST_WORDS, RUN_SECONDS, Desk, has_result, installed
from kit import KEYS, FakeUpstream, GatewayProcess, as_openai, config
from kit.books import stored
from kit.sockets import Peer, SocketUpstream
from kit.stage import endpoint, model
from scripts import PROMPT, _responses, speaking

from gateway.http.sse import events_data

pytestmark = pytest.mark.timeout(INSTALL_SECONDS + RUN_SECONDS + 60)
TASK = "Write hello.txt"
FEWEST = 2  # responses: the tool's call, and the last words; it may warm up before


@pytest.fixture
async def sockets() -> AsyncIterator[SocketUpstream]:
    async with SocketUpstream.start() as one:
        yield one


@pytest.fixture
async def streams() -> AsyncIterator[FakeUpstream]:
    one = await FakeUpstream.start(as_openai())
    try:
        yield one
    finally:
        await one.close()


@pytest.mark.parametrize("name", ["relayed", "bridged"])
async def test_codex(tmp_path: Path, sockets: SocketUpstream, streams: FakeUpstream, name: str) -> None:
    """Nothing but base URL and key are set; its chains reach an upstream that stores nothing."""
    program, desk = installed("codex"), Desk.laid(tmp_path / "desk")

    async def script(peer: Peer) -> None:
        while True:
            asked = await peer.next()
            calls = bool(asked.get("tools")) and not has_result(asked)
            events = events_data(b"".join(_responses(asked, desk.file, calls=calls)))
            for event in (events[0], events[-1]) if asked.get("generate") is False else events:
                await peer.socket.send_str(event.decode())

    sockets.script = script
    streamed = streams.endpoint("bridged").always(speaking(desk.file))
    models = [model("relayed", [sockets.endpoint()]), model("bridged", [endpoint(streams, "bridged")])]
    (directory := tmp_path / "gateway").mkdir()
    async with GatewayProcess.start(config(models), directory) as gateway:
        settings = desk.home / ".codex" / "config.toml"
        settings.parent.mkdir()
        settings.write_text(
            f'model = "{name}"\nmodel_provider = "gateway"\n'
            'approval_policy = "never"\nsandbox_mode = "danger-full-access"\n'
            f'[model_providers.gateway]\nname = "gateway"\nbase_url = "http://127.0.0.1:{gateway.port}/v1"\n'
            'env_key = "GATEWAY_KEY"\nwire_api = "responses"\nsupports_websockets = true\n'
        )
        said = await desk.run(program, "exec", "--skip-git-repo-check", TASK, GATEWAY_KEY=KEYS["user"])
        assert desk.file.read_text() == "Hello from the agent"
        assert LAST_WORDS in said
    responses = [line for line in gateway.logs if line.get("outcome") is not None]
    assert {(line["path"], line["method"], line["outcome"]) for line in responses} == {("/v1/responses", "GET", "ok")}
    assert len(stored(directory)) == len(responses) >= FEWEST
    asked = [row for row in stored(directory) if row["usage_source"] == "reported"]
    assert len(asked) >= FEWEST
    assert {row["prompt_tokens"] for row in asked} == {PROMPT}
    if name == "bridged":
        bodies = [request.json() for request in streamed.requests]
        assert not [body for body in bodies if "previous_response_id" in body]
        assert has_result(bodies[-1])
        assert len(bodies[-1]["input"]) > len(bodies[0]["input"])
    else:
        assert len(sockets.peers) >= 1
