"""What was used, asked for at a shell; and sums that are made anew."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from cli_kit import command, write

from gateway.types import Secret
from gateway.usage import Admission, Settlement
from gateway.usage.sql.rows import Row, row_of
from gateway.usage.sql.rows_store import Store


def record(directory: Path, requests: int) -> None:
    with closing(Store(Secret(f"sqlite:///{directory}/usage.db"))) as store:
        store.prepare()
        store.insert([row(number) for number in range(requests)])


def row(number: int) -> Row:
    request_id = f"{number:05}"
    admitted = Admission(
        request_id=request_id,
        client_request_id=None,
        time=time.time(),
        user=f"user {number % 2}",
        organisation=None,
        key="laptop",
        model="gpt-4o",
        route="/v1/responses",
        streamed=False,
        counted_on=None,
    )
    ended = Settlement(
        request_id=request_id, served_model=None, endpoint="a", status=200, outcome="ok", total_tokens=10, cost_nano=1
    )
    return row_of(admitted, ended)


async def requests_of(directory: Path, *arguments: str) -> int:
    shown = await command("usage", "--json", *arguments, cwd=directory)
    assert shown.code == 0, shown.err
    return int(json.loads(shown.out)["totals"]["requests"])


async def test_sums_are_made_anew(tmp_path: Path) -> None:
    """Whatever they said before; rows are read, not changed."""
    write(tmp_path, {"usage": {"url": "sqlite:///usage.db"}})
    record(tmp_path, 1_200)
    with closing(sqlite3.connect(tmp_path / "usage.db")) as database, database:
        database.execute("update ai_usage_daily set requests = 7")
    assert await requests_of(tmp_path, "--user", "user 1") == 7
    done = await command("usage", "rebuild", cwd=tmp_path)
    assert (done.code, done.out, done.err) == (0, "the sums are made anew from 1,200 rows\n", "")
    assert await requests_of(tmp_path, "--user", "user 1") == 600
    assert await requests_of(tmp_path) == 1_200


async def test_every_request_is_a_line_of_csv(tmp_path: Path) -> None:
    write(tmp_path, {"usage": {"url": "sqlite:///usage.db"}})
    empty, again = await asyncio.gather(
        command("usage", "--csv", cwd=tmp_path), command("usage", "rebuild", cwd=tmp_path)
    )
    assert (empty.code, empty.out.count("\n")) == (0, 1)
    assert (again.code, again.out) == (0, "nothing is recorded\n")
    record(tmp_path, 700)
    told = await command("usage", "--csv", "--user", "user 0", cwd=tmp_path)
    lines = list(csv.DictReader(io.StringIO(told.out)))
    assert [line["request_id"] for line in lines] == sorted(line["request_id"] for line in lines)
    assert len(lines) == 350
    assert {line["user"] for line in lines} == {"user 0"}


async def test_a_database_that_is_away_is_one_line(tmp_path: Path) -> None:
    write(tmp_path, {"usage": {"url": "sqlite:///usage.db"}})
    (tmp_path / "usage.db").write_text("no database at all, but long enough to be looked at as one " * 20)
    done = await command("usage", "rebuild", cwd=tmp_path)
    assert done.code == 1
    assert done.err.startswith("gateway: the sums of")
    assert done.err.count("\n") == 1
