"""Coding agents finish their task through the gateway with nothing but base URL and key set."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from agents_kit import INSTALL_SECONDS, LAST_WORDS, RUN_SECONDS, Desk, Json, installed
from kit import KEYS, FakeUpstream, Stage
from kit.books import stored, until
from kit.stage import Record, endpoint, model
from scripts import CACHED, COMPLETION, PROMPT, speaking

pytestmark = pytest.mark.timeout(INSTALL_SECONDS + RUN_SECONDS + 60)

TASK = "Write hello.txt"
NATIVE, TRANSLATED, CHAT = "claude-native", "claude-translated", "local-test"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "gateway").mkdir()
    return tmp_path / "gateway"


@pytest.fixture
async def stage(directory: Path) -> AsyncIterator[Stage]:
    async with Stage.open(directory, models) as one:
        yield one


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk.laid(tmp_path / "desk")


def models(upstream: FakeUpstream) -> Iterator[Record]:
    yield model(NATIVE, [endpoint(upstream, NATIVE, protocols=["anthropic"])])
    yield model(TRANSLATED, [endpoint(upstream, TRANSLATED)])
    yield model(CHAT, [endpoint(upstream, CHAT)])


def opencode_config(provider: str, url: str, name: str) -> Json:
    """A project's opencode.json that leads to the gateway."""
    options = {"baseURL": f"{url}/v1", "apiKey": KEYS["user"]}
    return {
        "autoupdate": False,
        "share": "disabled",
        "permission": "allow",
        "provider": {provider: {"options": options, "models": {name: {"name": name}}}},
        "model": f"{provider}/{name}",
        "small_model": f"{provider}/{name}",
    }


async def check_books(directory: Path, asked: int) -> None:
    """Every request has its row, with what the upstream reported, once.

    Codex prepares a socket by a request without an answer, which no upstream sees.
    """

    def answered() -> list[Json]:
        return [row for row in stored(directory) if row["attempts"]]

    async def all_there() -> bool:
        return len(answered()) == asked

    await until(all_there)
    for row in answered():
        assert (row["outcome"], row["status"], row["usage_source"]) == ("ok", 200, "reported")
        assert (row["prompt_tokens"], row["completion_tokens"]) == (PROMPT, COMPLETION)
        assert (row["cached_tokens"], row["total_tokens"]) == (CACHED, PROMPT + COMPLETION)


@pytest.mark.parametrize(
    ("provider", "name", "route"),
    [
        ("anthropic", NATIVE, "messages"),
        ("anthropic", TRANSLATED, "chat/completions"),
        ("openai", CHAT, "responses"),
    ],
)
async def test_opencode(stage: Stage, directory: Path, desk: Desk, provider: str, name: str, route: str) -> None:
    """By its Anthropic provider, natively and translated, and by its OpenAI provider."""
    program = installed("opencode")
    upstream = stage.upstream.endpoint(name).always(speaking(desk.file))
    (desk.work / "opencode.json").write_text(json.dumps(opencode_config(provider, stage.url, name)))
    unheard = dict.fromkeys(("AUTOUPDATE", "LSP_DOWNLOAD", "MODELS_FETCH", "DEFAULT_PLUGINS"), "1")
    said = await desk.run(program, "run", TASK, **{f"OPENCODE_DISABLE_{each}": on for each, on in unheard.items()})
    assert desk.file.read_text() == "Hello from the agent"
    assert LAST_WORDS in said
    assert {request.route for request in upstream.requests} == {route}
    await check_books(directory, len(upstream.requests))


@pytest.mark.parametrize(
    ("wants_socket", "has_sockets", "opened"),
    [(False, True, []), (True, True, [101]), (True, False, [426])],
    ids=["http", "bridged", "refused"],
)
async def test_codex(directory: Path, desk: Desk, wants_socket: bool, has_sockets: bool, opened: list[int]) -> None:
    """Over HTTP, over a WebSocket that is bridged to an upstream without, and where the gateway has none."""
    program = installed("codex")
    async with Stage.open(directory, models, server={"websockets": has_sockets}) as stage:
        upstream = stage.upstream.endpoint(CHAT).always(speaking(desk.file))
        settings = desk.home / ".codex" / "config.toml"
        settings.parent.mkdir()
        settings.write_text(
            f'model = "{CHAT}"\nmodel_provider = "gateway"\n'
            'approval_policy = "never"\nsandbox_mode = "danger-full-access"\n'
            f'[model_providers.gateway]\nname = "gateway"\nbase_url = "{stage.url}/v1"\n'
            f'env_key = "GATEWAY_KEY"\nwire_api = "responses"\nsupports_websockets = {str(wants_socket).lower()}\n'
        )
        said = await desk.run(program, "exec", "--skip-git-repo-check", TASK, GATEWAY_KEY=KEYS["user"])
        assert desk.file.read_text() == "Hello from the agent"
        assert LAST_WORDS in said
        assert [request.route for request in upstream.requests] == ["responses", "responses"]
        await check_books(directory, 2)
        lines = [line for line in stage.gateway.logs if line.get("path") == "/v1/responses"]
        assert [line["status"] for line in lines if line["method"] == "GET"][:1] == opened
        assert {line["method"] for line in lines if line.get("attempts")} == {"GET" if opened == [101] else "POST"}
