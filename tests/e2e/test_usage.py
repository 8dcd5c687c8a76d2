"""Usage as it is told: the numbers against an upstream that counts by itself, who may see them, the CSV."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import itertools
import json
import sqlite3
import sys
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from kit import DONE, KEYS, RESET, FakeUpstream, Reply, Stage, Wire, answer, ask, events, raw, request_bytes
from kit.answers import delta, event, upstream_error, usage_only
from kit.books import CountingUpstream, acting_for, ask_for, fresh_user, rows, until_counted, usage
from kit.stage import Record, endpoint, model

PROMISED_SECONDS = 1.0
SCHEDULING_SECONDS = 0.5  # two processes and this test share the machine with other tests
PRICE = {"input": 2.50, "output": 10.00}


def priced_models(upstream: FakeUpstream) -> Iterator[Record]:
    yield model("gpt", [endpoint(upstream, "gpt.a"), endpoint(upstream, "gpt.b", priority=1)], price=PRICE, id=1)
    yield model("free", [endpoint(upstream, "free.a")], id="1x")
    yield model("proud", [endpoint(upstream, "proud")], fallbacks=["free"], price=PRICE)
    for number in range(40):
        yield model(f"m{number}", [endpoint(upstream, f"m{number}")], price=PRICE)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("books")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def books(directory: Path) -> AsyncIterator[Stage]:
    """A gateway whose models have prices; user 42 belongs to organisation 10."""
    organisations = [{"id": 10, "grants": [{"model": 1}]}]
    users = [{"id": 42, "organisations": [10]}, {"id": 43, "organisations": [10]}]
    async with Stage.open(directory, priced_models, organisations=organisations, users=users) as stage:
        yield stage


@pytest.fixture(scope="module")
def spare_models() -> Iterator[int]:
    return itertools.count()


async def post(stage: Stage, user: str, body: dict[str, Any], route: str = "chat/completions", **headers: str) -> Reply:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return await stage.post(body, route, key=KEYS["panel"], headers=[*acting_for(user), *named])


def numbers(row: dict[str, str]) -> tuple[int, int, int, int, int]:
    names = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "total_tokens")
    prompt, completion, cached, reasoning, total = (int(row[name]) for name in names)
    return prompt, completion, cached, reasoning, total


# --- the numbers


@pytest.mark.parametrize("cuts", [0, 1, 5, None], ids=["in one piece", "cut once", "cut five times", "byte by byte"])
@pytest.mark.parametrize(
    ("route", "streamed"),
    [
        ("chat/completions", False),
        ("chat/completions", True),
        ("completions", False),
        ("completions", True),
        ("embeddings", False),
        ("responses", False),
        ("responses", True),
    ],
)
async def test_usage_is_what_the_upstream_counted(
    books: Stage, spare_models: Iterator[int], route: str, streamed: bool, cuts: int | None
) -> None:
    """Every body, streamed or not, its bytes cut anywhere: the ledger has the upstream's own numbers, to the token."""
    user, name = fresh_user(), f"m{next(spare_models)}"
    upstream = CountingUpstream(cuts)
    books.upstream.endpoint(name).always(upstream)
    tags = [f"{user}.{number}" for number in range(8 if cuts is not None else 2)]
    body = ask(name) | ({"stream": True} if streamed else {})
    replies = await asyncio.gather(
        *(post(books, user, body | {"user": tag}, route, x_client_request_id=tag) for tag in tags)
    )
    assert [reply.status for reply in replies] == [200] * len(tags)
    found = {row["client_request_id"]: row for row in await rows(books.gateway, user, len(tags))}
    for tag in tags:
        row, told = found[tag], upstream.told[tag]
        assert numbers(row) == (
            told.prompt,
            told.completion,
            told.cached,
            told.reasoning,
            told.prompt + told.completion,
        )
        assert (row["outcome"], row["usage_source"], row["route"]) == ("ok", "reported", route)
        assert row["streamed"] == ("true" if streamed else "false")
        # cost: 2.50 and 10.00 a million, exact to the billionth
        assert round(float(row["cost"]) * 10**9) == told.prompt * 2_500 + told.completion * 10_000
    sums = (await usage(books.gateway, user))["totals"]
    assert sums["tokens"] == sum(told.prompt + told.completion for told in upstream.told.values())
    assert sums["requests"] == len(tags)


