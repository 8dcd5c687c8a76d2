"""Limits as callers meet them: who is counted together, what the headers say, and both kinds of 429."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from kit import (
    CLOSE,
    DONE,
    KEYS,
    FakeUpstream,
    Received,
    Reply,
    Stage,
    answer,
    ask,
    assert_error,
    events,
    raw,
    request_bytes,
)
from kit.answers import delta, upstream_error
from kit.books import acting_for, fresh_user, rows
from kit.gateway import config
from kit.stage import Record, endpoint, model

LIMITED_KEY = "sk-limited-key-0123456789abcdef"
REQUESTS = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
TOKENS = ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")
DURATION = re.compile(r"(\d+ms|(\d+h)?(\d+m)?\d+s)")


FAILURES = {
    "500": (upstream_error(500), "upstream_error"),
    "429": (upstream_error(429, retry_after="1"), "upstream_rate_limited"),
    "401": (upstream_error(401), "upstream_credentials_rejected"),
    "cut": (raw(CLOSE), "upstream_error"),
    "silence": (raw(asyncio.Event()), "upstream_timeout"),
}


def failing_key(way: str, stream: bool) -> str:
    return f"sk-failing-{way}-{stream}-0123456789abcdef"


def limited_models(upstream: FakeUpstream) -> Iterator[Record]:
    limits: dict[str, dict[str, Any]] = {
        "open": {},
        "three": {"requests": 3, "period": "day"},
        "one": {"requests": 1},
        "rpm": {"rpm": 2},
        "narrow": {"concurrency": 2},
        "tokens": {"tokens": 100, "period": "hour"},
        "tpm": {"tpm": 40},
        "wide": {"tokens": 1_000_000, "rpm": 1_000, "period": "day"},
        "budget": {"cost": 0.0002},
    }
    for name, limit in limits.items():
        yield model(name, [endpoint(upstream, name)], limits=limit, price={"input": 2.5, "output": 10})
    for way, stream in itertools.product(FAILURES, (False, True)):
        name = f"failing-{way}-{stream}"
        hasty = {"timeouts": {"total": 0.3, "first_byte": 0.3}} if way == "silence" else {}
        yield model(name, [endpoint(upstream, name, **hasty)])
    for name in ("of-org", "of-plan", "own-limit", "shared"):
        yield model(name, [endpoint(upstream, name)], limits={"requests": 1}) | {"global": False}


def key_record(name: str, key: str, limits: Record) -> Record:
    """A key of user `a`."""
    return {"id": name, "user": "a", "hash": "sha256:" + hashlib.sha256(key.encode()).hexdigest(), "limits": limits}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def limited(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Users `a` and `b` share organisation 10 and plan `pro`; a key of its own has limits besides."""
    keys = [key_record("limited", LIMITED_KEY, {"requests": 2, "period": "day"})] + [
        key_record(f"failing-{way}-{stream}", failing_key(way, stream), {"requests": 1})
        for way, stream in itertools.product(FAILURES, (False, True))
    ]
    async with Stage.open(
        tmp_path_factory.mktemp("limits"),
        limited_models,
        organisations=[
            {"id": 10, "grants": [{"model": "of-org", "limits": {"requests": 4}}]},
            {"id": 11, "grants": [{"model": "shared", "limits": {"tokens": 5_000_000}}]},
        ],
        plans=[{"id": "pro", "grants": [{"model": "of-plan", "limits": {"requests": 2}}]}],
        users=[
            {"id": name, "organisations": [10, 11], "plans": ["pro"], "grants": [{"model": "own-limit"}]}
            for name in "ab"
        ],
        keys=[*config([])["keys"], *keys],
    ) as stage:
        yield stage


async def post(stage: Stage, user: str, body: dict[str, Any], route: str = "chat/completions") -> Reply:
    return await stage.post(body, route, key=KEYS["panel"], headers=acting_for(user))


async def statuses(stage: Stage, user: str, name: str, count: int) -> list[int]:
    return [(await post(stage, user, ask(name))).status for _ in range(count)]


def told(reply: Reply, names: tuple[str, str, str]) -> tuple[int, int, str]:
    limit, remaining, reset = (reply.header(name) for name in names)
    assert limit is not None
    assert remaining is not None
    assert reset is not None
    assert DURATION.fullmatch(reset), reset
    return int(limit), int(remaining), reset


