"""The collector is away, slow, or refuses: requests go on, spans are dropped and counted, the stop is bounded."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from agree.agree_kit import rewrite, running_redis
from kit import (
    KEYS,
    FakeUpstream,
    GatewayProcess,
    Stage,
    Wire,
    answer,
    as_openai,
    ask,
    config,
    raw,
    refusing_port,
    request_bytes,
)
from kit.books import until
from kit.stage import endpoint, model
from observability.metrics_kit import scrape
from servers.scripted import Peer, serving
from structlog import get_logger
from telemetry.otel_kit import Collector

from gateway.config.sections.telemetry import TelemetrySettings
from gateway.observability.calls import Call, Calls
from gateway.observability.otel import SpanCounts, Telemetry
from gateway.observability.otel.exporter import MOST_WAITING, Exporter
from gateway.observability.otel.finished import LONGEST_NAME, FinishedCall
from gateway.observability.otel.spans import spans_of
from gateway.types import Secret

LOST = "spans are not exported at the moment, and dropped"
BOUND_SECONDS = 2 + 5  # what an exporter may take at the end, and what a loaded machine takes


@asynccontextmanager
async def gateway(directory: Path, telemetry: Any, **sections: Any) -> AsyncIterator[Stage]:
    """A gateway with a model `m`; `telemetry` may be a function of the upstream."""
    models = lambda upstream: [model("m", [endpoint(upstream, "m")])]  # noqa: E731
    async with Stage.open(directory, models, may_end=True, telemetry=telemetry, **sections) as one:
        yield one


async def dropped(at: Stage, reason: str) -> float:
    return (await scrape(at.gateway)).total("gateway_spans_dropped_total", reason=reason)


async def until_dropped(at: Stage, reason: str, count: int) -> None:
    async def enough() -> bool:
        return await dropped(at, reason) >= count

    await until(enough)


async def test_a_collector_that_refuses_costs_spans_and_says_so_once(tmp_path: Path) -> None:
    def telemetry(upstream: FakeUpstream) -> dict[str, Any]:
        collector = Collector(upstream)
        collector.endpoint.replies(*[answer(400, b"what it thinks of it")] * 2)
        return collector.section()

    async with gateway(tmp_path, telemetry) as at:
        for count in (2, 4):
            assert (await at.post(ask("m"))).status == 200
            await until_dropped(at, "export_failed", count)
        lines = [line for line in at.gateway.logs if line.get("event") == LOST]
        assert [line["why"] for line in lines] == ["HTTP 400"]
        collector = Collector(at.upstream)
        await collector.told(await at.post(ask("m")))
        again = await at.gateway.log(lambda line: line.get("event") == "spans are exported again")
        assert again["dropped"] == 4
        scraped = await scrape(at.gateway)
        assert scraped.total("gateway_spans_exported_total") == 2
        assert scraped.total("gateway_spans_dropped_total", reason="queue_full") == 0
        assert "what it thinks" not in at.gateway.output()


async def test_a_redirect_is_not_followed_and_is_no_success(tmp_path: Path) -> None:
    def telemetry(upstream: FakeUpstream) -> dict[str, Any]:
        away, collector = upstream.endpoint("elsewhere").url, Collector(upstream)
        section = collector.section(headers={"x-team": "a-token-for-one"})
        collector.always(answer(307, b"", [("location", f"{away}/traces")]))
        return section

    async with gateway(tmp_path, telemetry) as at:
        await at.post(ask("m"))
        await until_dropped(at, "export_failed", 2)
        assert at.upstream.endpoint("elsewhere").requests == []


@pytest.mark.parametrize("kind", ["away", "slow", "500"])
async def test_requests_and_the_stop_wait_for_no_collector(tmp_path: Path, kind: str) -> None:
    never = asyncio.Event()

    def telemetry(upstream: FakeUpstream) -> dict[str, Any]:
        collector = Collector(upstream)
        section = {"otlp": f"http://127.0.0.1:{away}"} if kind == "away" else collector.section()
        collector.always(raw(never) if kind == "slow" else answer(503, b"{}"))
        return section

    with refusing_port() as away:
        async with gateway(tmp_path, telemetry) as at:
            async with Wire.open(at.port) as wire:
                for _ in range(20):
                    await wire.send(request_bytes("POST", "/v1/chat/completions", ask("m"), key=KEYS["user"]))
                    assert (await wire.reply()).status == 200
            if kind != "away":
                await Collector(at.upstream).endpoint.request()
            began = time.monotonic()
            at.gateway.signal(signal.SIGTERM)
            assert await at.gateway.wait() == 0
            assert time.monotonic() - began < BOUND_SECONDS


async def test_what_ended_just_before_the_stop_is_exported(tmp_path: Path) -> None:
    async with gateway(tmp_path, lambda upstream: Collector(upstream).section()) as at:
        reply = await at.post(ask("m"))
        at.gateway.signal(signal.SIGTERM)
        assert await at.gateway.wait() == 0
        await Collector(at.upstream).told(reply)


async def test_a_reload_turns_it_on_changes_it_and_turns_it_off(tmp_path: Path) -> None:
    async with gateway(tmp_path, {}) as at:
        first, second = Collector(at.upstream), Collector(at.upstream, "other")
        settings = json.loads((tmp_path / "gateway.yaml").read_text())
        await at.post(ask("m"))
        assert not (await scrape(at.gateway)).has("gateway_spans_exported_total")

        async def reload(telemetry: dict[str, Any], count: int) -> None:
            rewrite(tmp_path, settings | {"telemetry": telemetry})

            async def done() -> bool:
                return sum(line.get("event") == "configuration reloaded" for line in at.gateway.logs) == count

            await until(done)

        await reload(first.section(headers={"x-team": "token-of-the-first"}), 1)
        own, _ = await first.told(await at.post(ask("m")))
        assert own.resource["service.name"] == "ecli-gateway"
        await reload(second.section(service_name="renamed"), 2)
        own, _ = await second.told(await at.post(ask("m")))
        assert own.resource["service.name"] == "renamed"
        exported = len(first.requests) + len(second.requests)
        await reload({}, 3)
        assert (await at.post(ask("m"))).status == 200
        assert not (await scrape(at.gateway)).has("gateway_spans_exported_total")
        assert len(first.requests) + len(second.requests) == exported
        assert "token-of-the-first" not in at.gateway.output()


def loaded_by(running: GatewayProcess) -> str:
    maps = Path(f"/proc/{running.process.pid}/maps")
    if not maps.exists():
        pytest.skip("NO /proc: what a process has loaded is not to be seen")
    return maps.read_text()


async def test_nothing_of_it_is_loaded_while_it_is_off(tmp_path: Path) -> None:
    library = "google/_upb"  # protobuf's
    async with gateway(tmp_path, {}) as at:
        assert (await at.post(ask("m"))).status == 200
        assert library not in loaded_by(at.gateway)
    async with gateway(tmp_path, lambda upstream: Collector(upstream).section()) as at:
        await Collector(at.upstream).told(await at.post(ask("m")))
        assert library in loaded_by(at.gateway)


async def test_each_of_two_workers_exports_and_their_counts_are_summed(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running_redis(tmp_path_factory.mktemp("redis")) as redis:
        upstream = await FakeUpstream.start(as_openai())
        collector = Collector(upstream)
        settings = config(
            [model("m", [endpoint(upstream, "m")])],
            server={"workers": 2},
            store={"kind": "redis", "url": redis.url},
            telemetry=collector.section(),
        )
        try:
            async with GatewayProcess.start(settings, tmp_path) as running:
                asked: list[str] = []

                async def both() -> bool:
                    async with Wire.open(running.port) as wire:
                        await wire.send(request_bytes("POST", "/v1/chat/completions", ask("m"), key=KEYS["user"]))
                        reply = await wire.reply()
                    assert reply.status == 200
                    asked.append(reply.header("x-request-id") or "")
                    return len({span.resource["service.instance.id"] for span in collector.spans()}) == 2

                await until(both)

                async def all_exported() -> bool:
                    return (await scrape(running)).total("gateway_spans_exported_total") == 2 * len(asked)

                await until(all_exported)
        finally:
            await upstream.close()
        assert {span.attributes.get("gateway.request_id") for span in collector.spans()} >= set(asked)


# -- bounds


def finished(**about: Any) -> FinishedCall:
    call = Call("POST", "/v1/chat/completions", "127.0.0.1", None)
    for name, value in about.items():
        setattr(call, name, value)
    return FinishedCall.of(call)


def test_the_queue_is_bounded_and_what_is_beyond_is_counted() -> None:
    counts = SpanCounts()
    exporter = Exporter(TelemetrySettings(otlp=Secret("http://127.0.0.1:9")), counts, get_logger())
    for _ in range(MOST_WAITING + 10):
        exporter.put(finished(attempts=2))
    assert exporter.waiting == MOST_WAITING
    assert (counts.overflowed, counts.exported, counts.failed) == (10 * 3, 0, 0)


def test_what_is_kept_of_a_call_does_not_grow_with_what_its_client_sent() -> None:
    kept = finished(requested_model="m" * 1_000_000, path="/" + "p" * 100_000, conversation="c" * 100_000)
    assert kept.named == "m" * LONGEST_NAME
    assert len(kept.path) <= LONGEST_NAME


async def test_what_waits_at_the_end_is_dropped_in_time_where_nobody_takes_it() -> None:
    counts, began = SpanCounts(), time.monotonic()
    with refusing_port() as port:
        exporter = Exporter(TelemetrySettings(otlp=Secret(f"http://127.0.0.1:{port}")), counts, get_logger())
        for _ in range(1_000):
            exporter.put(finished())
        exporter.start()
        exporter.stop()
        await asyncio.to_thread(exporter.join)
    assert time.monotonic() - began < BOUND_SECONDS
    assert (exporter.waiting, counts.exported, counts.failed) == (0, 0, 1_000)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 1.0])
async def test_the_ratio_is_of_requests_without_a_trace(ratio: float, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls()
    telemetry = Telemetry(calls, get_logger())
    with refusing_port() as port:
        telemetry.apply(TelemetrySettings(otlp=Secret(f"http://127.0.0.1:{port}"), sample_ratio=ratio))
        put: list[FinishedCall] = []
        monkeypatch.setattr(Exporter, "put", lambda _, call: put.append(call))
        for number in range(4_000):
            calls.leave(Call("GET", "/v1/models", "127.0.0.1", None, request_id=f"{number:016x}{os.urandom(8).hex()}"))
        assert abs(len(put) / 4_000 - ratio) < 0.05
        await telemetry.close()
        assert calls.listeners == ()


async def test_a_trace_decides_for_itself_whatever_the_ratio(tmp_path: Path) -> None:
    def telemetry(upstream: FakeUpstream) -> dict[str, Any]:
        return Collector(upstream).section(sample_ratio=0)

    async with gateway(tmp_path, telemetry) as at:
        await at.post(ask("m"))
        parent = f"00-{'a' * 32}-{'b' * 16}-01"
        own, _ = await Collector(at.upstream).told(await at.post(ask("m"), headers=[("traceparent", parent)]))
        assert (own.trace, own.parent) == ("a" * 32, "b" * 16)
        assert [each.trace for each in Collector(at.upstream).spans()] == ["a" * 32] * 2


async def test_the_collectors_certificate_must_come_from_the_named_authorities(tmp_path: Path) -> None:
    from gateway.observability.otel.sink import Sink

    ours, others = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.issue_cert("127.0.0.1").configure_cert(context)

    async def takes(peer: Peer) -> None:
        while True:
            await peer.answer(b"", b"content-type: application/x-protobuf")

    async with serving(takes, context) as server:
        for authority, fault in ((ours, None), (others, "no answer"), (None, "no answer")):
            authorities = tmp_path / "ca.pem"
            if authority is not None:
                authority.cert_pem.write_to_path(str(authorities))
            settings = TelemetrySettings(
                otlp=Secret(f"https://127.0.0.1:{server.origin.port}"),
                ca_file=None if authority is None else str(authorities),
            )
            sink = Sink(settings, 1.0)
            assert await asyncio.to_thread(sink.export, [spans_of(finished())]) == fault
            sink.interrupt()
