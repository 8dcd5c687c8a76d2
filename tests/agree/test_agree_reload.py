"""gateway.yaml edited while it is served: nobody notices but those whom it concerns, and those within a second."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from agree_kit import Load, chat, gateway, ready, rewrite, settings
from kit import DONE, KEYS, FakeUpstream, GatewayProcess, Wire, ask, events, request_bytes
from kit.answers import answer, delta, upstream_error
from kit.books import until
from kit.stage import Record, endpoint, model

SWAP_SECONDS = 1.0  # §2's bound
EDITS = 100
LEFT_TO_THE_WATCH = 5  # each so manieth edit; the others are hastened by SIGHUP, or the test would take a minute


class Edited(NamedTuple):
    """A running gateway, and the file that it is served from."""

    gateway: GatewayProcess
    directory: Path
    whole: dict[str, Any]

    def write(self, *models: Record, **sections: Any) -> None:
        rewrite(self.directory, self.whole | {"models": list(models)} | sections)

    async def until_served(self, name: str, status: int = 200, seconds: float = SWAP_SECONDS) -> None:
        async def served() -> bool:
            return (await chat(self.gateway, name)).status == status

        await until(served, seconds)


@asynccontextmanager
async def edited(directory: Path, *models: Record) -> AsyncIterator[Edited]:
    whole = settings(list(models))
    async with gateway(directory, whole) as running:
        yield Edited(running, directory, whole)


def is_log_of(event: str, text: str = "") -> Any:
    return lambda line: line["event"] == event and text in json.dumps(line)


async def test_a_hundred_edits_under_load_fail_no_request(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Each is served within a second of being written, found by watching or told by SIGHUP."""
    steady = model("steady", [endpoint(upstream, "steady")])
    async with edited(tmp_path, steady) as at, Load.on([at.gateway], "steady") as load:
        for number in range(EDITS):
            began = time.monotonic()
            at.write(steady | {"aliases": [f"edit-{number}"]})
            if number % LEFT_TO_THE_WATCH:
                at.gateway.signal(signal.SIGHUP)
            await at.until_served(f"edit-{number}")
            assert time.monotonic() - began < SWAP_SECONDS
        assert (await chat(at.gateway, "edit-0")).status == 404, "what was taken out of the file is gone"
        await load.more(10)
        assert set(load.statuses) == {200}
        assert (await ready(at.gateway))["detail"]["reloads"]["failed"] == 0


BROKEN = {
    "not YAML": "models: [\n",
    "an unknown key": "server:\n  prot: 1\n",
    "nothing that text is made of": "\x00",
    "empty of what it must have": "keys: 7\n",
}


