"""The database of a fleet: a server of its own that may be killed and frozen; its ledger, read without the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
import psycopg.rows
import pymysql
import pymysql.cursors
from kit.mariadb import PrivateMariaDB, private_mariadb
from kit.postgres import PrivatePostgres, private_postgres

_LEDGER = "select * from ai_usage order by time_ms"


class Database:
    def __init__(self, server: PrivatePostgres | PrivateMariaDB) -> None:
        self.server = server
        self.url = server.new_database().reveal()

    @classmethod
    @contextmanager
    def running(cls, kind: str) -> Iterator[Database]:
        """`kind`: postgres or mariadb."""
        with private_postgres() if kind == "postgres" else private_mariadb() as server:
            yield cls(server)

    def rows(self) -> list[dict[str, Any]]:
        if isinstance(self.server, PrivatePostgres):
            with psycopg.connect(self.url, row_factory=psycopg.rows.dict_row) as connection:
                return connection.execute(_LEDGER).fetchall()
        place = urlsplit(self.url)
        about: dict[str, Any] = {"host": place.hostname, "port": place.port, "database": place.path.strip("/")}
        about |= {"user": place.username, "password": place.password, "cursorclass": pymysql.cursors.DictCursor}
        with closing(pymysql.connect(**about)) as connection, connection.cursor() as cursor:
            cursor.execute(_LEDGER)
            return list(cursor.fetchall())
