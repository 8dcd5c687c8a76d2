"""Usage by one or two groups, and everybody's, in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from kit import KEYS, FakeUpstream, Stage, ask
from kit.books import acting_for, until_counted
from kit.stage import Record, endpoint, model

USED = {"ada": {"gpt": 3, "free": 1}, "bob, the 2nd": {"gpt": 2}, "cid": {"free": 4}}
ALL = "/api/soc/usage"


def models(upstream: FakeUpstream) -> Iterator[Record]:
    yield model("gpt", [endpoint(upstream, "main")], id=1, price={"input": 2.5, "output": 10})
    yield model("free", [endpoint(upstream, "free-main") | {"id": "main"}], id=2)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Three users, one of whom belongs to an organisation that pays for `gpt`."""
    directory: Path = tmp_path_factory.mktemp("groups")
    organisations = [{"id": 10, "grants": [{"model": 1}]}]
    users = [{"id": "ada", "organisations": [10]}, {"id": "bob, the 2nd"}, {"id": "cid"}]
    async with Stage.open(directory, models, organisations=organisations, users=users) as opened:
        for user, used in USED.items():
            for name, count in used.items():
                for _ in range(count):
                    headers = acting_for(quote(user))
                    assert (await opened.post(ask(name), key=KEYS["panel"], headers=headers)).status == 200
        await until_counted(opened.gateway, "cid", 4)
        yield opened


async def told(stage: Stage, query: str, path: str = ALL) -> dict[str, Any]:
    reply = await stage.get(f"{path}?{query}", key=KEYS["panel"])
    assert reply.status == 200, reply
    return dict(reply.json())


def counts(answer: dict[str, Any], *names: str) -> dict[Any, int]:
    return {tuple(row[name] for name in names): row["requests"] for row in answer["rows"]}


async def test_everybody_by_one_group(stage: Stage) -> None:
    """Each group's rows add up to the totals; the one with the most requests is first."""
    by_model = await told(stage, "group=model")
    assert "user" not in by_model
    assert counts(by_model, "model", "name") == {(1, "gpt"): 5, (2, "free"): 5}
    by_user = await told(stage, "group=user")
    users = list(counts(by_user, "user"))
    assert [user for (user,) in users][-1].startswith("bob")
    assert counts(await told(stage, "group=organisation"), "organisation") == {(10,): 4, (None,): 6}
    assert counts(await told(stage, "group=key"), "key") == {("panel",): 10}
    assert counts(await told(stage, "group=endpoint"), "model", "endpoint") == {(1, "main"): 5, (2, "main"): 5}
    (hour,) = counts(await told(stage, "group=hour"), "hour")
    assert hour[0].endswith(":00:00Z")
    for answer in (by_model, by_user):
        assert answer["totals"]["requests"] == sum(row["requests"] for row in answer["rows"]) == 10


@pytest.mark.parametrize("query", ["group=day,model", "group=day&group=model", "group=day,%20model"])
async def test_two_groups(stage: Stage, query: str) -> None:
    answer = await told(stage, query)
    assert {row["name"]: row["requests"] for row in answer["rows"]} == {"gpt": 5, "free": 5}
    assert all(row["day"] == answer["to"] for row in answer["rows"])
    own = await told(stage, query, ALL + "/user/ada")
    assert {row["name"]: row["requests"] for row in own["rows"]} == USED["ada"]
    assert own["user"] == "ada"


async def test_an_endpoint_is_its_models_in_any_order(stage: Stage) -> None:
    for query in ("group=endpoint,model", "group=model,endpoint", "group=endpoint,user"):
        for row in (await told(stage, query))["rows"]:
            assert row["endpoint"] == "main"
            assert (row["model"], row["name"]) in {(1, "gpt"), (2, "free")}


async def test_pages_in_an_order(stage: Stage) -> None:
    """The most of what is asked for first; each page goes on where the last ended; totals are of the whole."""
    for group in ("user", "user,model", "organisation,endpoint"):
        whole = (await told(stage, f"group={group}&order=cost"))["rows"]
        costs = [row["cost"] for row in whole]
        assert costs == sorted(costs, reverse=True)
        found: list[Any] = []
        after = ""
        while True:
            page = await told(stage, f"group={group}&order=cost&limit=1{after}")
            assert page["totals"]["requests"] == 10
            found += page["rows"]
            if not page["hasMore"]:
                break
            after = f"&after={quote(page['lastId'], safe='')}"
        assert found == whole
    first = await told(stage, "group=user&order=tokens&limit=1")
    assert first["lastId"] == first["rows"][0]["user"]


@pytest.mark.parametrize(
    "query",
    [
        "group=week",
        "group=",
        "group=day,day",
        "group=day,model,user",
        "order=name",
        "limit=x",
        "limit=-1",
        "after=nobody",
    ],
)
async def test_what_cannot_be_asked(stage: Stage, query: str) -> None:
    reply = await stage.get(f"{ALL}?{query}", key=KEYS["panel"])
    assert (reply.status, reply.json()["error"]) == (400, "invalid_request")


async def test_everybodys_is_for_those_who_may_read_it(stage: Stage) -> None:
    for path in (ALL, f"{ALL}/export.csv"):
        reply = await stage.get(path)
        assert (reply.status, reply.json()["error"]) == (403, "insufficient_scope")
    exported = await stage.get(f"{ALL}/export.csv", key=KEYS["reader"])
    assert (exported.status, exported.body.count(b"\n")) == (200, 11)