def assert_soon(reply: Reply) -> None:
    """The 429 of `rpm`, `tpm` and `concurrency`."""
    assert_error(reply, 429, "rate_limit_exceeded", "rate_limit_error")
    assert 1 <= int(reply.header("retry-after") or 0) <= 60
    assert reply.header("x-should-retry") is None


def assert_used_up(reply: Reply) -> None:
    """The 429 of a period's total; official clients must not ask again by themselves."""
    assert_error(reply, 429, "insufficient_quota", "insufficient_quota")
    assert reply.header("x-should-retry") == "false"
    assert reply.header("retry-after") is None


# --- headers


async def test_answers_tell_all_six_headers(limited: Stage) -> None:
    """`rpm` and a total of tokens: what is left counts this request already, its tokens by its reservation."""
    body = ask("wide", max_tokens=10)
    reply = await post(limited, fresh_user(), body)
    reserved = len(_sent(body)) // 4 + 10
    assert told(reply, REQUESTS) == (1_000, 999, "1m0s")
    assert told(reply, TOKENS)[:2] == (1_000_000, 1_000_000 - reserved)


def _sent(body: dict[str, Any]) -> bytes:
    return request_bytes("POST", "/", body).split(b"\r\n\r\n", 1)[1]


@pytest.mark.parametrize("stream", [False, True])
async def test_headers_count_down(limited: Stage, stream: bool) -> None:
    """On streams as on plain answers, and on the refusal at the end."""
    user = fresh_user()
    replies = [await post(limited, user, ask("three", stream=stream)) for _ in range(4)]
    assert [told(reply, REQUESTS)[:2] for reply in replies] == [(3, 2), (3, 1), (3, 0), (3, 0)]
    assert [reply.status for reply in replies] == [200, 200, 200, 429]
    assert replies[0].header(TOKENS[0]) is None


async def test_no_limit_no_header(limited: Stage) -> None:
    """Where nothing limits, nothing is claimed."""
    reply = await post(limited, fresh_user(), ask("open"))
    assert reply.status == 200
    assert [name for name, _ in reply.headers if name.startswith("x-ratelimit")] == []


async def test_what_was_used_replaces_what_was_reserved(limited: Stage) -> None:
    """A reservation of thousands is settled by the 21 tokens of the answer."""
    user = fresh_user()
    first = await post(limited, user, ask("wide", max_tokens=5_000))
    second = await post(limited, user, ask("wide", max_tokens=5_000))
    assert told(first, TOKENS)[1] - told(second, TOKENS)[1] == 21


@pytest.mark.parametrize(
    ("route", "small", "large", "difference"),
    [
        ("chat/completions", {"max_tokens": 10, "n": 1}, {"max_tokens": 10, "n": 50}, 490),
        ("chat/completions", {"max_completion_tokens": 10}, {"max_completion_tokens": 10, "n": 50}, 490),
        ("completions", {"max_tokens": 10, "best_of": 1}, {"max_tokens": 10, "best_of": 20}, 190),
        ("responses", {"max_output_tokens": 10}, {"max_output_tokens": 900}, 890),
    ],
)
async def test_many_answers_reserve_for_each(
    limited: Stage, route: str, small: dict[str, Any], large: dict[str, Any], difference: int
) -> None:
    """`n: 50` reserves fifty-fold, as `best_of` does; a padding keeps both bodies of one size."""
    lefts = []
    for fields in (small, large):
        body = ask("wide", **fields)
        body["user"] = "x" * (300 - len(_sent(body)))
        lefts.append(told(await post(limited, fresh_user(), body, route), TOKENS)[1])
    assert lefts[0] - lefts[1] == difference


# --- the two refusals


async def test_too_many_in_a_minute(limited: Stage) -> None:
    """`rpm`: refused with a time to come back; the upstream is not asked, and the ledger has no row of it."""
    user = fresh_user()
    asked = limited.upstream.endpoint("rpm")
    assert await statuses(limited, user, "rpm", 2) == [200, 200]
    before = len(asked.requests)
    reply = await post(limited, user, ask("rpm"))
    assert_soon(reply)
    assert told(reply, REQUESTS)[:2] == (2, 0)
    assert "2 requests per minute" in reply.error()["message"]
    assert len(asked.requests) == before
    assert len(await rows(limited.gateway, user, 2)) == 2


