"""Requests on a WebSocket are spans like any other, relayed or bridged."""

from __future__ import annotations

from pathlib import Path

from kit import FakeUpstream, answer
from kit.books import until
from telemetry.otel_kit import SERVER, Collector, Seen
from websocket_kit import Stand

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


async def test_each_response_is_a_span_with_its_attempt(tmp_path: Path) -> None:
    upstream = await FakeUpstream.start(answer(200, b""))
    try:
        collector = Collector(upstream)
        async with Stand.open(tmp_path, telemetry=collector.section()) as stand:
            async with stand.client(headers={"traceparent": PARENT}) as client:
                for _ in range(2):
                    await client.create()
                    await client.end()
            relayed = await spans(collector, 2, "chat ws")
            async with stand.client() as client:
                await client.create("plain")
                await client.end()
            (bridged,) = await spans(collector, 1, "chat plain")
    finally:
        await upstream.close()
    for each in (*relayed, bridged):
        assert (each.kind, each.attributes["http.route"]) == (SERVER, "/v1/responses")
        assert (each.attributes["http.response.status_code"], each.attributes["gateway.outcome"]) == (200, "ok")
        attempts = [one for one in collector.spans() if one.parent == each.id]
        assert [one.attributes["server.address"] for one in attempts] == ["ws" if each in relayed else "plain"]
        assert all(each.began <= one.began <= one.ended <= each.ended for one in attempts)
        assert each.attributes["gen_ai.usage.input_tokens"] > 0
    assert {(each.trace, each.parent) for each in relayed} == {("a" * 32, "b" * 16)}
    assert bridged.parent == ""


async def spans(collector: Collector, count: int, name: str) -> list[Seen]:
    """Waits until so many spans of this name are there."""

    async def all_there() -> bool:
        return sum(each.name == name for each in collector.spans()) >= count

    await until(all_there)
    return [each for each in collector.spans() if each.name == name]