async def test_usage_is_counted_within_a_second(books: Stage) -> None:
    """`counting what ended up to a second ago`."""
    user = fresh_user()
    for number in range(1, 4):
        assert (await post(books, user, ask("gpt"))).status == 200
        await until_counted(books.gateway, user, number, seconds=PROMISED_SECONDS + SCHEDULING_SECONDS)


async def test_a_client_that_leaves_is_billed_for_what_it_saw(books: Stage) -> None:
    """Five events of a hundred: cancelled, status 499, an estimate that says so, and not for the other ninety-five."""
    user = fresh_user()
    words = [delta(f"word{number} ") for number in range(100)]
    full_estimate = await _billed_after_leaving(books, user, events(*words, asyncio.Event()), reads=100)
    early_estimate = await _billed_after_leaving(books, user, events(*words[:5], asyncio.Event()), reads=5)
    assert 5 <= early_estimate < full_estimate
    for row in await rows(books.gateway, user, 2):
        assert (row["outcome"], row["status"], row["usage_source"]) == ("cancelled", "499", "estimated")
        assert int(row["prompt_tokens"]) > 0
        assert int(row["total_tokens"]) == int(row["prompt_tokens"]) + int(row["completion_tokens"])
        assert float(row["cost"]) > 0


async def _billed_after_leaving(books: Stage, user: str, behaviour: Any, *, reads: int) -> int:
    """Reads so many events of this stream and is gone. Returns the completion tokens billed."""
    asked = books.upstream.endpoint("gpt.a").replies(behaviour)
    before, seen = len(asked.requests), len(await rows(books.gateway, user, 0))
    async with Wire.open(books.port) as wire:
        body = ask("gpt", stream=True)
        await wire.send(
            request_bytes("POST", "/v1/chat/completions", body, key=KEYS["panel"], headers=acting_for(user))
        )
        await wire.head()
        for _ in range(reads):
            await wire.event()
        wire.reset()
    await (await asked.request(before + 1)).until_closed()
    return int((await rows(books.gateway, user, seen + 1))[-1]["completion_tokens"])


async def test_a_client_that_leaves_before_an_answer_is_billed_its_prompt(books: Stage) -> None:
    """No byte came, but the upstream was asked: the row has the prompt's tokens, and says that it guesses."""
    user = fresh_user()
    asked = books.upstream.endpoint("gpt.a").replies(raw(asyncio.Event()))
    before = len(asked.requests)
    async with Wire.open(books.port) as wire:
        await wire.send(
            request_bytes("POST", "/v1/chat/completions", ask("gpt"), key=KEYS["panel"], headers=acting_for(user))
        )
        await asked.request(before + 1)
        wire.reset()
    (row,) = await rows(books.gateway, user, 1)
    assert (row["outcome"], row["status"], row["usage_source"]) == ("cancelled", "499", "estimated")
    assert int(row["prompt_tokens"]) == int(row["total_tokens"]) > 0
    assert float(row["cost"]) > 0


@pytest.mark.parametrize(
    ("behaviour", "streamed", "expected"),
    [
        (events(delta("one"), delta("two"), RESET), True, ("upstream_error", "200", "estimated")),
        (events(usage_only(), delta("one"), RESET), True, ("upstream_error", "200", "reported")),
        (events(delta("one"), DONE), True, ("ok", "200", "estimated")),
        (answer(200, {"choices": [{"text": "some words"}]}), False, ("ok", "200", "estimated")),
        (upstream_error(400), False, ("upstream_error", "400", "none")),
        (upstream_error(422), True, ("upstream_error", "422", "none")),
    ],
    ids=["broken", "broken after its usage", "no usage", "plain without usage", "refused", "stream refused"],
)
async def test_every_end_has_its_outcome(
    books: Stage, spare_models: Iterator[int], behaviour: Any, streamed: bool, expected: tuple[str, str, str]
) -> None:
    """What was seen is kept whatever the end; where nothing was told it is an estimate, and labelled so."""
    user, name = fresh_user(), f"m{next(spare_models)}"
    books.upstream.endpoint(name).always(behaviour)
    await post(books, user, ask(name) | ({"stream": True} if streamed else {}))
    (row,) = await rows(books.gateway, user, 1)
    assert (row["outcome"], row["status"], row["usage_source"]) == expected
    assert (int(row["total_tokens"]) > 0) == (expected[2] != "none")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_usage_is_read_from_compressed_answers(books: Stage, encoding: str) -> None:
    """Some upstreams compress although they were asked not to; the bytes go on as they are, the usage is counted."""
    user = fresh_user()
    plain = json.dumps({"choices": [], "usage": {"prompt_tokens": 70, "completion_tokens": 7}}).encode()
    packed = gzip.compress(plain) if encoding == "gzip" else zlib.compress(plain)
    books.upstream.endpoint("gpt.a").replies(answer(200, packed, [("content-encoding", encoding)]))
    assert (await post(books, user, ask("gpt"))).body == packed
    (row,) = await rows(books.gateway, user, 1)
    assert (numbers(row)[:2], row["usage_source"]) == ((70, 7), "reported")