async def test_too_many_tokens_in_a_minute(limited: Stage) -> None:
    """`tpm` looks at what was used: two answers of 21 tokens reach 40."""
    user = fresh_user()
    body = ask("tpm", max_tokens=1)
    assert [(await post(limited, user, body)).status for _ in range(2)] == [200, 200]
    assert_soon(await post(limited, user, body))


async def test_too_many_at_a_time(limited: Stage) -> None:
    """`concurrency`: the third beside two is refused, and let in once one of them has ended."""
    user, release = fresh_user(), asyncio.Event()
    asked = limited.upstream.endpoint("narrow").replies(*[events(delta("a"), release, DONE)] * 2)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(post(limited, user, ask("narrow", stream=True))) for _ in range(2)]
        await asked.request(2)
        assert_soon(await post(limited, user, ask("narrow")))
        release.set()
    assert [task.result().status for task in running] == [200, 200]
    assert (await post(limited, user, ask("narrow"))).status == 200


async def test_a_total_that_is_used_up(limited: Stage) -> None:
    """The message says when it resets: at the end of the UTC day."""
    user = fresh_user()
    assert await statuses(limited, user, "three", 3) == [200, 200, 200]
    now = datetime.now(UTC)
    reply = await post(limited, user, ask("three"))
    assert_used_up(reply)
    days = {(moment + timedelta(days=1)).date().isoformat() for moment in (now, datetime.now(UTC))}
    assert any(f"{day} 00:00:00 UTC" in reply.error()["message"] for day in days)


async def test_tokens_that_are_used_up(limited: Stage) -> None:
    """100 an hour: five answers of 21 tokens pass, the sixth request finds nothing left."""
    user = fresh_user()
    body = ask("tokens", max_tokens=1)
    assert [(await post(limited, user, body)).status for _ in range(5)] == [200] * 5
    reply = await post(limited, user, body)
    assert_used_up(reply)
    assert told(reply, TOKENS)[:2] == (100, 0)


async def test_money_that_is_used_up(limited: Stage) -> None:
    """0.0002 units: two answers of 0.0001425 each pass."""
    user = fresh_user()
    body = ask("budget", max_tokens=1)
    assert [(await post(limited, user, body)).status for _ in range(2)] == [200, 200]
    assert_used_up(await post(limited, user, body))


@pytest.mark.parametrize("name", ["one", "tokens", "budget"])
async def test_a_total_that_running_requests_hold_may_come_back(limited: Stage, name: str) -> None:
    """Nothing is used yet: the one too many is told to come again soon, and served once the other has ended."""
    user, release = fresh_user(), asyncio.Event()
    asked = limited.upstream.endpoint(name)
    before = len(asked.requests)

    async def fail_late(request: Received) -> None:
        await release.wait()
        await upstream_error(500)(request)

    asked.replies(fail_late)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(post(limited, user, ask(name, max_tokens=5_000)))
        await asked.request(before + 1)
        reply = await post(limited, user, ask(name, max_tokens=1))
        assert_soon(reply)
        assert "running requests" in reply.error()["message"]
        release.set()
    assert running.result().status == 502
    assert (await post(limited, user, ask(name, max_tokens=1))).status == 200


async def test_one_request_cannot_lock_others_out(limited: Stage) -> None:
    """A bound of a billion tokens holds no more than the longest answer: colleagues are served beside it."""
    release = asyncio.Event()
    asked = limited.upstream.endpoint("shared").replies(events(delta("a"), release, DONE))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(post(limited, "a", ask("shared", stream=True, max_tokens=10**9)))
        await asked.request()
        assert (await post(limited, "b", ask("shared"))).status == 200
        release.set()
    assert running.result().status == 200


# --- who is counted together


async def test_a_global_model_counts_each_user(limited: Stage) -> None:
    """One user's use takes nothing from another's."""
    one, other = fresh_user(), fresh_user()
    assert await statuses(limited, one, "one", 2) == [200, 429]
    assert await statuses(limited, other, "one", 2) == [200, 429]


async def test_a_plan_counts_each_user(limited: Stage) -> None:
    """Two users of one plan have its limit each; the plan's limit holds, not the model's."""
    for user in "ab":
        assert await statuses(limited, user, "of-plan", 3) == [200, 200, 429]


