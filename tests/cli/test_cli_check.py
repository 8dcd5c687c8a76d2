"""gateway check beyond validity: what changes against another file, and what the endpoints answer."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from cli_kit import command, write
from kit import CLOSE, Behaviour, FakeUpstream, answer, as_openai, config, raw, refusing_port

from gateway.cli.trials import probe
from gateway.config import parse_settings

LIST = {"object": "list", "data": [{"id": "provider/one"}, {"id": "provider/two"}]}


def endpoint(endpoint_id: str, url: str, **more: Any) -> dict[str, Any]:
    return {"id": endpoint_id, "url": url, "api_key": f"sk-secret-of-{endpoint_id}"} | more


def model(name: str, *endpoints: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"id-{name}", "name": name, "provider_model": f"provider/{name}", "endpoints": list(endpoints)}


async def test_against_tells_who_gains_and_loses_what(tmp_path: Path) -> None:
    """What an operator reads before a reload; it is no failure that something changes."""
    one = model("one", endpoint("a", "https://a.example/v1"))
    write(tmp_path, config([one], users=[{"id": 42, "tier": "paid", "grants": [{"model": "one"}]}]), "old.yaml")
    write(tmp_path, config([one], users=[{"id": 43, "tier": "free", "grants": [{"model": "one"}]}]))
    changed, same = await asyncio.gather(
        command("check", "--against", "old.yaml", cwd=tmp_path),
        command("check", "-c", "old.yaml", "--against", "old.yaml", cwd=tmp_path),
    )
    assert (changed.code, changed.err) == (0, "")
    assert "  user 42 loses one\n" in changed.out
    assert "  user 43 gains one\n" in changed.out
    assert (same.code, same.out.splitlines()[3:]) == (0, ["Nothing changes compared to old.yaml."])


async def test_it_names_the_models_that_claude_code_does_not_show(tmp_path: Path) -> None:
    """Its picker goes by how an id begins; an alias will do."""
    at = endpoint("a", "https://a.example/v1")
    aliased = model("qwen", at) | {"aliases": ["other", "claude-qwen"]}
    shown = [model("claude-x", at), model("anthropic/y", at) | {"id": "y"}, aliased]
    write(tmp_path, config(shown), "all.yaml")
    write(tmp_path, config([*shown, *(model(f"m{number}", at) for number in range(30))]))
    every, some = await asyncio.gather(command("check", "-c", "all.yaml", cwd=tmp_path), command("check", cwd=tmp_path))
    assert (every.code, "Claude" in every.out) == (0, False)
    assert (some.code, some.err) == (0, "")
    line = some.row("Claude Code's picker does not show")
    assert line.startswith("Claude Code's picker does not show m0, m1, ")
    assert "m19 and 10 more" in line
    assert "qwen" not in line


async def test_a_probe_speaks_the_endpoints_protocol(tmp_path: Path) -> None:
    upstream = await FakeUpstream.start(answer(200, LIST))
    try:
        at = upstream.endpoint("a")
        write(tmp_path, config([model("one", endpoint("a", at.url, protocols=["anthropic"]))]))
        told = await command("check", "--probe", cwd=tmp_path)
    finally:
        await upstream.close()
    assert told.code == 0
    (asked,) = at.requests
    assert (asked.header("x-api-key"), asked.header("authorization")) == ("sk-secret-of-a", None)
    assert asked.header("anthropic-version") == "2023-06-01"


async def test_probe_tells_of_each_endpoint_whether_it_would_serve(tmp_path: Path) -> None:
    """Whether it can be reached, whether its credential is alive, whether it has the model; never the credential."""
    upstream = await FakeUpstream.start(as_openai())
    try:
        good = upstream.endpoint("good").always(answer(200, LIST))
        behaviours = {
            "rejected": answer(401, {"error": {"message": "no such key: sk-secret-of-rejected"}}),
            "page": answer(200, b"<html>"),
            "odd": answer(200, {"data": [7]}),
            "cut": raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", CLOSE),
        }
        bad = [endpoint(name, upstream.endpoint(name).always(each).url) for name, each in behaviours.items()]
        with refusing_port() as port:
            bad.append(endpoint("away", f"http://127.0.0.1:{port}/v1"))
            settings = config([model("one", endpoint("good", good.url)), model("three", endpoint("good", good.url))])
            write(tmp_path, settings, "good.yaml")
            write(tmp_path, config([model("one", *bad)]))
            healthy = await command("check", "-c", "good.yaml", "--probe", cwd=tmp_path)
            ailing = await command("check", "--probe", cwd=tmp_path)
    finally:
        await upstream.close()
    assert (healthy.code, healthy.err) == (0, "")
    assert healthy.row("ok    one, endpoint good").endswith("lists 2 models, `provider/one` among them")
    assert "`provider/three` not among them" in healthy.row("warn  three, endpoint good")
    (asked,) = good.requests  # the same credential for the same URL is tried once
    assert (asked.method, asked.route, asked.body) == ("GET", "models", b"")
    assert asked.header("authorization") == "Bearer sk-secret-of-good"
    assert ailing.code == 1
    assert "HTTP 401: the credential is not accepted" in ailing.row("FAIL  one, endpoint rejected")
    assert "no list of models" in ailing.row("FAIL  one, endpoint page")
    assert "no list of models" in ailing.row("FAIL  one, endpoint odd")
    assert "no usable answer" in ailing.row("FAIL  one, endpoint cut")
    assert "cannot be reached" in ailing.row("FAIL  one, endpoint away")
    assert "5 endpoints failed" in ailing.err
    assert "sk-secret" not in healthy.out + ailing.out + ailing.err
    assert upstream.faults == []


async def test_probe_waits_for_no_endpoint_for_long_and_says_that_it_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One upstream that never answers keeps nobody from the others' lines."""
    monkeypatch.setattr(probe, "SECONDS", 0.5)
    monkeypatch.setattr(probe, "PATIENCE_SECONDS", 0.05)
    never = asyncio.Event()
    silence: Behaviour = raw(never)
    upstream = await FakeUpstream.start(as_openai())
    try:
        silent = upstream.endpoint("silent").always(silence)
        good = upstream.endpoint("good").always(answer(200, LIST))
        text = _yaml(silent.url, good.url)
        failed = await probe.probe(parse_settings(text, "t.yaml", {}, Path()))
    finally:
        never.set()
        await upstream.close()
    told = capsys.readouterr()
    assert failed == 1
    first, second = told.out.splitlines()
    assert first.startswith("FAIL  one, endpoint silent")
    assert first.endswith("no answer within 0.5 s")
    assert second.startswith("ok    one, endpoint good")
    assert "1 of 2 endpoints have been asked" in told.err


def _yaml(silent: str, good: str) -> str:
    endpoints = f"[{{id: silent, url: '{silent}'}}, {{id: good, url: '{good}'}}]"
    return f"models: [{{id: 1, name: one, provider_model: provider/one, endpoints: {endpoints}}}]\n"


async def test_a_reader_that_leaves_is_no_news(tmp_path: Path) -> None:
    """`gateway schema | head` ends without a word."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = await command("schema", cwd=tmp_path, stdout=writer)
    finally:
        os.close(writer)
    assert (done.code, done.err) == (1, "")