async def test_usage_is_read_from_answers_too_large_to_hold(books: Stage, spare_models: Iterator[int]) -> None:
    """Beyond 16 MB an answer flows, as one to many embeddings does; it is not free for that."""
    user, name = fresh_user(), f"m{next(spare_models)}"
    data = {"data": ["0.125," * 3_000_000], "usage": {"prompt_tokens": 70, "total_tokens": 70}}
    books.upstream.endpoint(name).always(answer(200, data))
    assert (await post(books, user, ask(name), "embeddings")).status == 200
    (row,) = await rows(books.gateway, user, 1)
    assert (row["outcome"], row["total_tokens"], row["usage_source"]) == ("ok", "70", "reported")


async def test_compressed_streams_are_not_free(books: Stage) -> None:
    """They are passed on as they are; what was used is estimated where it cannot be read."""
    user = fresh_user()
    packed = gzip.compress(delta("some words") + usage_only() + DONE)
    books.upstream.endpoint("gpt.a").replies(events(packed, headers=[("content-encoding", "gzip")]))
    assert (await post(books, user, ask("gpt", stream=True))).body == packed
    (row,) = await rows(books.gateway, user, 1)
    assert row["usage_source"] in ("reported", "estimated")
    assert int(row["total_tokens"]) > 0


async def test_the_last_usage_counts_and_never_a_sum(books: Stage) -> None:
    """Some upstreams tell a running usage with each event."""
    user = fresh_user()
    running = [
        event({"choices": [{"index": 0, "delta": {"content": "x"}}], "usage": {"prompt_tokens": 5, **counted}})
        for counted in ({"completion_tokens": 1}, {"completion_tokens": 2}, {"completion_tokens": 3})
    ]
    books.upstream.endpoint("gpt.a").replies(events(*running, DONE))
    await post(books, user, ask("gpt", stream=True))
    (row,) = await rows(books.gateway, user, 1)
    assert numbers(row)[:2] == (5, 3)
    assert numbers(row)[4] == 8


async def test_a_request_that_no_upstream_answered_is_told_but_costs_nothing(books: Stage) -> None:
    """Two endpoints failed: one row, two attempts, no tokens."""
    user = fresh_user()
    for each in ("gpt.a", "gpt.b"):
        books.upstream.endpoint(each).replies(answer(500))
    assert (await post(books, user, ask("gpt"))).status == 502
    (row,) = await rows(books.gateway, user, 1)
    assert (row["outcome"], row["status"], row["attempts"]) == ("upstream_error", "502", "2")
    assert (row["total_tokens"], row["cost"], row["usage_source"]) == ("0", "0", "none")


async def test_the_endpoint_and_model_that_answered_are_told(books: Stage) -> None:
    """A fallback served: its name, its endpoint, and its price (none), not the first model's."""
    user = fresh_user()
    books.upstream.endpoint("proud").replies(answer(500))
    reply = await post(books, user, ask("proud"), x_request_id="mine")
    assert reply.header("x-gateway-model") == "free"
    (row,) = await rows(books.gateway, user, 1)
    assert (row["model"], row["endpoint"], row["attempts"], row["cost"]) == ("1x", "free.a", "2", "0")
    assert (row["client_request_id"], row["request_id"]) == ("mine", reply.header("x-request-id"))
    assert (row["user"], row["key"], row["organisation"]) == (user, "panel", "")