async def test_the_ledger_has_the_organisation_whose_grant_was_used(limited: Stage) -> None:
    """Where it is the second of the user's two; where none was used, the first stands there."""
    seen = set[tuple[str, str]]()
    for name in ("shared", "open"):
        request_id = (await post(limited, "b", ask(name))).header("x-request-id")
        found = await rows(limited.gateway, "b", 1)
        while not (mine := [row for row in found if row["request_id"] == request_id]):
            found = await rows(limited.gateway, "b", len(found) + 1)
        seen.add((mine[0]["model"], mine[0]["organisation"]))
    assert seen == {("id-shared", "11"), ("id-open", "10")}


async def test_an_organisation_is_counted_together(limited: Stage) -> None:
    """Its four requests are there for all members."""
    assert await statuses(limited, "a", "of-org", 3) == [200, 200, 200]
    assert await statuses(limited, "b", "of-org", 2) == [200, 429]
    assert await statuses(limited, "a", "of-org", 1) == [429]


async def test_the_models_limits_hold_where_the_grant_has_none(limited: Stage) -> None:
    """A user's grant without limits does not free the user from the model's."""
    assert await statuses(limited, "a", "own-limit", 2) == [200, 429]


async def test_a_keys_limits_hold_besides(limited: Stage) -> None:
    """Over all models together, and even where the model has no limit; the user's other keys are free."""
    names = ["open", "three", "open"]
    replies = [await limited.post(ask(name), key=LIMITED_KEY) for name in names]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert [told(reply, REQUESTS)[:2] for reply in replies] == [(2, 1), (2, 0), (2, 0)]
    assert_used_up(replies[-1])
    assert "This key" in replies[-1].error()["message"]
    assert (await post(limited, "a", ask("three"))).header(REQUESTS[1]) == "1"  # the refused one was not counted


# --- what gives back


@pytest.mark.parametrize("way", FAILURES)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_a_failing_upstream_gives_everything_back(limited: Stage, way: str, stream: bool) -> None:
    """Nobody answered, for whatever reason: the one request of the key is still there for another model."""
    key, (behaviour, code) = failing_key(way, stream), FAILURES[way]
    limited.upstream.endpoint(f"failing-{way}-{stream}").always(behaviour)
    reply = await limited.post(ask(f"failing-{way}-{stream}", stream=stream), key=key)
    assert reply.error()["code"] == code
    replies = [await limited.post(ask("open"), key=key) for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 429]


async def test_a_refusal_of_the_upstreams_counts(limited: Stage) -> None:
    """A relayed 400 is an answer."""
    user = fresh_user()
    limited.upstream.endpoint("three").replies(upstream_error(400))
    assert (await post(limited, user, ask("three"))).status == 400
    assert told(await post(limited, user, ask("three")), REQUESTS)[1] == 1


async def test_a_stream_that_broke_counts(limited: Stage) -> None:
    """Events were delivered."""
    user = fresh_user()
    limited.upstream.endpoint("three").replies(events(delta("a"), delta("b")))
    await post(limited, user, ask("three", stream=True))
    assert told(await post(limited, user, ask("three")), REQUESTS)[1] == 1


async def test_refusals_before_admission_count_nothing(limited: Stage) -> None:
    """A body with `models`, or one that is no JSON, costs the caller nothing."""
    user = fresh_user()
    assert (await post(limited, user, ask("three", models=["open"]))).error()["code"] == "field_not_allowed"
    assert (await limited.post(b"{", key=KEYS["panel"], headers=acting_for(user))).status == 400
    assert told(await post(limited, user, ask("three")), REQUESTS)[1] == 2


async def test_both_prefixes_are_counted_together(limited: Stage) -> None:
    """A second way to the same model is no second quota."""
    user = fresh_user()
    for prefix in ("/v1/", "/api/ai/openai/v1/"):
        reply = await limited.post(ask("three"), prefix=prefix, key=KEYS["panel"], headers=acting_for(user))
        assert reply.status == 200
    assert reply.header(REQUESTS[1]) == "1"


async def test_answers_without_usage_are_counted_by_estimate(limited: Stage) -> None:
    """An upstream that tells nothing does not make its models free."""
    user = fresh_user()
    limited.upstream.endpoint("tokens").replies(answer(200, {"choices": [{"text": "w" * 400}]}))
    assert (await post(limited, user, ask("tokens", max_tokens=1))).status == 200
    assert_used_up(await post(limited, user, ask("tokens", max_tokens=1)))
