"""`GET /metrics` of a real process: who may read it, and that it tells what has happened."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from kit import DONE, KEYS, RESET, FakeUpstream, GatewayProcess, Stage, Wire, as_openai, ask, assert_error, events
from kit.answers import delta, upstream_error
from kit.books import until
from kit.gateway import config
from kit.stage import endpoint, model
from kit.wire import request_bytes
from observability.metrics_kit import Scrape, scrape

from gateway.observability.metrics import FAMILIES

CHAT = "/v1/chat/completions"


async def counted(stage: Stage, name: str, at_least: float, **labels: str) -> Scrape:
    """Waits until a counter has come so far: an answer may be read before its request is counted."""
    found: list[Scrape] = []

    async def enough() -> bool:
        found[:] = [await scrape(stage.gateway)]
        return found[0].has(name, **labels) and found[0].total(name, **labels) >= at_least

    await until(enough)
    return found[0]


async def test_it_takes_a_key_that_may_read_usage(stage: Stage) -> None:
    assert_error(await stage.get("/metrics", key=None), 401, "missing_api_key")
    assert_error(await stage.get("/metrics", key="sk-nobody-has-this-key-at-all"), 401, "invalid_api_key")
    assert_error(await stage.get("/metrics", key=KEYS["expired"]), 401, "invalid_api_key")
    assert_error(await stage.get("/metrics", key=KEYS["user"]), 403, "insufficient_scope", "permission_error")
    reply = await stage.get("/metrics", key=KEYS["reader"])
    assert reply.status == 200
    assert (reply.header("content-type") or "").startswith("text/plain; version=0.0.4")
    assert reply.header("x-request-id")


async def test_prometheus_may_ask_for_openmetrics(stage: Stage) -> None:
    accept = ("accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes("GET", "/metrics", key=KEYS["reader"], headers=[accept]))
        reply = await wire.reply()
        assert (reply.header("content-type") or "").startswith("application/openmetrics-text")
        assert reply.body.endswith(b"# EOF\n")
        await wire.send(request_bytes("HEAD", "/metrics", key=KEYS["reader"]))
        assert (await wire.reply(bodiless=True)).status == 200


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
async def test_a_request_shows_with_its_tokens_and_times(stage: Stage, streamed: bool) -> None:
    fresh = stage.model()
    reply = await stage.post(fresh.chat(stream=streamed))
    assert reply.status == 200
    about = {"model": fresh.name}
    told = await counted(stage, "gateway_requests_total", 1, **about)
    assert told.total("gateway_requests_total", route=CHAT, method="POST", status="200", outcome="ok", **about) == 1
    tokens = [told.total("gateway_tokens_total", kind=kind, **about) for kind in ("prompt", "completion")]
    assert tokens == [9, 12]
    assert told.total("gateway_first_byte_seconds_count", **about) == 1
    assert told.total("gateway_first_byte_seconds_sum", **about) > 0
    assert told.total("gateway_own_share_seconds_count") >= 1
    endpoint_is = {"endpoint": f"{fresh.name}.a", **about}
    assert told.total("gateway_upstream_attempts_total", result="ok", **endpoint_is) == 1
    assert told.total("gateway_endpoint_state", state="available", **endpoint_is) == 1
    assert told.total("gateway_endpoint_state", **endpoint_is) == 1
    assert told.total("gateway_endpoint_in_flight", **endpoint_is) == 0


async def test_a_failover_and_a_cooldown_show(stage: Stage) -> None:
    fresh = stage.model("pair")
    fresh.a.replies(upstream_error(429, retry_after="60"))
    assert (await stage.post(fresh.chat())).header("x-gateway-attempts") == "2"
    about = {"model": fresh.name}
    told = await counted(stage, "gateway_failovers_total", 1, **about)
    limited = {"endpoint": f"{fresh.name}.a", **about}
    assert told.total("gateway_upstream_attempts_total", result="rate_limited", **limited) == 1
    assert told.total("gateway_upstream_attempts_total", endpoint=f"{fresh.name}.b", result="ok", **about) == 1
    assert told.total("gateway_cooldowns_total", cause="rate_limited", **limited) == 1
    assert told.total("gateway_endpoint_state", state="cooling", **limited) == 1
    assert 0 < told.total("gateway_endpoint_cooling_seconds", cause="rate_limited", **limited) <= 60


async def test_a_refusal_that_others_were_tried_for_is_counted_against_its_endpoint(stage: Stage) -> None:
    fresh = stage.model("pair")
    fresh.a.replies(upstream_error(404))
    assert (await stage.post(fresh.chat())).status == 200
    told = await counted(stage, "gateway_failovers_total", 1, model=fresh.name)
    attempts = "gateway_upstream_attempts_total"
    assert told.total(attempts, endpoint=f"{fresh.name}.a", result="refused") == 1
    assert told.total(attempts, model=fresh.name) == 2


async def test_errors_show_by_their_code(stage: Stage) -> None:
    """Those of clients, of upstreams, of streams that break, and of bytes that are no request at all."""
    fresh, broken = stage.model(), stage.model()
    fresh.a.replies(upstream_error(500))
    broken.a.replies(events(delta("one"), b'data: {"half', RESET))
    assert_error(await stage.post(fresh.chat()), 502, "upstream_error")
    assert b"stream_incomplete" in (await stage.post(broken.chat(stream=True))).body
    assert_error(await stage.post(b"{", key=KEYS["user"]), 400, "invalid_json")
    async with Wire.open(stage.port) as wire:
        await wire.send(b"\x00\x01\x02 this is no HTTP\r\n\r\n")
        assert (await wire.reply()).status == 400
    told = await counted(stage, "gateway_errors_total", 1, code="stream_incomplete", model=broken.name)
    assert told.total("gateway_errors_total", code="upstream_error", model=fresh.name, route=CHAT) == 1
    assert told.total("gateway_errors_total", code="invalid_json", route=CHAT) >= 1
    assert told.total("gateway_errors_total", code="invalid_http", route="(unparsable)") >= 1
    assert told.total("gateway_errors_total", code="internal_error") == 0
    assert told.total("gateway_requests_total", model=broken.name, outcome="upstream_error", status="200") == 1


async def test_what_is_in_flight_shows_while_it_is(stage: Stage) -> None:
    fresh, go_on = stage.model(), asyncio.Event()
    fresh.a.replies(events(delta("one"), go_on, DONE))
    async with stage.asking(fresh.chat(stream=True)) as wire:
        await wire.head()
        await wire.event()
        told = await scrape(stage.gateway)
        assert told.total("gateway_in_flight") >= 1
        assert told.total("gateway_endpoint_in_flight", model=fresh.name) == 1
        assert told.total("gateway_ledger_open_requests") >= 0
        go_on.set()
        await wire.body()


async def test_no_user_key_or_credential_is_in_it_and_paths_are_their_templates(stage: Stage) -> None:
    """Labels hold nothing that a client can choose."""
    await stage.post(ask("nobody-has-this-model"))
    await stage.get("/v1/models/nobody-has-this-model")
    await stage.get("/nobody-has-this-path")
    told = await counted(stage, "gateway_requests_total", 1, route="(none)", status="404")
    assert told.has("gateway_requests_total", route="/v1/models/{id...}")
    text = " ".join(told.label_values())
    assert "nobody-has-this" not in text
    assert "sk-" not in text
    assert not {"42", "user", "reader", "panel"} & told.label_values()


async def test_one_answer_has_each_series_once_and_all_that_a_lone_process_can_tell(stage: Stage) -> None:
    await stage.post(stage.model().chat())
    told = await scrape(stage.gateway)
    assert len(told.series()) == len(set(told.series()))
    told_of = {name.removesuffix("_bucket") for name in told.names()}
    happens_to_some = {"gateway_cooldowns_total", "gateway_endpoint_cooling_seconds", "gateway_unpriced_total"}
    happens_to_some |= {"gateway_queue_waiting", "gateway_queue_wait_seconds", "gateway_queue_refused_total"}
    of_telemetry = {name for name in FAMILIES if name.startswith("gateway_spans_")}
    assert set(FAMILIES) - told_of <= happens_to_some | of_telemetry
    assert not of_telemetry & told_of, "it is off"
    assert told.total("gateway_workers") == told.total("gateway_build_info") == 1
    assert told.total("gateway_journal_up") == told.total("gateway_store_up", kind="embedded") == 1
    assert told.total("process_resident_memory_bytes") > 2**20


async def test_many_may_ask_at_once(stage: Stage) -> None:
    told = await asyncio.gather(*(scrape(stage.gateway) for _ in range(12)))
    assert [each.total("gateway_workers") for each in told] == [1] * 12


async def test_it_can_be_public_outlives_the_feature_and_tells_of_reloads(tmp_path: Path) -> None:
    """`server.metrics_public` is taken over by a reload; with the feature `ai` off its requests show as such."""
    upstream = await FakeUpstream.start(as_openai())
    try:
        records = [model("m", [endpoint(upstream, "a")])]
        whole = config(records, server={"metrics_public": True}, features={"ai": False})
        async with GatewayProcess.start(whole, tmp_path) as gateway:
            assert (await gateway.get("/v1/models", key=KEYS["user"])).status == 503
            public = await gateway.get("/metrics")
            assert public.status == 200
            assert Scrape(public.body.decode()).total("gateway_errors_total", code="feature_disabled") == 1
            (tmp_path / "gateway.yaml").write_text("server: {metrics_public: maybe}\n")
            gateway.signal(signal.SIGHUP)
            await gateway.log(lambda line: line["event"].startswith("configuration not reloaded"))
            told = Scrape((await gateway.get("/metrics")).body.decode())
            assert told.total("gateway_config_reloads_total", result="failed") >= 1
            assert told.total("gateway_config_problems") == 1
            before = told.total("gateway_config_last_success_timestamp_seconds")
            (tmp_path / "gateway.yaml").write_text("server: {metrics_public: false}\nkeys: [{id: k, user: u, ")
            with (tmp_path / "gateway.yaml").open("a") as file:
                file.write(f"key: {KEYS['panel']}, scopes: ['usage:read']}}]\n")
            gateway.signal(signal.SIGHUP)
            await gateway.log(lambda line: line["event"] == "configuration reloaded")
            assert_error(await gateway.get("/metrics"), 401, "missing_api_key")
            told = await scrape(gateway, KEYS["panel"])
            assert told.total("gateway_config_reloads_total", result="ok") >= 1
            assert told.total("gateway_config_problems") == 0
            assert told.total("gateway_config_last_success_timestamp_seconds") > before
    finally:
        await upstream.close()


async def test_it_can_be_read_while_draining(tmp_path: Path) -> None:
    """On a connection that is there already: the last numbers are worth having."""
    go_on = asyncio.Event()
    async with Stage.open(
        tmp_path, lambda upstream: [model("m", [endpoint(upstream, "a")])], may_end=True, server={"drain_seconds": 90}
    ) as stage:
        stage.upstream.endpoint("a").replies(events(delta("one"), go_on, DONE))
        async with stage.asking(ask("m", stream=True)) as wire, Wire.open(stage.port) as scraper:
            await wire.head()
            await scraper.send(request_bytes("GET", "/healthz"))
            await scraper.reply()
            stage.gateway.signal(signal.SIGTERM)
            await stage.gateway.log(lambda line: line["event"] == "draining")
            await scraper.send(request_bytes("GET", "/metrics", key=KEYS["reader"]))
            told = Scrape((await scraper.reply()).body.decode())
            assert told.total("gateway_draining") == told.total("gateway_in_flight") == 1
            go_on.set()
            assert (await wire.body()).body.endswith(DONE)
        assert await stage.gateway.wait() == 0