async def test_what_was_not_admitted_has_no_row(books: Stage) -> None:
    """Refusals before admission are in the log alone."""
    user = fresh_user()
    assert (await post(books, user, {"modelId": "nobody"})).status == 404
    assert (await post(books, user, ask("gpt", models=["x"]))).status == 400
    assert (await post(books, user, ask("gpt"))).status == 200
    assert len(await rows(books.gateway, user, 1)) == 1


async def test_a_hundred_requests_with_one_client_id_are_a_hundred_rows(books: Stage) -> None:
    """The client's id is kept, and is no key of anything."""
    user = fresh_user()
    await asyncio.gather(*(ask_for(books.gateway, user, ask("gpt"), tag="always the same") for _ in range(100)))
    found = await rows(books.gateway, user, 100)
    assert [row["client_request_id"] for row in found] == ["always the same"] * 100
    assert len({row["request_id"] for row in found}) == 100


# --- the report


async def test_rows_are_grouped_and_add_up(books: Stage) -> None:
    """By day, model and endpoint: each row has its part, and the parts are the whole."""
    user = fresh_user()
    for name in ("gpt", "gpt", "free"):
        await post(books, user, ask(name))
    await rows(books.gateway, user, 3)
    by_model = await usage(books.gateway, user, "?group=model")
    assert by_model["user"] == user
    whole = {"requests": 3, "tokens": 63, "promptTokens": 27, "completionTokens": 36, "cost": 0.000285}
    assert by_model["totals"] == whole
    assert by_model["rows"] == [
        {
            "model": 1,
            "name": "gpt",
            "requests": 2,
            "tokens": 42,
            "promptTokens": 18,
            "completionTokens": 24,
            "cost": 0.000285,
        },
        {
            "model": "1x",
            "name": "free",
            "requests": 1,
            "tokens": 21,
            "promptTokens": 9,
            "completionTokens": 12,
            "cost": 0.0,
        },
    ]
    by_endpoint = await usage(books.gateway, user, "?group=endpoint")
    assert [(row["model"], row["name"], row["endpoint"], row["requests"]) for row in by_endpoint["rows"]] == [
        (1, "gpt", "gpt.a", 2),
        ("1x", "free", "free.a", 1),
    ]
    by_day = await usage(books.gateway, user)
    assert by_day["totals"] == whole
    assert sum(row["requests"] for row in by_day["rows"]) == 3
    assert set(by_day["rows"][0]) == {"day", *whole}


async def test_days_are_inclusive_and_default_to_this_month(books: Stage) -> None:
    """Today alone holds today's requests; yesterday alone does not; without dates it is the month to date."""
    user = fresh_user()
    await post(books, user, ask("gpt"))
    (row,) = await rows(books.gateway, user, 1)
    day = datetime.fromisoformat(row["time"]).date()
    for query, requests in (
        (f"?from={day}&to={day}", 1),
        (f"?from={day - timedelta(1)}&to={day - timedelta(1)}", 0),
        (f"?from={day + timedelta(1)}&to={day + timedelta(1)}", 0),
        ("?from=0001-01-01&to=9999-12-31", 1),
    ):
        assert (await usage(books.gateway, user, query))["totals"]["requests"] == requests, query
    told = await usage(books.gateway, user)
    assert told["to"] in (str(datetime.now(UTC).date()), str(day))
    assert told["from"] == told["to"][:8] + "01"


@pytest.mark.parametrize(
    "query", ["?from=soon", "?to=2027-02-30", "?from=2027-02-02&to=2027-02-01", "?group=week", "?from=", "?group="]
)
@pytest.mark.parametrize("target", ["/api/soc/usage/user/42", "/api/soc/usage/org/10", "/api/ai/usage"])
async def test_questions_that_make_no_sense(books: Stage, target: str, query: str) -> None:
    """400 in the flat shape, which says what to put right."""
    reply = await books.get(target + query, key=KEYS["panel"])
    assert (reply.status, reply.json()["error"]) == (400, "invalid_request")
    assert set(reply.json()) == {"error", "message"}
    assert query.lstrip("?").partition("=")[0] in reply.json()["message"]


# --- who may see it


