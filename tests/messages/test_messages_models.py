"""Models in Anthropic's shape: fields, pages, cursors, names that Claude Code's picker shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from kit import KEYS, FakeUpstream, Reply, Stage
from kit.messages import VERSION, speaking
from kit.stage import Record

NAMES = ["a", "b/c", "claude-d", "e", "f"]
LISTED = ["a", "b/c", "claude-d", "e", "claude-e", "f"]
PREFIXES = ("/v1", "/api/ai/anthropic/v1")


def models(upstream: FakeUpstream) -> list[Record]:
    aliases = {"claude-d": ["claude-other"], "e": ["plain", "claude-e"]}
    hidden = speaking(upstream, "hidden", **{"global": False})
    return [*(speaking(upstream, name, aliases=aliases.get(name, [])) for name in NAMES), hidden]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def few(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    directory: Path = tmp_path_factory.mktemp("few")
    async with Stage.open(directory, models) as stage:
        yield stage


async def listed(stage: Stage, query: str = "", prefix: str = "/v1") -> Reply:
    return await stage.gateway.get(f"{prefix}/models{query}", key=KEYS["user"], headers=[VERSION])


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_list(few: Stage, prefix: str) -> None:
    reply = await listed(few, prefix=prefix)
    assert reply.status == 200
    assert reply.header("request-id") == reply.header("x-request-id")
    page = reply.json()
    assert set(page) == {"data", "has_more", "first_id", "last_id"}
    assert [each["id"] for each in page["data"]] == LISTED
    assert (page["has_more"], page["first_id"], page["last_id"]) == (False, "a", "f")
    assert (page["data"][4]["id"], page["data"][4]["display_name"]) == ("claude-e", "e")
    assert page["data"][0] == {
        "id": "a",
        "type": "model",
        "display_name": "a",
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
    }


@pytest.mark.parametrize(
    ("query", "expected", "has_more"),
    [
        ("?limit=1000", LISTED, False),
        ("?limit=2", LISTED[:2], True),
        ("?limit=6", LISTED, False),
        ("?limit=2&after_id=b/c", LISTED[2:4], True),
        ("?limit=2&after_id=b%2Fc&beta=true", LISTED[2:4], True),
        ("?after_id=e", LISTED[4:], False),
        ("?after_id=f", [], False),
        ("?limit=2&before_id=e", LISTED[1:3], True),
        ("?limit=3&before_id=e", LISTED[:3], False),
        ("?before_id=a", [], False),
        ("?after_id=nobody", [], False),
        ("?before_id=hidden", [], False),
        ("?lifecycle[]=retired", [], False),
        ("?lifecycle[]=retired&lifecycle[]=active", LISTED, False),
    ],
)
async def test_pages(few: Stage, query: str, expected: list[str], has_more: bool) -> None:
    page = (await listed(few, query)).json()
    assert [each["id"] for each in page["data"]] == expected
    assert page["has_more"] is has_more
    ends = (expected[0], expected[-1]) if expected else (None, None)
    assert (page["first_id"], page["last_id"]) == ends


@pytest.mark.parametrize("query", ["?limit=0", "?limit=1001", "?limit=x", "?limit=", "?after_id=a&before_id=e"])
async def test_what_is_no_page(few: Stage, query: str) -> None:
    reply = await listed(few, query)
    assert (reply.status, reply.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["a", "b/c", "b%2Fc", "claude-e"])
async def test_one(few: Stage, prefix: str, name: str) -> None:
    reply = await few.gateway.get(f"{prefix}/models/{name}", key=KEYS["user"], headers=[VERSION])
    assert (reply.status, reply.json()["id"], reply.json()["type"]) == (200, name.replace("%2F", "/"), "model")


@pytest.mark.parametrize(("name", "status"), [("nobody", 404), ("hidden", 403)])
async def test_none(few: Stage, name: str, status: int) -> None:
    reply = await few.gateway.get(f"/v1/models/{name}", key=KEYS["user"], headers=[VERSION])
    kinds: dict[int, Any] = {404: "not_found_error", 403: "permission_error"}
    assert (reply.status, reply.json()["error"]["type"]) == (status, kinds[status])


async def test_without_the_header_the_list_is_openais(few: Stage) -> None:
    reply = await few.get("/v1/models")
    assert [each["id"] for each in reply.json()["data"]] == NAMES


async def test_an_alias_is_served(few: Stage) -> None:
    reply = await few.post({"model": "claude-e", "max_tokens": 1, "messages": []}, "messages")
    assert (reply.status, reply.header("x-gateway-model")) == (200, "e")
