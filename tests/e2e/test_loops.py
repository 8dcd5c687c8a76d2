"""Requests that come round, upgrades that are asked for, and what the log names where nobody was asked."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from kit import KEYS, GatewayProcess, Stage, Wire, ask, assert_error, config, request_bytes
from kit.answers import upstream_error
from kit.stage import Record, endpoint, model

from bench.processes import free_port

OTHER = "1.1 gw-0123456789ab"
OWN = re.compile(r"1\.1 gw-[0-9a-f]{12}")


# --- via


async def test_a_gateway_names_itself_to_the_upstream(stage: Stage) -> None:
    """Entries of other gateways are passed on before it, those of other proxies are nobody's business."""
    one = stage.model()
    for headers in ([], [("via", f"1.1 nginx, {OTHER}")], [("via", "2 squid"), ("via", OTHER)]):
        assert (await stage.post(one.chat(), headers=headers)).status == 200
    plain, *others = [request.header("via") or "" for request in one.a.requests]
    assert OWN.fullmatch(plain)
    assert others == [f"{OTHER}, {plain}"] * 2


async def test_a_request_that_bears_our_name_ends_with_508(stage: Stage) -> None:
    """Nobody is asked, and a client shall not try again; so does one that has come through more than eight."""
    one = stage.model()
    await stage.post(one.chat())
    own = one.a.requests[0].header("via") or ""
    for via in (own, f"{OTHER}, {own}", ", ".join([OTHER] * 9)):
        reply = await stage.post(one.chat(), headers=[("via", via)])
        assert_error(reply, 508, "loop_detected")
        assert reply.header("x-should-retry") == "false"
    assert (await stage.post(one.chat(), headers=[("via", ", ".join([OTHER] * 8))])).status == 200
    assert one.asked() == [2]


def leading_to(port: int) -> list[Record]:
    """A model `round`, by way of the gateway on this port."""
    return [model("round", [{"id": "next", "url": f"http://127.0.0.1:{port}/v1", "api_key": KEYS["user"]}])]


@pytest.mark.parametrize("gateways", [1, 2, 3])
async def test_a_model_that_leads_back_ends_with_508(tmp_path: Path, gateways: int) -> None:
    """A gateway that is its own upstream, alone or by way of others, each with a store of its own."""
    ports = [free_port() for _ in range(gateways)]
    async with AsyncExitStack() as running:
        for number, port in enumerate(ports):
            directory = tmp_path / str(number)
            directory.mkdir()
            settings = config(leading_to(ports[(number + 1) % gateways]), server={"port": port})
            first = await running.enter_async_context(GatewayProcess.start(settings, directory))
        async with Wire.open(first.port) as wire:
            await wire.send(request_bytes("POST", "/v1/chat/completions", ask("round"), key=KEYS["user"]))
            reply = await wire.reply()
        assert_error(reply, 508, "loop_detected")
        assert reply.header("x-should-retry") == "false"
        lines = [line for line in first.logs if line.get("path") == "/v1/chat/completions"]
        assert len(lines) <= 2, "it came round once"


async def test_a_name_outlives_a_restart(tmp_path: Path) -> None:
    """It belongs to the store, so that all workers and machines on one store have one."""
    names = []
    for _ in range(2):
        async with Stage.open(tmp_path, lambda upstream: [model("m", [endpoint(upstream, "m.a")])]) as stage:
            assert (await stage.post(ask("m"))).status == 200
            names.append(stage.upstream.endpoint("m.a").requests[0].header("via"))
    assert names[0] == names[1] is not None


# --- upgrades


@pytest.mark.parametrize("prefix", ["/v1", "/api/ai/openai/v1"])
@pytest.mark.parametrize("wanted", ["websocket", "WebSocket", "h2c, websocket/13"])
@pytest.mark.parametrize("route", ["responses", "realtime"])
async def test_a_websocket_that_is_switched_off_is_refused(strict: Stage, prefix: str, wanted: str, route: str) -> None:
    """426 with what RFC 9110 wants beside it, before any key is looked at: Codex goes on over HTTP at once."""
    headers = [("connection", "Upgrade"), ("upgrade", wanted), ("sec-websocket-version", "13")]
    async with Wire.open(strict.port) as wire:
        await wire.send(request_bytes("GET", f"{prefix}/{route}", headers=headers))
        reply = await wire.reply()
        assert_error(reply, 426, "upgrade_not_supported")
        assert reply.header("upgrade") == "websocket"
        await wire.send(request_bytes("GET", "/v1/models", key=KEYS["user"]))
        assert (await wire.reply()).status == 200, "the connection goes on"


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/v1/models", 200),
        ("GET", "/healthz", 200),
        ("GET", "/v1/embeddings", 405),
        ("PUT", "/v1/responses", 405),
    ],
)
async def test_elsewhere_an_upgrade_is_passed_over(stage: Stage, method: str, target: str, status: int) -> None:
    headers = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "x")]
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes(method, target, key=KEYS["user"], headers=headers))
        assert (await wire.reply()).status == status


@pytest.mark.parametrize("wanted", ["websocket", "h2c"])
async def test_a_post_that_offers_an_upgrade_is_answered_as_any(stage: Stage, wanted: str) -> None:
    one = stage.model()
    headers = [("connection", "upgrade"), ("upgrade", wanted)]
    for route in ("responses", "chat/completions"):
        assert (await stage.post(one.chat(), route, headers=headers)).status == 200
    assert [request.header("upgrade") for request in one.a.requests] == [None, None]


async def test_a_get_without_an_upgrade_is_405(stage: Stage) -> None:
    for headers in ([], [("connection", "upgrade"), ("upgrade", "h2c")]):
        async with Wire.open(stage.port) as wire:
            await wire.send(request_bytes("GET", "/v1/responses", key=KEYS["user"], headers=headers))
            assert_error(await wire.reply(), 405, "method_not_allowed")


# --- the access line


async def test_the_access_line_names_the_model_where_all_endpoints_cool(stage: Stage) -> None:
    one = stage.model()
    one.a.replies(upstream_error(429, retry_after="60"))
    assert (await stage.post(one.chat())).status == 429
    reply = await stage.post(ask(one.name))
    line = await stage.gateway.log(lambda each: each.get("request_id") == reply.header("x-request-id") and "ms" in each)
    assert (line["status"], line["model"], line["attempts"], line.get("endpoint")) == (429, one.name, 0, None)
