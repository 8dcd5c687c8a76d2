"""`gateway check --connect`: what a gateway of this file would need, reached or not, and nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli_kit import command, write
from kit import FakeUpstream, answer, config, refusing_port
from kit.stage import endpoint, model

LIST = {"object": "list", "data": [{"id": "provider/one"}]}


async def test_what_is_reached_and_what_is_not(tmp_path: Path) -> None:
    upstream = await FakeUpstream.start(answer(200, LIST))
    try:
        models = [model("one", [endpoint(upstream, "one")])]
        write(tmp_path, config(models))
        good = await command("check", "--connect", cwd=tmp_path)
        with refusing_port() as port:
            (tmp_path / "file").write_text("no directory")
            away = {
                "store": {"kind": "redis", "url": f"redis://:hidden-word@127.0.0.1:{port}/0"},
                "usage": {"url": f"postgresql://me:hidden-word@127.0.0.1:{port}/db", "journal": "journal"},
            }
            write(tmp_path, config(models, **away), "away.yaml")
            bad = await command("check", "--connect", "-c", "away.yaml", cwd=tmp_path)
            write(tmp_path, config(models, store={"path": "file/data"}, usage={"journal": "file/j"}), "file.yaml")
            blocked = await command("check", "--connect", "-c", "file.yaml", cwd=tmp_path)
    finally:
        await upstream.close()
    assert (good.code, good.err) == (0, "")
    assert [good.row(f"ok    {name}") for name in ("store: embedded", "ledger: sqlite", "one, endpoint one")]
    assert (bad.code, blocked.code) == (1, 1)
    assert bad.row("FAIL  store: Redis (`store.url`) ")
    assert bad.row("FAIL  ledger: ")
    assert bad.err.startswith("2 connections failed")
    assert "hidden-word" not in bad.out + bad.err
    for name in ("store", "ledger"):
        assert blocked.row(f"FAIL  {name}: ").endswith("file is no directory that this user may write to")
    assert sorted(os.listdir(tmp_path)) == ["away.yaml", "file", "file.yaml", "gateway.yaml"]


async def test_the_collector_of_spans_is_asked_too(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="NO OPENTELEMETRY: install the extra `otel`")
    upstream = await FakeUpstream.start(answer(200, LIST))
    try:
        models, otlp = [model("one", [endpoint(upstream, "one")])], upstream.endpoint("otlp")
        otlp.replies(answer(200, b""), answer(401, b"hidden-word"))
        section = {"otlp": otlp.url, "headers": {"authorization": "Bearer hidden-word"}}
        write(tmp_path, config(models, telemetry=section))
        good = await command("check", "--connect", cwd=tmp_path)
        bad = await command("check", "--connect", cwd=tmp_path)
    finally:
        await upstream.close()
    assert (good.code, good.err) == (0, "")
    assert good.row("ok    collector of spans")
    assert (bad.code, bad.row("FAIL  collector of spans: ")) == (1, "FAIL  collector of spans: HTTP 401")
    assert "hidden-word" not in good.out + bad.out + bad.err
    assert [each.header("authorization") for each in otlp.requests] == ["Bearer hidden-word"] * 2
