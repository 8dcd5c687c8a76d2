"""Usage as it is told: reports, who may see them, CSV, the command."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kit import KEYS, Stage, Wire, ask, request_bytes
from kit.books import fresh_user, post_for, priced_models, rows, until_counted, usage

PROMISED_SECONDS = 1.0
SCHEDULING_SECONDS = 0.5  # two processes and this test share the machine with other tests


# --- the report


async def test_rows_are_grouped_and_add_up(books: Stage) -> None:
    """By day, model and endpoint: each row has its part, and the parts are the whole."""
    user = fresh_user()
    for name in ("gpt", "gpt", "free"):
        await post_for(books, user, ask(name))
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
    await post_for(books, user, ask("gpt"))
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
        await post_for(books, user, ask("gpt"))
    await until_counted(books.gateway, "10", before["totals"]["requests"] + 2, of="org")
    after = (await books.get("/api/soc/usage/org/10?group=model", key=KEYS["reader"])).json()
    assert (after["organisation"], "user" in after) == (10, False)


# --- CSV


async def test_the_export_is_a_file_that_spreadsheets_only_read(books: Stage) -> None:
    """A name, RFC 4180, and a client's id that would be a formula is none."""
    user = fresh_user()
    nasty = '=HYPERLINK("http://x","y"), z'
    await post_for(books, user, ask("gpt"), x_client_request_id=nasty)
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
        await post_for(stage, "heavy", ask("gpt"))
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


async def test_the_command_tells_what_the_routes_tell(books: Stage, books_directory: Path) -> None:
    """Beside a running gateway: a table with bars, and the same numbers as JSON."""
    user = fresh_user()
    for name in ("gpt", "gpt", "free"):
        await post_for(books, user, ask(name))
    await rows(books.gateway, user, 3)
    code, table, _ = await run_usage(books_directory, "--user", user)
    assert code == 0
    assert table.startswith(f"Usage of user {user}, ")
    assert "█" in table
    (total,) = [line.split() for line in table.splitlines() if line.startswith("total")]
    assert total == ["total", "3", "63", "0.0003"]
    assert [line.split()[:3] for line in table.splitlines() if line.startswith("gpt")] == [["gpt", "2", "42"]]
    code, printed, _ = await run_usage(books_directory, "--user", user, "--model", "gpt", "--json")
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
