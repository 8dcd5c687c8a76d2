"""What each connection to a real server is told first, whatever the server's own settings are."""

from __future__ import annotations

import logging
from contextlib import closing

import pytest
from kit.mariadb import PrivateMariaDB
from kit.postgres import PrivatePostgres
from ledgerkit import engine_of
from sqlalchemy import text

from gateway.types import Secret
from gateway.usage.sql.database import Database


def setting(url: Secret, query: str) -> str:
    with closing(Database(url, read_only=False, statement_seconds=7)) as database, database.begin() as connection:
        return str(connection.scalar(text(query)))


@pytest.mark.parametrize("scheme", ["mariadb", "mysql"])
def test_mariadb_is_strict_and_gives_up_in_time(scheme: str, mariadb: PrivateMariaDB) -> None:
    """By either name. A server that is not strict would cut what does not fit, and say nothing."""
    url = mariadb.new_database(scheme)
    engine = engine_of(url)
    with engine.begin() as connection:
        before = connection.scalar(text("SELECT @@global.sql_mode"))
        connection.execute(text("SET GLOBAL sql_mode = ''"))
    try:
        assert setting(url, "SELECT @@sql_mode").strip(",") == "STRICT_ALL_TABLES"
        assert setting(url, "SELECT @@max_statement_time").rstrip("0") == "7."
    finally:
        with engine.begin() as connection:
            connection.execute(text("SET GLOBAL sql_mode = :mode"), {"mode": before})
        engine.dispose()


def test_postgresql_gives_up_in_time_and_notices_who_has_gone(postgres: PrivatePostgres) -> None:
    url = postgres.new_database()
    assert setting(url, "SHOW statement_timeout") == "7s"
    assert setting(url, "SHOW client_connection_check_interval") == "1s"


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_a_server_that_goes_amid_work_leaves_no_traceback(
    kind: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """What a pool says of it: it is the ledger's line that tells of it. The next connection is a fresh one."""
    server: PrivatePostgres | PrivateMariaDB = request.getfixturevalue(kind)
    with closing(Database(server.new_database(), read_only=False, statement_seconds=7)) as database:
        connection = database.engine.connect()
        connection.exec_driver_sql("SELECT 1")
        server.stop()
        connection.connection.close()  # as it is given back by whoever could not end its transaction
        server.start()
        with database.begin() as again:
            assert again.scalar(text("SELECT 1")) == 1
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
