"""`POST /v1/rerank` against upstreams of both makes: what goes up, what comes back, and what the ledger has of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from kit import KEYS, FakeUpstream, Reply, Stage, answer
from kit.answers import upstream_error
from kit.books import acting_for, fresh_user, rows
from kit.stage import Record, endpoint, model

PRICE = {"input": 2.0, "output": 10.0}
RESULTS = [{"index": 1, "relevance_score": 0.98}, {"index": 0, "relevance_score": 0.1}]
WITH_TEXTS = [each | {"document": {"text": "a river " * 20_000}} for each in RESULTS * 4]  # more than is decoded whole
UNITS = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
QUESTION = {"query": "Where is the light?", "documents": ["a river", {"text": "a tower"}], "top_n": 2}


def rerankers(upstream: FakeUpstream) -> Iterator[Record]:
    yield model("ranker", [endpoint(upstream, "ranker")], price=PRICE, fallbacks=["spare"])
    yield model("spare", [endpoint(upstream, "spare")], price=PRICE)
    yield model("assigned", [endpoint(upstream, "assigned")])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def reranking(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with Stage.open(tmp_path_factory.mktemp("rerank"), rerankers, users=[{"id": 42}]) as stage:
        yield stage


async def rerank(stage: Stage, user: str, **fields: Any) -> Reply:
    body = {"model": "ranker", **QUESTION, **fields}
    return await stage.post(body, "rerank", key=KEYS["panel"], headers=acting_for(user))


@pytest.mark.parametrize("results", [RESULTS, WITH_TEXTS], ids=["short", "with a megabyte of texts"])
@pytest.mark.parametrize(
    ("said", "tokens"),
    [
        ({"usage": {"total_tokens": 815, "prompt_tokens": 815}}, (815, 0)),
        ({"usage": {"total_tokens": 815}}, (815, 0)),
        ({"meta": UNITS | {"tokens": {"input_tokens": 700, "output_tokens": 30}}}, (700, 30)),
        ({"meta": UNITS | {"tokens": {"input_tokens": 700.0}}}, (700, 0)),
        ({"meta": {"billed_units": {"input_tokens": "70"}}}, (70, 0)),
        ({"meta": UNITS}, None),
        ({}, None),
    ],
    ids=["Jina", "Jina, the total alone", "Cohere", "Cohere, floats", "Cohere, billed", "Cohere, units alone", "none"],
)
async def test_tokens_are_read_in_both_shapes(
    reranking: Stage, said: dict[str, Any], tokens: tuple[int, int] | None, results: list[Any]
) -> None:
    """Byte for byte to the client; units of search are no tokens, and texts that come back are not the model's own."""
    user, body = fresh_user(), json.dumps({"id": "r-1", "results": results} | said).encode()
    reranking.upstream.endpoint("ranker").replies(answer(200, body))
    reply = await rerank(reranking, user)
    assert (reply.status, reply.body) == (200, body)
    (row,) = await rows(reranking.gateway, user, 1)
    assert (row["route"], row["outcome"], row["model"]) == ("rerank", "ok", "id-ranker")
    prompt, completion = tokens or (0, 0)
    assert row["usage_source"] == ("reported" if tokens else "none")
    assert (int(row["prompt_tokens"]), int(row["completion_tokens"])) == (prompt, completion)
    assert int(row["total_tokens"]) == prompt + completion
    assert float(row["cost"]) == pytest.approx((prompt * 2 + completion * 10) / 10**6)


async def test_the_question_goes_up_as_it_came(reranking: Stage) -> None:
    asked = reranking.upstream.endpoint("ranker").replies(answer())
    before = len(asked.requests)
    await rerank(reranking, fresh_user(), return_documents=True)
    request = await asked.request(before + 1)
    assert request.route == "rerank"
    assert request.json() == {"model": "provider/ranker", **QUESTION, "return_documents": True}


async def test_an_unknown_model_is_never_served_by_another(reranking: Stage) -> None:
    """Scores of one model mean nothing beside another's."""
    reply = await rerank(reranking, fresh_user(), model="nobody")
    assert (reply.status, reply.json()["error"]["code"]) == (404, "model_not_found")


async def test_it_has_fallbacks(reranking: Stage) -> None:
    reranking.upstream.endpoint("ranker").replies(upstream_error(503))
    reranking.upstream.endpoint("spare").replies(answer())
    reply = await rerank(reranking, fresh_user())
    assert (reply.status, reply.header("x-gateway-model")) == (200, "spare")


async def test_it_is_passed_through_by_the_models_id(reranking: Stage) -> None:
    """The panel's pass-through has a path for each row."""
    for path in ("rerank", "v1/rerank"):
        reranking.upstream.endpoint("ranker").replies(answer(200, {"results": RESULTS}))
        reply = await reranking.post(QUESTION, path, prefix="/api/ai/proxy/id-ranker/")
        assert (reply.status, reply.json()) == (200, {"results": RESULTS})