@pytest.mark.parametrize(
    ("target", "key", "status"),
    [
        ("/api/soc/usage/user/42", "user", 200),
        ("/api/soc/usage/user/42", "reader", 200),
        ("/api/soc/usage/user/42", "panel", 200),
        ("/api/soc/usage/user/42", "stranger", 403),
        ("/api/soc/usage/user/43", "user", 403),
        ("/api/soc/usage/user/43", "reader", 200),
        ("/api/soc/usage/user/nobody-knows", "panel", 200),
        ("/api/soc/usage/user/nobody-knows", "user", 403),
        ("/api/soc/usage/org/10", "user", 403),
        ("/api/soc/usage/org/10", "reader", 200),
        ("/api/ai/usage", "user", 200),
        ("/api/ai/usage", "reader", 200),
        ("/api/soc/usage/user/42", "expired", 401),
        ("/api/soc/usage/user/42", None, 401),
    ],
)
@pytest.mark.parametrize("ending", ["", "/export.csv"])
async def test_who_may_see_what(books: Stage, target: str, key: str | None, status: int, ending: str) -> None:
    """One's own, or with `usage:read` anyone's; a member of an organisation does not see the others' usage."""
    reply = await books.get(target + ending, key=KEYS[key] if key else None)
    assert reply.status == status
    if status != 200:
        assert reply.json()["error"] in ("insufficient_scope", "invalid_api_key", "missing_api_key")
        assert set(reply.json()) == {"error", "message"}


async def test_acting_for_a_user_shows_that_users_usage(books: Stage) -> None:
    """The panel asks `/api/ai/usage` in a user's name and gets the user's numbers, the id in its own type."""
    async with Wire.open(books.port) as wire:
        for user, told in (("42", 42), ("someone", "someone")):
            await wire.send(
                request_bytes("GET", "/api/ai/usage", key=KEYS["panel"], headers=[("x-gateway-user", user)])
            )
            assert (await wire.reply()).json()["user"] == told


async def test_an_organisation_is_told_whole(books: Stage) -> None:
    """Requests by two members are the organisation's together, whoever made them."""
    before = (await books.get("/api/soc/usage/org/10?group=model", key=KEYS["reader"])).json()
    for user in ("42", "43"):
        await post(books, user, ask("gpt"))
    await until_counted(books.gateway, "10", before["totals"]["requests"] + 2, of="org")
    after = (await books.get("/api/soc/usage/org/10?group=model", key=KEYS["reader"])).json()
    assert (after["organisation"], "user" in after) == (10, False)


# --- CSV


async def test_the_export_is_a_file_that_spreadsheets_only_read(books: Stage) -> None:
    """A name, RFC 4180, and a client's id that would be a formula is none."""
    user = fresh_user()
    nasty = '=HYPERLINK("http://x","y"), z'
    await post(books, user, ask("gpt"), x_client_request_id=nasty)
    await rows(books.gateway, user, 1)
    reply = await books.get(f"/api/soc/usage/user/{user}/export.csv?from=2020-01-01&to=2099-12-31", key=KEYS["panel"])
    assert reply.header("content-type") == "text/csv; charset=utf-8"
    assert reply.header("content-disposition") == 'attachment; filename="usage_2020-01-01_2099-12-31.csv"'
    assert reply.header("x-request-id")
    assert reply.body.count(b"\r\n") == reply.body.count(b"\n") == 2
    (row,) = csv.DictReader(io.StringIO(reply.body.decode(), newline=""), strict=True)
    assert row["client_request_id"] == "'" + nasty


async def test_an_empty_export_has_its_header(books: Stage) -> None:
    reply = await books.get(f"/api/soc/usage/user/{fresh_user()}/export.csv", key=KEYS["panel"])
    assert (reply.status, reply.body[:11], reply.body.count(b"\r\n")) == (200, b"request_id,", 1)


MANY = 40_000


def add_rows(directory: Path, user: str) -> None:
    """Copies of a row that is there, as if the user had asked very often."""
    with closing(sqlite3.connect(directory / "data" / "usage.db", timeout=10)) as connection, connection:
        names = [name for _, name, *_ in connection.execute("pragma table_info(ai_usage)")]
        values = ", ".join(
            {"request_id": "'r' || value", "user_id": "?", "time_ms": "time_ms - value", "summed": "null"}.get(
                name, name
            )
            for name in names
        )
        connection.execute(
            f"with recursive n(value) as (select 1 union all select value + 1 from n where value < {MANY}) "
            f"insert into ai_usage select {values} from n, (select * from ai_usage limit 1)",
            (user,),
        )


def resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))


async def test_a_large_export_takes_little_memory_and_never_pretends_to_be_whole(tmp_path: Path) -> None:
    """A slow reader holds the database's rows back; where the database fails in the middle, the connection is cut."""
    async with Stage.open(tmp_path, priced_models) as stage:
        await post(stage, "heavy", ask("gpt"))
        await rows(stage.gateway, "heavy", 1)
        await asyncio.to_thread(add_rows, tmp_path, "heavy-user")
        target, pid = (
            "/api/soc/usage/user/heavy-user/export.csv?from=2020-01-01&to=2099-12-31",
            stage.gateway.process.pid,
        )
        async with Wire.open(stage.port) as wire:
            before = resident_bytes(pid)
            await wire.send(request_bytes("GET", target, key=KEYS["panel"]))
            await wire.head()
            size, pieces = 0, 0
            while piece := await wire.piece():
                size, pieces = size + len(piece), pieces + 1
                if pieces % 50 == 0:
                    assert resident_bytes(pid) - before < 16 << 20
            assert size > MANY * 80
        async with Wire.open(stage.port, receive_buffer=8_192) as wire:
            await wire.send(request_bytes("GET", target, key=KEYS["panel"]))
            await wire.head()
            with closing(sqlite3.connect(tmp_path / "data" / "usage.db", timeout=10)) as connection, connection:
                connection.execute("alter table ai_usage rename to hidden")
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await wire.body()
            await stage.gateway.log(lambda line: line["event"] == "usage cannot be read")
        with closing(sqlite3.connect(tmp_path / "data" / "usage.db", timeout=10)) as connection, connection:
            connection.execute("alter table hidden rename to ai_usage")


# --- the database is away


async def test_without_its_database_the_gateway_serves_and_says_that_usage_cannot_be_told(tmp_path: Path) -> None:
    """503 store_unavailable for the question; the models go on answering."""
    async with Stage.open(tmp_path, usage={"url": "postgresql://gateway:secret-word@127.0.0.1:1/usage"}) as stage:
        assert (await stage.post(stage.model().chat())).status == 200
        for target in ("/api/ai/usage", "/api/ai/usage/export.csv"):
            reply = await stage.get(target)
            assert (reply.status, reply.json()["error"]) == (503, "store_unavailable")
            assert reply.header("retry-after") == "1"
        assert "secret-word" not in stage.gateway.output()


# --- the command


async def run_usage(directory: Path, *arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "gateway", "usage", "-c", str(directory / "gateway.yaml"), *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={"PYTHONIOENCODING": "utf-8"}
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_command_tells_what_the_routes_tell(books: Stage, directory: Path) -> None:
    """Beside a running gateway: a table with bars, and the same numbers as JSON."""
    user = fresh_user()
    for name in ("gpt", "gpt", "free"):
        await post(books, user, ask(name))
    await rows(books.gateway, user, 3)
    code, table, _ = await run_usage(directory, "--user", user)
    assert code == 0
    assert table.startswith(f"Usage of user {user}, ")
    assert "█" in table
    (total,) = [line.split() for line in table.splitlines() if line.startswith("total")]
    assert total == ["total", "3", "63", "0.0003"]
    assert [line.split()[:3] for line in table.splitlines() if line.startswith("gpt")] == [["gpt", "2", "42"]]
    code, printed, _ = await run_usage(directory, "--user", user, "--model", "gpt", "--json")
    told, (of_the_model, _) = json.loads(printed), (await usage(books.gateway, user, "?group=model"))["rows"]
    assert (code, told["user"], told["model"]) == (0, user, 1)
    assert {"model": 1, "name": "gpt", **told["totals"]} == of_the_model


async def test_the_command_says_that_there_is_nothing(tmp_path: Path) -> None:
    """A gateway that never ran, and dates that make no sense."""
    (tmp_path / "gateway.yaml").write_text("features: {ai: true}")
    code, out, err = await run_usage(tmp_path, "--org", "10")
    assert (code, err) == (0, "")
    assert out.startswith("Usage of organisation 10, ")
    assert out.endswith("nothing is recorded.\n")
    code, out, err = await run_usage(tmp_path, "--from", "2027-01-02", "--to", "2027-01-01")
    assert (code, out) == (2, "")
    assert "must not be after" in err