async def test_broken_files_change_nothing_and_are_told_with_their_lines(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    """In the log, and in `/readyz`, which says degraded until the file is whole again; under load, one after another.

    Without a key `/readyz` has the status alone: what is wrong with the file is for those who may read usage.
    """
    steady = model("steady", [endpoint(upstream, "steady")])
    async with edited(tmp_path, steady) as at, Load.on([at.gateway], "steady", clients=1) as load:
        for number, text in enumerate(BROKEN.values()):
            loaded_at = (await ready(at.gateway))["detail"]["config"]["loadedAt"]
            at.gateway.logs.clear()
            rewrite(tmp_path, text)
            told = await at.gateway.log(is_log_of("configuration not reloaded: the file has problems"))
            assert told["level"] == "error"
            assert all("gateway.yaml:" in problem for problem in told["problems"])
            report = await ready(at.gateway)
            assert report["status"] == "degraded"
            assert report["detail"]["config"]["problems"] == told["problems"] != []
            assert report["detail"]["config"]["loadedAt"] == loaded_at
            assert await ready(at.gateway, key=KEYS["user"]) == {"status": "degraded"}
            at.write(steady | {"aliases": [f"mended-{number}"]})
            await at.until_served(f"mended-{number}")
            healed = await ready(at.gateway)
            assert (healed["status"], healed["detail"]["config"]["problems"]) == ("ok", [])
        assert healed["detail"]["reloads"] == {"done": len(BROKEN), "failed": len(BROKEN)}
        assert set(load.statuses) == {200}


async def test_a_file_that_is_gone_changes_nothing(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Neither while it is away, nor when SIGHUP asks for it: that is told. Back again, it is served."""
    steady = model("steady", [endpoint(upstream, "steady")])
    async with edited(tmp_path, steady) as at:
        (tmp_path / "gateway.yaml").unlink()
        at.gateway.signal(signal.SIGHUP)
        await at.gateway.log(is_log_of("configuration not reloaded: the file has problems", "cannot be read"))
        assert (await chat(at.gateway, "steady")).status == 200
        at.write(steady | {"aliases": ["back"]})
        await at.until_served("back")
        assert (await ready(at.gateway))["status"] == "ok"
        await at.gateway.log(is_log_of("configuration reloaded"))  # it is served before it is told
        at.gateway.logs.clear()
        at.gateway.signal(signal.SIGHUP)
        told = await at.gateway.log(is_log_of("configuration reloaded"))
        assert told["changes"] == ["nothing of substance"]


async def test_changes_are_told_in_words_and_those_of_the_start_as_such(upstream: FakeUpstream, tmp_path: Path) -> None:
    """The port stays what it was until the next start, and the log says so; a credential is told, not shown."""
    steady = model("steady", [endpoint(upstream, "steady")])
    async with edited(tmp_path, steady) as at:
        changed = endpoint(upstream, "steady", api_key="sk-upstream-secret-the-new-one")
        server = at.whole["server"] | {"port": 9, "max_body_mb": 7}
        at.write(steady | {"endpoints": [changed]}, server=server)
        told = await at.gateway.log(is_log_of("configuration reloaded"))
        assert told["changes"] == [
            "server.port 0 → 9 (takes effect at the next start)",
            "server.max_body_mb 32 → 7",
            "model steady: endpoint steady: api_key changed",
        ]
        assert (await chat(at.gateway, "steady")).status == 200
        authorization = upstream.endpoint("steady").requests[-1].header("authorization")
        assert authorization == "Bearer sk-upstream-secret-the-new-one"
        assert "sk-upstream-secret" not in at.gateway.output()


async def test_a_model_that_moves_to_other_endpoints_cuts_no_stream(upstream: FakeUpstream, tmp_path: Path) -> None:
    """A stream that runs goes on from the endpoint that is no longer in the file; the next request goes to the new."""
    release = asyncio.Event()
    old = upstream.endpoint("moving.old").replies(events(delta("one"), release, delta("two"), DONE))
    moving = model("moving", [endpoint(upstream, "moving.old")])
    async with edited(tmp_path, moving) as at, Wire.open(at.gateway.port) as wire:
        await wire.send(request_bytes("POST", "/v1/chat/completions", ask("moving", stream=True), key=KEYS["user"]))
        await wire.head()
        assert await wire.event() == delta("one")
        at.write(moving | {"endpoints": [endpoint(upstream, "moving.new")], "aliases": ["moved"]})
        await at.until_served("moved")
        assert (len(old.requests), len(upstream.endpoint("moving.new").requests)) == (1, 1)
        release.set()
        assert (await wire.body()).body == delta("two") + DONE
        assert (await chat(at.gateway, "moving")).status == 200
        assert len(old.requests) == 1


async def test_a_cooldown_survives_a_reload(upstream: FakeUpstream, tmp_path: Path) -> None:
    """The endpoint rests on, though its model's record has changed; and so after a reload that changes nothing."""
    resting = upstream.endpoint("resting.a").replies(upstream_error(429, retry_after="60"))
    pair = [endpoint(upstream, "resting.a"), endpoint(upstream, "resting.b", priority=1)]
    async with edited(tmp_path, model("resting", pair)) as at:
        assert (await chat(at.gateway, "resting")).status == 200
        at.write(model("resting", pair, aliases=["rested"]))
        await at.until_served("rested")
        at.gateway.signal(signal.SIGHUP)
        await at.gateway.log(is_log_of("configuration reloaded", "nothing of substance"))
        assert (await chat(at.gateway, "resting")).status == 200
        assert len(resting.requests) == 1


async def test_a_request_keeps_the_configuration_that_it_began_with(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Its body comes after the reload: it is read, named and kept alive as before; the next one as is said now."""
    release = asyncio.Event()
    keeping = upstream.endpoint("keeping")
    record = model("keeping", [endpoint(upstream, "keeping")])
    asked = json.dumps(ask("keeping", stream=True, user="somebody")).encode()
    head = request_bytes("POST", "/v1/chat/completions", asked, key=KEYS["user"], headers=[("expect", "100-continue")])
    async with edited(tmp_path, record) as at, Wire.open(at.gateway.port) as wire:
        at.write(record | {"aliases": ["beating"]}, server=at.whole["server"] | {"stream_heartbeat_seconds": 1})
        await at.until_served("beating")
        await wire.send(head.removesuffix(asked))
        assert (await wire.any_head()).status == 100, "the request has begun"
        renamed = record | {"aliases": ["renamed"], "provider_model": "provider/of-today"}
        at.write(renamed, routing={"refuse_fields": ["user"]})
        await at.until_served("renamed")
        keeping.replies(events(release, delta("one"), DONE))
        await wire.send(asked)
        assert (await wire.head()).status == 200
        assert await wire.event() == b": waiting for the model\n\n"
        release.set()
        assert (await wire.body()).body.endswith(delta("one") + DONE)
        assert keeping.requests[-1].json()["model"] == "provider/keeping"
        await wire.send(request_bytes("POST", "/v1/chat/completions", asked, key=KEYS["user"]))
        assert (await wire.reply()).error()["code"] == "field_not_allowed"
        assert (await chat(at.gateway, "keeping")).status == 200
        assert keeping.requests[-1].json()["model"] == "provider/of-today"


async def test_a_new_price_holds_for_what_comes_and_leaves_what_was(upstream: FakeUpstream, tmp_path: Path) -> None:
    """The receipt of a request from before the reload has its price of then, and its cost; budgets go on from there."""
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000}
    upstream.endpoint("shop").replies(*[answer(200, {"object": "x", "usage": usage})] * 50)

    async def bought(at: Edited) -> str:
        reply = await chat(at.gateway, "shop")
        assert reply.status == 200
        return reply.header("x-request-id") or ""

    async def cost(at: Edited, request_id: str) -> tuple[Any, Any]:
        told = await at.gateway.get(f"/api/ai/usage/requests/{request_id}", key=KEYS["panel"])
        return (told.json()["cost"], told.json()["price"]) if told.status == 200 else (None, None)

    async def until_cost(at: Edited, request_id: str, wanted: tuple[Any, Any]) -> None:
        async def is_so() -> bool:
            return await cost(at, request_id) == wanted

        await until(is_so, 10)

    shop = model("shop", [endpoint(upstream, "shop")])
    async with edited(tmp_path, shop | {"price": {"input": 1.5}}) as at:
        before = await bought(at)
        await until_cost(at, before, (1.5, {"input": 1.5}))
        at.write(shop | {"price": {"input": 7}, "aliases": ["dearer"]})
        await at.until_served("dearer")
        after = await bought(at)
        await until_cost(at, after, (7, {"input": 7}))
        await until_cost(at, before, (1.5, {"input": 1.5}))
