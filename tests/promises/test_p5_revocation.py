"""P5: what is taken away stops working within §9's three bounds, on every worker, embedded as with Redis."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from agree.agree_kit import Panel, call, code_of, rewrite, running_redis, settings
from kit import DEADLINE_SECONDS, KEYS, GatewayProcess, Wire, ask, request_bytes
from kit.books import until
from kit.stage import Record, endpoint, model
from promise_kit import TORTURE, gateway, upstream_with

from gateway.access.authenticate import key_sha256

PUBLISHED_SECONDS, UNPUBLISHED_SECONDS, AWAY_SECONDS = 1.0, 5.0, 600.0
PACE_SECONDS = 0.02
KINDS = ("key", "user", "org", "plan", "marked", "off")
KEYED = ("key", "marked", "off")  # whose key itself stops working


class Asked(NamedTuple):
    began: float
    status: int
    code: str | None


class Holder:
    """Somebody who never stops asking, on a connection that stays with one worker."""

    def __init__(self, name: str, wire: Wire, key: str, model_name: str, refusal: str) -> None:
        self.name = name
        self.refusal = refusal
        self.asked: list[Asked] = []
        self._wire = wire
        self._request = request_bytes("POST", "/v1/chat/completions", ask(model_name), key=key)

    async def ask(self) -> Asked:
        began = time.monotonic()
        await self._wire.send(self._request)
        reply = await self._wire.reply()
        self.asked.append(Asked(began, reply.status, code_of(reply)))
        return self.asked[-1]

    async def ask_until(self, moment: float) -> None:
        """Goes on until a request has begun after this moment."""
        while (await self.ask()).began <= moment:  # noqa: ASYNC110  # it is asking that is repeated, at a pace
            await asyncio.sleep(PACE_SECONDS)

    def assert_refused_after(self, moment: float) -> None:
        late = [each for each in self.asked if each.began > moment]
        assert late, self.name
        assert {each.code for each in late} == {self.refusal}, (self.name, late[:3])
        assert {each.code for each in self.asked} <= {None, self.refusal}, self.name


async def gone_within(holders: Iterable[Holder], revoked: float, seconds: float) -> None:
    """No request of any of them that begins after the bound passes."""
    every = list(holders)
    async with asyncio.TaskGroup() as group:
        for holder in every:
            group.create_task(holder.ask_until(revoked + seconds))
    for holder in every:
        holder.assert_refused_after(revoked + seconds)


async def assert_served(holders: Iterable[Holder]) -> None:
    for holder in holders:
        assert (await holder.ask()).status == 200, (holder.name, holder.asked)


# --- with Redis, two workers


def key_of(kind: str) -> str:
    return f"sk-holder-of-{kind}-0123456789abcdef"


def give(panel: Panel) -> None:
    """To each kind of holder its key, and the grant that it is about to lose."""
    panel.give_key(key_of("key"), "by-key")
    for kind in KINDS[1:]:
        panel.give_key(key_of(kind), f"by-{kind}")
    grant = {"grants": [{"model": "granted"}]}
    panel.write("org", "o", {"name": "o"} | grant)
    panel.write("plan", "p", grant)
    panel.write("user", "by-user", {"tier": "free"} | grant)
    panel.write("user", "by-org", {"tier": "free", "organisations": ["o"]})
    panel.write("user", "by-plan", {"tier": "free", "plans": ["p"]})


def take_away(panel: Panel) -> float:
    panel.revoke_key(key_of("key"))
    marked = {"id": "of-by-marked", "user": "by-marked", "scopes": ["ai:use"], "revoked": True}
    panel.write("key", key_sha256(key_of("marked")), marked)
    panel.write("user", "by-off", {"tier": "free", "enabled": False})
    panel.write("user", "by-user", {"tier": "free", "grants": []})
    panel.write("org", "o", {"name": "o", "grants": []})
    return panel.write("plan", "p", {"grants": []})


async def wires_to_each_worker(at: GatewayProcess, stack: AsyncExitStack, workers: int, count: int) -> list[list[Wire]]:
    """`count` connections to each: opened until the kernel has given every worker as many."""
    found: dict[int, list[Wire]] = {}
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(found) < workers or min(map(len, found.values())) < count:
            wire = await stack.enter_async_context(Wire.open(at.port))
            await wire.send(request_bytes("GET", "/readyz", key=KEYS["reader"]))
            found.setdefault(int((await wire.reply()).json()["detail"]["pid"]), []).append(wire)
    return list(found.values())


@asynccontextmanager
async def holders_on_two_workers(directory: Path, url: str) -> AsyncIterator[list[Holder]]:
    """One of each kind, and one who only needs the feature, on each of two workers."""
    async with upstream_with() as upstream, AsyncExitStack() as stack:
        models = [
            model("open", [endpoint(upstream, "open")]),
            model("granted", [endpoint(upstream, "granted")], **{"global": False}),
        ]
        whole = settings(models, url, server={"workers": 2, "drain_seconds": 0.2})
        at = await stack.enter_async_context(gateway(directory, whole))
        holders = []
        for worker, wires in enumerate(await wires_to_each_worker(at, stack, 2, len(KINDS) + 1)):
            for kind, wire in zip((*KINDS, "feature"), wires, strict=False):
                holders.append(holder_of(kind, wire, f"{kind} on {worker}"))
        yield holders


def holder_of(kind: str, wire: Wire, name: str) -> Holder:
    if kind == "feature":
        return Holder(name, wire, KEYS["user"], "open", "feature_disabled")
    if kind in KEYED:
        return Holder(name, wire, key_of(kind), "open", "invalid_api_key")
    return Holder(name, wire, key_of(kind), "granted", "model_not_accessible")


@pytest.mark.parametrize(
    ("publish", "seconds"), [(True, PUBLISHED_SECONDS), (False, UNPUBLISHED_SECONDS)], ids=["published", "unpublished"]
)
async def test_with_redis_it_is_gone_on_both_workers(tmp_path: Path, publish: bool, seconds: float) -> None:
    """A key, and a user's, an organisation's and a plan's grant, all in use; then the feature, for everybody.

    `marked` is a key whose record says that it is revoked, `off` one of a user who is switched off.
    """
    with running_redis(tmp_path) as server, Panel(server, publish=True) as before:
        give(before)
        async with holders_on_two_workers(tmp_path / "gateway", server.url) as holders:
            await assert_served(holders)
            with Panel(server, publish=publish) as panel:
                of_feature = [each for each in holders if each.refusal == "feature_disabled"]
                await gone_within([each for each in holders if each not in of_feature], take_away(panel), seconds)
                await assert_served(of_feature)
                await gone_within(of_feature, panel.write("feature", "ai", 0), seconds)


@pytest.mark.timeout(AWAY_SECONDS + 120)
async def test_where_redis_cannot_answer_the_last_known_holds_for_a_while(tmp_path: Path) -> None:
    """Longer than records are trusted otherwise, and in the longer form until its ten minutes are over."""
    with running_redis(tmp_path) as server, Panel(server, publish=True) as before:
        give(before)
        async with holders_on_two_workers(tmp_path / "gateway", server.url) as every:
            holders = [each for each in every if each.refusal != "feature_disabled"]
            await assert_served(holders)
            server.tell(signal.SIGSTOP)
            frozen = time.monotonic()
            try:
                async with asyncio.TaskGroup() as group:
                    for holder in holders:
                        group.create_task(holder.ask_until(frozen + UNPUBLISHED_SECONDS + 1))
                assert {each.status for holder in holders for each in holder.asked} == {200}
                if TORTURE:
                    await ten_minutes_are_over(holders, frozen)
            finally:
                server.tell(signal.SIGCONT)


async def ten_minutes_are_over(holders: list[Holder], frozen: float) -> None:
    for holder in holders:
        holder.refusal = "store_unavailable"
        holder.asked.clear()
    await asyncio.sleep(frozen + AWAY_SECONDS - time.monotonic())  # the bound is what is waited for
    async with asyncio.TaskGroup() as group:
        for holder in holders:
            group.create_task(holder.ask_until(frozen + AWAY_SECONDS + UNPUBLISHED_SECONDS))
    for holder in holders:
        holder.assert_refused_after(frozen + AWAY_SECONDS + UNPUBLISHED_SECONDS)


# --- embedded


@asynccontextmanager
async def alone(directory: Path) -> AsyncIterator[tuple[GatewayProcess, Record]]:
    async with upstream_with() as upstream:
        models = [
            model("open", [endpoint(upstream, "open")]),
            model("granted", [endpoint(upstream, "granted")], **{"global": False}),
        ]
        whole = settings(models)
        whole["users"].append({"id": "filed", "grants": [{"model": "granted"}]})
        whole["keys"].append({"id": "filed", "user": "filed", "key": key_of("user")})
        whole["keys"].append({"id": "gone", "user": "filed", "key": key_of("key")})
        async with gateway(directory, whole) as at:
            yield at, whole


async def test_embedded_what_routes_take_away_is_gone(tmp_path: Path) -> None:
    """A key, a link and the feature, within the bound of published changes."""
    async with alone(tmp_path) as (at, _), AsyncExitStack() as stack:
        made = (await call(at, "POST", "/api/admin/keys", {"user": "guest", "id": "guest"})).json()["key"]
        linked = (await call(at, "POST", "/api/admin/keys", {"user": "other", "id": "other"})).json()["key"]
        link = await call(at, "POST", "/api/admin/ai/models/id-granted/link-user", {"userId": "other"})
        assert link.status == 201, link
        wires = [await stack.enter_async_context(Wire.open(at.port)) for _ in range(3)]
        with_key = Holder("key", wires[0], made, "open", "invalid_api_key")
        with_link = Holder("link", wires[1], linked, "granted", "model_not_accessible")
        with_feature = Holder("feature", wires[2], KEYS["user"], "open", "feature_disabled")
        await assert_served([with_key, with_link, with_feature])
        await call(at, "DELETE", "/api/admin/keys/guest")
        await call(at, "DELETE", "/api/admin/ai/models/id-granted/unlink-user/other")
        await gone_within([with_key, with_link], time.monotonic(), PUBLISHED_SECONDS)
        await assert_served([with_feature])
        await call(at, "PUT", "/api/admin/features/ai", {"enabled": False})
        await gone_within([with_feature], time.monotonic(), PUBLISHED_SECONDS)


async def test_what_the_file_does_not_say_any_more_is_gone(tmp_path: Path) -> None:
    """A key and a grant taken out of gateway.yaml: one second, without a signal; other keys notice nothing."""
    async with alone(tmp_path) as (at, whole), AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(Wire.open(at.port)) for _ in range(3)]
        with_key = Holder("key", wires[0], key_of("key"), "open", "invalid_api_key")
        with_grant = Holder("grant", wires[1], key_of("user"), "granted", "model_not_accessible")
        bystander = Holder("bystander", wires[2], KEYS["user"], "open", "")
        await assert_served([with_key, with_grant, bystander])
        whole["keys"] = [key for key in whole["keys"] if key["id"] != "gone"]
        whole["users"] = [user for user in whole["users"] if user["id"] != "filed"] + [{"id": "filed"}]
        rewrite(tmp_path, whole)
        await gone_within([with_key, with_grant], time.monotonic(), PUBLISHED_SECONDS)

        async def still_served() -> bool:
            return (await bystander.ask()).status == 200

        await until(still_served)
