"""The database's password is rotated in the file that `usage.url` names: new connections take it, without a restart."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import psycopg
import pymysql
import pytest
from kit import KEYS, FakeUpstream, GatewayProcess, Wire, as_openai, ask, config, request_bytes
from kit.books import until
from kit.mariadb import PrivateMariaDB
from kit.postgres import PrivatePostgres
from kit.stage import endpoint, model
from sqlalchemy import make_url, text

from gateway.errors import DatabaseAway
from gateway.types import Secret
from gateway.usage.sql.database import Database

OLD, NEW = "old-password-0123456789", "new-password-0123456789"


async def chat(gateway: GatewayProcess) -> int:
    async with Wire.open(gateway.port) as wire:
        await wire.send(request_bytes("POST", "/v1/chat/completions", ask("m"), key=KEYS["user"]))
        return (await wire.reply()).status


async def is_written_down(gateway: GatewayProcess, requests: int) -> None:
    """Waits until so many requests can be read; while nothing can be, it is asked again."""

    async def counted() -> bool:
        reply = await gateway.get("/api/soc/usage/user/42", key=KEYS["panel"])
        return reply.status == 200 and reply.json()["totals"]["requests"] == requests

    await until(counted)


def in_mariadb(server: PrivateMariaDB, *statements: str) -> None:
    with closing(pymysql.connect(host="127.0.0.1", port=server.port, user="root")) as connection:
        for statement in statements:
            connection.cursor().execute(statement)


def cut_off(server: PrivateMariaDB, user: str) -> None:
    with closing(pymysql.connect(host="127.0.0.1", port=server.port, user="root")) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT id FROM information_schema.processlist WHERE user = %s", (user,))
        for (number,) in cursor.fetchall():
            cursor.execute(f"KILL {number}")


async def test_a_gateway_goes_on_with_a_rotated_password(tmp_path: Path, mariadb: PrivateMariaDB) -> None:
    """All its connections are cut, the old password is refused; what is used goes on being written down."""
    name = make_url(mariadb.new_database().reveal()).database
    in_mariadb(mariadb, f"CREATE USER turning@'%' IDENTIFIED BY '{OLD}'", f"GRANT ALL ON {name}.* TO turning@'%'")
    (tmp_path / "password").write_text(f"{OLD}\n")
    upstream = await FakeUpstream.start(as_openai())
    try:
        url = f"mariadb://turning:${{file:password}}@127.0.0.1:{mariadb.port}/{name}"
        whole = config([model("m", [endpoint(upstream, "m")])], usage={"url": url})
        async with GatewayProcess.start(whole, tmp_path) as gateway:
            assert await chat(gateway) == 200
            await is_written_down(gateway, 1)
            in_mariadb(mariadb, f"ALTER USER turning@'%' IDENTIFIED BY '{NEW}'")
            cut_off(mariadb, "turning")
            (tmp_path / "password").write_text(f"{NEW}\n")
            assert await chat(gateway) == 200
            await is_written_down(gateway, 2)
            cut_off(mariadb, "turning")  # and again, with what was taken once
            assert await chat(gateway) == 200
            await is_written_down(gateway, 3)
            assert "usage.url changed" in gateway.output()
            assert "next start" not in gateway.output()
            assert OLD not in gateway.output()
            assert NEW not in gateway.output()
    finally:
        await upstream.close()


def test_postgresql_takes_the_present_login(postgres: PrivatePostgres) -> None:
    """Another user's, too. A URL that leads elsewhere waits for the next start, and the login before it holds."""
    url = make_url(postgres.new_database().reveal())
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        for role, password in (("turning", OLD), ("turned", NEW)):
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'".encode())
        (rules,) = connection.execute("SHOW hba_file").fetchone() or ("",)
        before = Path(rules).read_text()
        Path(rules).write_text(f"local all turning,turned scram-sha-256\n{before}")
        connection.execute("SELECT pg_reload_conf()")
    latest = [url.set(username="turning", password=OLD)]
    given = Secret(latest[0].render_as_string(hide_password=False))

    def present() -> Secret:
        return Secret(latest[-1].render_as_string(hide_password=False))

    with closing(Database(given, read_only=False, statement_seconds=7, latest=present)) as database:

        def user() -> object:
            database.engine.dispose()
            with database.begin() as connection:
                return connection.scalar(text("SELECT current_user"))

        assert user() == "turning"
        latest.append(url.set(username="turned", password=NEW))
        assert user() == "turned"
        latest.append(url.set(username="turning", password=OLD, database="elsewhere"))
        assert user() == "turned"
        latest.append(url.set(username="turned", password=OLD))
        with pytest.raises(DatabaseAway) as refused:
            user()
        assert OLD not in str(refused.value)
