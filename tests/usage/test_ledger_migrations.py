"""Databases of earlier releases are brought up to date, whole step by whole step, and nothing in them is lost."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path

import pytest
from ledgerkit import OpenLedger, admission, engine_of, eventually, outcomes, program, serve, settlement, stored
from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import SAWarning

from gateway.types import Secret
from gateway.usage import UsageQuery
from gateway.usage.sql.database import Database
from gateway.usage.sql.migrations.runner import migrate
from gateway.usage.sql.migrations.steps import STEPS, Step

RELEASES = Path(__file__).with_name("releases")
OLD_IDS = [f"{number:032}" for number in (1, 2, 3)]
OLD_OUTCOMES = dict(zip(OLD_IDS, ("ok", "cancelled", "interrupted"), strict=True))


def statements(engine: Engine, release: str) -> list[str]:
    """What the release made and wrote, by the database's own SQL."""
    kind = "mariadb" if engine.dialect.name in ("mysql", "mariadb") else engine.dialect.name
    return (RELEASES / f"{release}.{kind}.sql").read_text().split(";\n")[:-1]


def execute(url: Secret, only: str = "", release: str = "release_1") -> None:
    """Carries out the release's statements that begin so."""
    engine = engine_of(url)
    with engine.begin() as connection:
        for statement in statements(engine, release):
            if statement.strip().startswith(only):
                connection.exec_driver_sql(statement)
    engine.dispose()


def steps_taken(url: Secret) -> list[int]:
    engine = engine_of(url)
    try:
        with engine.connect() as connection:
            return list(connection.scalars(text("select step from ai_usage_steps order by step")))
    finally:
        engine.dispose()


def has_table(url: Secret, name: str) -> bool:
    engine = engine_of(url)
    try:
        return inspect(engine).has_table(name)
    finally:
        engine.dispose()


def migrate_at(url: Secret, steps: Sequence[Step] = STEPS) -> int:
    """Returns how many transactions it took."""
    database = Database(url, read_only=False, statement_seconds=15)
    begun: list[None] = []

    def begin() -> AbstractContextManager[Connection]:
        begun.append(None)
        return database.begin()

    try:
        migrate(begin, steps)
    finally:
        database.close()
    return len(begun)


@pytest.mark.parametrize("release", ["release_1"])
async def test_a_database_of_a_release_goes_on(url: Secret, open_ledger: OpenLedger, release: str) -> None:
    """Its rows stay, value for value, under the columns' names of then; reports count them with the new ones."""
    execute(url, release=release)
    before = stored(url)
    ledger = await open_ledger(url)
    ids = serve(ledger, 3)
    ledger.admit(admission("long", user="u" * 700))
    ledger.settle(settlement("long"))
    await ledger.flushed(20)
    after = stored(url)
    kept = [{name: row[name] for name in before[0]} for row in after if row["request_id"] in OLD_OUTCOMES]
    assert kept == before
    assert {row[name] for row in after for name in ("details", "price_id", "failures")} == {None}
    assert list(after[0])[: len(before[0])] == list(before[0])
    assert outcomes(url) == {**OLD_OUTCOMES, **dict.fromkeys([*ids, "long"], "ok")}
    ever = (date(2000, 1, 1), date(2099, 1, 1))
    assert (await ledger.reader.report(UsageQuery(*ever))).totals.requests == 7
    assert (await ledger.reader.report(UsageQuery(*ever, user="u" * 700))).totals.requests == 1
    await eventually(lambda: steps_taken(url) == [step.number for step in STEPS])


async def test_the_release_before_writes_on_beside_us(url: Secret, open_ledger: OpenLedger) -> None:
    """During an upgrade, and after a downgrade: it starts on the new tables, and its inserts are taken, once."""
    ledger = await open_ledger(url)
    engine = engine_of(url)
    with engine.connect() as connection:
        # What the first release asks for at its start, and above which it does not write.
        assert connection.scalar(text("select max(version) from ai_usage_schema")) == 1
    engine.dispose()
    for _ in range(2):
        execute(url, only="INSERT INTO ai_usage (")
    ids = serve(ledger, 3)
    await ledger.flushed(20)
    assert outcomes(url) == {**OLD_OUTCOMES, **dict.fromkeys(ids, "ok")}


def test_a_start_that_is_killed_within_a_step_leaves_whole_ones(url: Secret) -> None:
    """`kill -9` in the middle: what was done before stays done, the step that was cut off is taken by the next."""
    execute(url)
    with program("migrate_and_die.py", url.reveal()) as child:
        assert child.wait(60) == -9
    assert steps_taken(url) == [1]
    if not url.reveal().startswith(("mysql", "mariadb")):  # they commit each table by itself
        assert not has_table(url, "half_a_step")
    migrate_at(url)
    assert steps_taken(url) == [step.number for step in STEPS]
    assert has_table(url, "ai_usage_long_ids")
    assert outcomes(url) == OLD_OUTCOMES


def test_a_table_whose_making_was_cut_off_gets_its_indexes(url: Secret) -> None:
    """MariaDB commits each of them by itself; without one, reports would take minutes and nobody would know why."""
    migrate_at(url)
    engine = engine_of(url)
    whole = indexes(engine)
    suffix = " on ai_usage" if engine.dialect.name in ("mysql", "mariadb") else ""
    with engine.begin() as connection:
        for name in ("ai_usage_by_time", "ai_usage_by_day_user"):
            connection.execute(text(f"drop index {name}{suffix}"))
        connection.execute(text("drop table ai_usage_steps"))
    assert len(indexes(engine)) == len(whole) - 2
    migrate_at(url)
    assert indexes(engine) == whole
    engine.dispose()


def indexes(engine: Engine) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # of an expression's it says that it does not describe it
        if engine.dialect.name != "sqlite":
            return sorted(str(index["name"]) for index in inspect(engine).get_indexes("ai_usage"))
    with engine.connect() as connection:
        return sorted(connection.scalars(text("select name from sqlite_master where tbl_name = 'ai_usage'")))


def test_processes_that_start_together_take_each_step_once(url: Secret) -> None:
    """Workers begin at the same moment: none fails, and none does what another is doing."""
    execute(url)
    taken: list[int] = []
    faults: list[BaseException] = []
    together = threading.Barrier(4)

    def numbered(number: int) -> Step:
        def take(connection: Connection) -> None:
            taken.append(number)
            connection.execute(text(f"CREATE TABLE step_{number} (n INTEGER)"))

        return Step(number, "counted", take)

    steps = (*STEPS, numbered(101), numbered(102))

    def start() -> None:
        together.wait()
        try:
            migrate_at(url, steps)
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (faults, taken) == ([], [101, 102])


def test_nothing_is_changed_where_nothing_is_missing(url: Secret) -> None:
    """A user of the database that may not change tables is enough once they are made."""
    assert migrate_at(url) > 1
    assert migrate_at(url) == 1, "it looks, and takes no lock"
