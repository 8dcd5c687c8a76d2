"""`gateway check` of issuers: what it warns of, whether their keys can be fetched, what changes."""

from __future__ import annotations

from pathlib import Path

from cli_kit import command, write
from kit import config, refusing_port
from kit.issuer import JwksServer, jwk

BASE = {"issuer": "https://id.test", "audience": "gateway"}


async def test_each_issuers_keys_are_fetched(tmp_path: Path) -> None:
    shared = {"kty": "oct", "k": "AAAA", "kid": "shared"}
    async with JwksServer.serving(jwk("RS256"), jwk("ES256"), shared) as server:
        write(tmp_path, config([], auth={"jwt": [BASE | {"jwks_url": server.url}]}))
        good = await command("check", "--connect", cwd=tmp_path)
        server.document = b"<html>"
        unread = await command("check", "--connect", cwd=tmp_path)
    with refusing_port() as port:
        write(tmp_path, config([], auth={"jwt": [BASE | {"jwks_url": f"http://127.0.0.1:{port}/?token=hidden"}]}))
        away = await command("check", "--connect", cwd=tmp_path)
    assert good.code == 0
    assert (
        good.row("ok    keys of https://id.test")
        == "ok    keys of https://id.test: 2 usable, 1 that are of no use here"
    )
    assert (unread.code, away.code) == (1, 1)
    assert unread.row("FAIL  keys of ") == "FAIL  keys of https://id.test: the JWKS is not JSON"
    assert away.row("FAIL  keys of https://id.test: 127.0.0.1")
    assert "hidden" not in away.out + away.err


async def test_what_is_hardly_meant_is_warned_of(tmp_path: Path) -> None:
    odd = BASE | {"user_prefix": "", "jwks_url": "http://id.test/", "organisations": "o", "organisations_max": ["x"]}
    write(tmp_path, config([], keys=[], auth={"jwt": [odd]}))
    done = await command("check", cwd=tmp_path)
    assert done.code == 0
    assert "0 keys, 1 issuer of tokens." in done.out
    warnings = [line for line in done.out.splitlines() if line.startswith("warning: ")]
    assert [line.split(" ")[1] for line in warnings] == [
        "auth.jwt[0].user_prefix",
        "auth.jwt[0].jwks_url",
        "auth.jwt[0].organisations_max:",
    ]


async def test_changes_are_told_without_the_keys(tmp_path: Path) -> None:
    write(tmp_path, config([], auth={"jwt": [BASE | {"jwks_url": "https://id.test/"}]}), "old.yaml")
    one = BASE | {"jwks_url": "https://id.test/", "max_age": 60}
    other = {"issuer": "https://ci.test", "audience": "gateway", "jwks_url": "https://ci.test/"}
    write(tmp_path, config([], auth={"jwt": [one, other]}))
    done = await command("check", "--against", "old.yaml", cwd=tmp_path)
    assert done.code == 0
    assert "  tokens of https://ci.test for gateway: taken from now on" in done.out.splitlines()
    assert "  tokens of https://id.test for gateway: max_age 3600 → 60" in done.out.splitlines()
