"""Lists of top level are the caller's own, in order, page by page, as they are now."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from kept_kit import KeepingGateway, started
from kit.answers import answer, upstream_error
from kit.keeping import MADE

from gateway.dialects.openai import KEPT_OPERATIONS

MAKING = {f"/{collection}": collection for collection in MADE}
LISTED = [row for row in KEPT_OPERATIONS if row.lists is not None]


async def made(kept: KeepingGateway, path: str, key: str = "user", **fields: Any) -> str:
    body: dict[str, Any] = {"name": "x"} | fields
    if path == "/chat/completions":
        body = {"model": "pair", "messages": [{"role": "user", "content": "Hi"}], "store": True} | fields
    if path == "/fine_tuning/jobs":
        body |= {"model": "pair"}
    if path == "/batches":
        body |= {"input_file_id": await kept.input_file(key=key), "endpoint": "/v1/chat/completions"}
    answer = await kept.ask("POST", path, body, key=key)
    assert answer.status == 200, answer.body
    return str(answer.json()["id"])


async def listed(kept: KeepingGateway, path: str, key: str = "user") -> Any:
    answer = await kept.ask("GET", path, key=key)
    assert answer.status == 200, answer.body
    return answer.json()


def ids(page: Any) -> list[str]:
    return [each["id"] for each in page["data"]]


@pytest.mark.parametrize("row", LISTED, ids=lambda row: row.path)
async def test_a_list_has_the_callers_own_alone(open_house: KeepingGateway, row: Any) -> None:
    if row.path == "/files":
        mine = [await open_house.input_file() for _ in range(2)]
        page = await listed(open_house, "/files?limit=2")
        assert ids(page) == mine[::-1]
    else:
        mine = [await made(open_house, row.path) for _ in range(3)]
        page = await listed(open_house, f"{row.path}?order=desc&limit=3")
        assert ids(page) == mine[::-1]
        assert (page["first_id"], page["last_id"]) == (mine[2], mine[0])
    theirs = set(ids(await listed(open_house, row.path, key="stranger")))
    assert not theirs & set(ids(page))


async def test_pages_follow_each_other_in_both_directions(kept: KeepingGateway) -> None:
    mine = [await made(kept, "/vector_stores", key="stranger") for _ in range(5)]
    newest = mine[::-1]
    first = await listed(kept, "/vector_stores?limit=2", "stranger")
    assert (ids(first), first["has_more"]) == (newest[:2], True)
    second = await listed(kept, f"/vector_stores?limit=2&after={first['last_id']}", "stranger")
    assert (ids(second), second["has_more"]) == (newest[2:4], True)
    before = await listed(kept, f"/vector_stores?limit=2&before={second['first_id']}", "stranger")
    assert ids(before) == newest[:2]
    oldest = await listed(kept, "/vector_stores?order=asc&limit=100", "stranger")
    assert ids(oldest)[-5:] == mine
    nothing = await listed(kept, "/vector_stores?after=vs_unknown", "stranger")
    assert nothing == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    for limit, most in (("0", 1), ("-3", 1), ("100000", 100)):
        assert 1 <= len(ids(await listed(kept, f"/vector_stores?limit={limit}", "stranger"))) <= most
    assert (await kept.ask("GET", "/vector_stores?limit=many")).error()["code"] == "invalid_request"


async def test_the_official_client_walks_the_pages(kept: KeepingGateway) -> None:
    mine = [await made(kept, "/vector_stores") for _ in range(4)]
    async with kept.client() as client:
        walked = [each.id async for each in client.vector_stores.list(limit=2)]
        assert walked[:4] == mine[::-1]
        assert len(walked) == len(set(walked))
        await client.vector_stores.delete(mine[0])
        assert mine[0] not in [each.id async for each in client.vector_stores.list(limit=50)]
        with pytest.raises(openai.NotFoundError):
            await client.vector_stores.retrieve(mine[0])


async def test_filters(kept: KeepingGateway) -> None:
    red = await made(kept, "/chat/completions", metadata={"colour": "red"})
    far = await made(kept, "/chat/completions", model="far", metadata={"colour": "blue"})
    assert ids(await listed(kept, "/chat/completions?metadata[colour]=red")) == [red]
    assert ids(await listed(kept, "/chat/completions?model=far")) == [far]
    assert ids(await listed(kept, "/chat/completions?model=nobody")) == []
    await made(kept, "/batches")
    assert ids(await listed(kept, "/files?purpose=batch"))
    assert ids(await listed(kept, "/files?purpose=vision")) == []


async def test_metadata_is_found_of_what_is_large_or_was_never_read(kept: KeepingGateway) -> None:
    """An answer does not say with which metadata it was stored, and large ones are not kept."""
    metadata = {"project": "x" * 512, "number": "1"} | {f"more-{number}": "y" for number in range(14)}
    silent = {"id": "chatcmpl_far_silent", "object": "chat.completion", "created": 3, "choices": []}
    large = silent | {"id": "chatcmpl_far_large", "choices": [{"message": {"content": "z" * 20_000}}]}
    for each in (silent, large):
        kept.upstream.endpoint("c").replies(answer(200, each))
        await made(kept, "/chat/completions", key="panel", model="far", metadata=metadata)
    # Whether they are read again or not, as here, where their upstream is away.
    kept.upstream.endpoint("c").always(upstream_error(503))
    try:
        for asked in ("metadata[number]=1", "metadata[more-13]=y&metadata[project]=" + "x" * 512):
            found = ids(await listed(kept, f"/chat/completions?{asked}", "panel"))
            assert sorted(found) == ["chatcmpl_far_large", "chatcmpl_far_silent"]
        assert ids(await listed(kept, "/chat/completions?metadata[number]=2", "panel")) == []
    finally:
        kept.upstream.endpoint("c").always(kept.keeping)


async def test_evals_are_ordered_by_what_is_asked(open_house: KeepingGateway) -> None:
    for order in ("created_at", "updated_at"):
        assert (await open_house.ask("GET", f"/evals?order_by={order}")).status == 200
    refused = await open_house.ask("GET", "/evals?order_by=name")
    assert (refused.status, refused.error()["param"]) == (400, "order_by")


async def test_what_is_not_final_is_read_again_and_what_is_gone_is_forgotten(kept: KeepingGateway) -> None:
    first, second = await made(kept, "/batches"), await made(kept, "/batches")
    endpoint, others = first.split("_")[1], second.split("_")[1]
    kept.keeping.kept[endpoint][first]["status"] = "completed"
    page = await listed(kept, "/batches?limit=2")
    assert [each["status"] for each in page["data"]] == ["validating", "completed"]
    asked = len(kept.keeping.asked)
    page = await listed(kept, "/batches?limit=2")
    assert len(kept.keeping.asked) == asked + 1  # the one that is over is not asked for again
    del kept.keeping.kept[others][second]
    assert ids(await listed(kept, "/batches?limit=1")) != [second]
    assert (await kept.ask("GET", f"/batches/{second}")).error()["code"] == "object_not_found"


async def test_a_list_asks_at_most_ten_times(kept: KeepingGateway) -> None:
    for _ in range(12):
        await made(kept, "/vector_stores", key="panel")
    asked = len(kept.keeping.asked)
    assert len(ids(await listed(kept, "/vector_stores?limit=100", "panel"))) == 12
    assert len(kept.keeping.asked) == asked + 10


async def test_a_list_shows_what_was_seen_last_of_what_is_away(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with started(tmp_path_factory.mktemp("away")) as kept:
        mine = await made(kept, "/vector_stores", name="seen")
        kept.upstream.endpoint(mine.split("_")[1]).always(upstream_error(503))
        page = await listed(kept, "/vector_stores")
        assert [(each["id"], each["name"]) for each in page["data"]] == [(mine, "seen")]
