"""Contract §16: where endpoints are full or cool for a while, requests wait instead of being refused."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from kit import (
    DEADLINE_SECONDS,
    DONE,
    KEYS,
    FakeUpstream,
    Stage,
    Wire,
    assert_error,
    config,
    events,
    raw,
    request_bytes,
)
from kit.answers import answer, delta, full, upstream_error
from kit.books import acting_for, fresh_user, rows, until
from kit.stage import FreshModel, Record, endpoint, model

MOST = 6
FIRST, LAST = "sk-first-0123456789abcdefghijkl", "sk-last-0123456789abcdefghijklm"
ADMIN = "sk-admin-0123456789abcdefghijkl"
BEAT_SECONDS = 0.3
BUSY = b'{"object":"held"}'
SPARE = 30


def hashed(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def keys() -> list[Record]:
    """The kit's, and two whose requests go first and last."""
    first = {"id": "first", "user": "anyone", "hash": hashed(FIRST), "priority": 10}
    last = {"id": "last", "user": "rich", "hash": hashed(LAST), "priority": -1}
    admin = {"id": "admin", "user": "root", "key": ADMIN, "scopes": ["ai:manage"]}
    return [*config([])["keys"], first, last, admin]


USERS: list[Record] = [{"id": 42, "tier": "paid"}, {"id": "rich", "tier": "enterprise"}]


def models(upstream: FakeUpstream) -> Iterator[Record]:
    """Each with one endpoint that takes one request at a time."""
    for number in range(SPARE):
        name = f"single-{number}"
        yield model(name, [endpoint(upstream, f"{name}.a", max_in_flight=1)])
    yield model("open", [endpoint(upstream, "open.a")])
    yield model("counted", [endpoint(upstream, "counted.a", max_in_flight=1)], limits={"concurrency": 2})
    yield model("brief", [endpoint(upstream, "brief.a", max_in_flight=1, timeouts={"total": 1.0})])
    yield model("proud", [endpoint(upstream, "proud.a", max_in_flight=1)], fallbacks=["humble"])
    yield model("humble", [endpoint(upstream, "humble.a", max_in_flight=1)])
    claude = endpoint(upstream, "claude.a", max_in_flight=1, protocols=["anthropic"])
    yield model("claude", [claude])


def stage_with(directory: Path, *, wait: float = 20, **more: Any) -> Any:
    sections: dict[str, Any] = {
        "queue": {"max": MOST, "wait": wait},
        "keys": keys(),
        "users": USERS,
        "server": {"stream_heartbeat_seconds": BEAT_SECONDS, "drain_seconds": 10},
    }
    return Stage.open(directory, models, **(sections | more))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def queued(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with stage_with(tmp_path_factory.mktemp("queue")) as stage:
        yield stage


def named(stage: Stage, name: str) -> FreshModel:
    return FreshModel(name, [stage.upstream.endpoint(f"{name}.a")])


async def waiting(stage: Stage, count: int) -> None:
    """Until so many wait, as `/readyz` tells operators."""

    async def is_so() -> bool:
        ready = (await stage.get("/readyz", key=KEYS["reader"])).json()
        return bool(ready["detail"]["queue"] == {"waiting": count, "max": MOST})

    await until(is_so)


class Crowd:
    """Requests that are asked one after the other, each once the one before waits."""

    def __init__(self, stage: Stage, held: AsyncExitStack) -> None:
        self._stage = stage
        self._held = held
        self.count = 0

    async def ask(
        self, body: Record, *, key: str = KEYS["panel"], user: str | None = None, target: str = "/v1/chat/completions"
    ) -> Wire:
        """Send it, and return when it waits."""
        wire = await self.send(body, key=key, user=user, target=target)
        self.count += 1
        await waiting(self._stage, self.count)
        return wire

    async def send(
        self, body: Record, *, key: str = KEYS["panel"], user: str | None = None, target: str = "/v1/chat/completions"
    ) -> Wire:
        wire = await self._held.enter_async_context(Wire.open(self._stage.port))
        headers = acting_for(user) if user is not None else []
        await wire.send(request_bytes("POST", target, body, key=key, headers=headers))
        return wire


class Held:
    """A model whose one slot is taken until `release` is set."""

    def __init__(self, model: FreshModel, crowd: Crowd, release: asyncio.Event, first: Wire) -> None:
        self.model = model
        self.crowd = crowd
        self.release = release
        self.first = first

    def tags(self) -> list[Any]:
        """Who came to the upstream after the first, in order."""
        return [request.json().get("user") for request in self.model.a.requests[1:]]


@asynccontextmanager
async def holding(stage: Stage, model: FreshModel) -> AsyncIterator[Held]:
    release = asyncio.Event()
    model.a.replies(raw(release, full(200, BUSY)))
    async with AsyncExitStack() as stack:
        crowd = Crowd(stage, stack)
        first = await crowd.send(model.chat(), key=KEYS["user"])
        await model.a.request()
        yield Held(model, crowd, release, first)


# -- order


async def test_what_waits_is_served_by_priority_then_by_tier(queued: Stage) -> None:
    """A key's `priority` first, higher before lower; without one the tier's place counts; else as they came."""
    async with holding(queued, queued.model()) as held:
        ask, chat = held.crowd.ask, held.model.chat
        wires = [
            await ask(chat(user="poor"), user="poor"),
            await ask(chat(user="last"), key=LAST),
            await ask(chat(user="paid"), user="42"),
            await ask(chat(user="poorer"), user="poorer"),
            await ask(chat(user="rich"), user="rich"),
            await ask(chat(user="first"), key=FIRST),
        ]
        held.release.set()
        assert [(await wire.reply()).status for wire in wires] == [200] * 6
        assert (await held.first.reply()).body == BUSY
        assert held.tags() == ["first", "rich", "paid", "poor", "poorer", "last"]
    await waiting(queued, 0)


async def test_a_user_who_floods_waits_behind_one_with_few(queued: Stage) -> None:
    """Users take turns, and one holds at most half of the queue: what is beyond is refused as without a queue."""
    async with holding(queued, queued.model()) as held:
        ask, chat = held.crowd.ask, held.model.chat
        wires = [await ask(chat(user=f"many-{n}"), user="many") for n in range(MOST // 2)]
        beyond = await held.crowd.send(chat(user="beyond"), user="many")
        assert_error(await beyond.reply(), 503, "overloaded")
        wires.append(await ask(chat(user="few"), user="few"))
        held.release.set()
        assert [(await wire.reply()).status for wire in wires] == [200] * 4
        assert held.tags() == ["many-0", "few", "many-1", "many-2"]


async def test_explain_says_that_a_request_would_wait(queued: Stage) -> None:
    async with holding(queued, queued.model()) as held:
        target = f"/api/admin/explain?user=42&model={held.model.name}"
        verdict = (await queued.get(target, key=ADMIN)).json()["verdict"]
        assert verdict["served"] is True
        assert "it waits in the queue" in verdict["why"]
        held.release.set()
        assert (await held.first.reply()).status == 200
        verdict = (await queued.get(target, key=ADMIN)).json()["verdict"]
        assert verdict["served"] is True
        assert "queue" not in verdict["why"]


async def test_a_full_queue_refuses_as_if_there_were_none(queued: Stage) -> None:
    async with holding(queued, queued.model()) as held:
        wires = [await held.crowd.ask(held.model.chat(), user=f"u{n}") for n in range(MOST)]
        user = fresh_user()
        refused = await held.crowd.send(held.model.chat(), user=user)
        reply = await refused.reply()
        assert_error(reply, 503, "overloaded")
        assert reply.header("retry-after") == "1"
        [row] = await rows(queued.gateway, user, 1)
        assert (row["outcome"], row["attempts"]) == ("upstream_error", "0")
        held.release.set()
        assert [(await wire.reply()).status for wire in wires] == [200] * MOST
    metrics = (await queued.get("/metrics", key=KEYS["reader"])).body.decode()
    assert f'gateway_queue_refused_total{{model="{held.model.name}",reason="full"}} 1.0' in metrics
    assert f'gateway_queue_wait_seconds_count{{model="{held.model.name}"}} {MOST}' in metrics.replace(".0\n", "\n")
    assert "gateway_queue_limit 6" in metrics


# -- leaving and limits


async def test_who_leaves_is_out_at_once(queued: Stage) -> None:
    """Its place, its reservation and its row: nothing of it is left, and the upstream never saw it."""
    counted = named(queued, "counted")
    user = fresh_user()
    async with holding(queued, counted) as held:
        wire = await held.crowd.ask(counted.chat(user="leaves"), user=user)
        wire.writer.close()
        await waiting(queued, 0)
        held.crowd.count = 0
        line = await queued.gateway.log(lambda each: each.get("status") == 499 and each.get("user") == user)
        assert line["queued_ms"] > 0
        again = await held.crowd.ask(counted.chat(user="stays"), user=user)
        held.release.set()
        assert (await again.reply()).status == 200
        assert held.tags() == ["stays"]
    [row] = await rows(queued.gateway, user, 1)
    assert row["outcome"] == "ok"


async def test_who_waits_holds_its_limits(queued: Stage) -> None:
    """`concurrency: 2`: one that is served and one that waits are two."""
    counted = named(queued, "counted")
    user = fresh_user()
    release = asyncio.Event()
    counted.a.replies(raw(release, full(200, BUSY)))
    async with AsyncExitStack() as stack:
        crowd = Crowd(queued, stack)
        served = await crowd.send(counted.chat(), user=user)
        await until(lambda: asyncio.sleep(0, any(each.is_open for each in counted.a.requests)))
        waits = await crowd.ask(counted.chat(), user=user)
        third = await crowd.send(counted.chat(), user=user)
        assert_error(await third.reply(), 429, "rate_limit_exceeded", "rate_limit_error")
        release.set()
        assert [(await each.reply()).status for each in (served, waits)] == [200, 200]


# -- cooldowns and fallbacks


async def test_a_cooldown_that_ends_in_time_is_waited_for(queued: Stage) -> None:
    """The endpoint said 429: the next request waits until it may be asked again, and every waiting one with it."""
    open_model = named(queued, "open")
    open_model.a.replies(upstream_error(429, retry_after_ms="700"))
    assert (await queued.post(open_model.chat())).status == 429
    replies = await asyncio.gather(*(queued.post(open_model.chat(user=f"{n}")) for n in range(3)))
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert [reply.header("x-gateway-attempts") for reply in replies] == ["1"] * 3
    assert open_model.asked() == [4]


async def test_a_longer_cooldown_is_not_waited_for(queued: Stage) -> None:
    single = queued.model()
    single.a.replies(upstream_error(429, retry_after="60"))
    assert (await queued.post(single.chat())).status == 429
    assert_error(await queued.post(single.chat()), 429, "upstream_rate_limited", "rate_limit_error")


async def test_a_cooldown_that_grows_too_long_ends_the_wait(queued: Stage) -> None:
    """What has waited for a slot is refused once its endpoint cools for longer than it may wait."""
    single, release = queued.model(), asyncio.Event()
    single.a.replies(raw(release, full(429, b"{}", [("retry-after", "90")])))
    async with AsyncExitStack() as stack:
        crowd = Crowd(queued, stack)
        first = await crowd.send(single.chat())
        await single.a.request()
        second = await crowd.ask(single.chat())
        release.set()
        for wire in (first, second):
            assert_error(await wire.reply(), 429, "upstream_rate_limited", "rate_limit_error")
    assert single.asked() == [1]


async def test_a_fallback_that_is_free_is_not_kept_waiting(queued: Stage) -> None:
    """Its own model's pool is full: the fallback's answers; once both are, whichever is free first."""
    proud, humble = named(queued, "proud"), named(queued, "humble")
    async with holding(queued, proud) as own:
        reply = await queued.post(proud.chat())
        assert (reply.status, reply.header("x-gateway-model")) == (200, "humble")
        async with holding(queued, humble) as other:
            waits = await own.crowd.ask(proud.chat(user="waits"))
            other.release.set()
            reply = await waits.reply()
            assert (reply.status, reply.header("x-gateway-model")) == (200, "humble")
        own.release.set()
        assert (await own.first.reply()).status == 200


# -- streams


async def test_a_stream_that_waits_gets_heartbeats_then_its_events(queued: Stage) -> None:
    async with holding(queued, queued.model()) as held:
        held.model.a.replies(events(delta("one"), DONE))
        wire = await held.crowd.ask(held.model.chat(stream=True))
        head = await wire.head()
        assert (head.status, head.header("content-type")) == (200, "text/event-stream")
        own_milliseconds = float((head.header("server-timing") or "").removeprefix("gateway;dur="))
        assert own_milliseconds < BEAT_SECONDS * 1000, "the wait is the upstream's time"
        assert (await wire.event()).startswith(b":")
        assert (await wire.event()).startswith(b":")
        held.release.set()
        found = await wire.event()
        while found.startswith(b":"):
            found = await wire.event()
        assert found == delta("one")
        assert (await wire.body()).body == DONE


async def test_a_whole_answer_is_just_waited_for(queued: Stage) -> None:
    """Not a byte comes before it, however long it takes."""
    async with holding(queued, queued.model()) as held:
        wire = await held.crowd.ask(held.model.chat())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3 * BEAT_SECONDS):
                await wire.reader.read(1)
        held.release.set()
        assert (await wire.reply()).status == 200


async def test_total_begins_when_the_wait_is_over(queued: Stage) -> None:
    """`total` is 1 s: a request that has waited for longer has all of it."""
    brief = named(queued, "brief")
    slow = asyncio.Event()
    async with holding(queued, brief) as held:
        brief.a.replies(raw(slow, answer_bytes()))
        wire = await held.crowd.ask(brief.chat())
        await asyncio.sleep(0.7)
        held.release.set()
        await brief.a.request(2)
        await asyncio.sleep(0.6)  # 1.3 s after it came
        slow.set()
        assert (await wire.reply()).status == 200


def answer_bytes() -> bytes:
    return full(200, b'{"object":"late"}')


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
async def test_a_wait_that_is_over_is_refused_as_without_a_queue(tmp_path: Path, is_stream: bool) -> None:
    async with stage_with(tmp_path, wait=1) as stage, holding(stage, stage.model()) as held:
        wire = await held.crowd.ask(held.model.chat(stream=is_stream))
        if is_stream:
            await wire.head()
            body = (await wire.body()).body
            last = body.rstrip().rpartition(b"data: ")[2]
            assert json.loads(last)["error"]["code"] == "overloaded"
        else:
            assert_error(await wire.reply(), 503, "overloaded")
        held.release.set()
        metrics = (await stage.get("/metrics", key=KEYS["reader"])).body.decode()
        assert f'gateway_queue_refused_total{{model="{held.model.name}",reason="in_vain"}} 1.0' in metrics


# -- other routes


async def test_messages_and_the_panels_chat_wait_as_well(queued: Stage) -> None:
    claude = named(queued, "claude")
    message = {"id": "m", "type": "message", "role": "assistant", "content": [], "usage": {"input_tokens": 1}}
    release = asyncio.Event()
    claude.a.replies(raw(release, full(200, message)), answer(200, message))
    body = {"model": "claude", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    async with AsyncExitStack() as stack:
        crowd = Crowd(queued, stack)
        first = await crowd.send(body, target="/v1/messages")
        await claude.a.request()
        second = await crowd.ask(body, target="/v1/messages")
        release.set()
        assert [(await wire.reply()).status for wire in (first, second)] == [200, 200]
    async with holding(queued, queued.model()) as held:
        chat = {"message": "Hi", "modelId": f"id-{held.model.name}"}
        wire = await held.crowd.ask(chat, target="/api/ai/chat")
        held.release.set()
        assert (await wire.reply()).json()["reply"] == "Hello from the fake upstream"


async def test_a_response_over_a_bridged_socket_waits_as_well(queued: Stage) -> None:
    """And one whose client closes the socket while it waits is out."""
    headers = {"authorization": f"Bearer {KEYS['panel']}"}
    async with aiohttp.ClientSession(headers=headers) as session, holding(queued, queued.model()) as held:
        create = {"type": "response.create", "model": held.model.name, "input": "Hi"}
        sockets = [await session.ws_connect(f"{queued.url}/v1/responses") for _ in range(2)]
        for number, socket in enumerate(sockets, start=1):
            await socket.send_json(create | {"user": f"s{number}"})
            await waiting(queued, number)
        await sockets[0].close()
        await waiting(queued, 1)
        held.release.set()
        kinds = []
        async with asyncio.timeout(DEADLINE_SECONDS):
            while "response.completed" not in kinds:
                kinds.append((await sockets[1].receive_json())["type"])
        assert "error" not in kinds
        assert held.tags() == ["s2"]
        await sockets[1].close()


# -- drain


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
async def test_a_drain_refuses_what_waits_as_what_is_new(tmp_path: Path, is_stream: bool) -> None:
    """The one that is served ends well; the one that waits is sent to another gateway."""
    async with stage_with(tmp_path, may_end=True) as stage, holding(stage, stage.model()) as held:
        user = fresh_user()
        wire = await held.crowd.ask(held.model.chat(stream=is_stream), user=user)
        if is_stream:
            await wire.head()
            await wire.event()
        stage.gateway.signal(signal.SIGTERM)
        if is_stream:
            body = (await wire.body()).body
            assert json.loads(body.rstrip().rpartition(b"data: ")[2])["error"]["code"] == "shutting_down"
        else:
            reply = await wire.reply()
            assert_error(reply, 503, "shutting_down")
            assert (reply.header("connection"), reply.header("retry-after")) == ("close", "1")
        held.release.set()
        assert (await held.first.reply()).body == BUSY
        assert await stage.gateway.wait() == 0, stage.gateway.output()
        assert held.model.asked() == [1]


# -- what changes meanwhile


def rewritten(directory: Path, change: Any) -> None:
    file = directory / "gateway.yaml"
    settings = json.loads(file.read_text())
    change(settings)
    file.write_text(json.dumps(settings))


async def test_a_reload_that_gives_more_room_serves_what_waits(tmp_path: Path) -> None:
    async with stage_with(tmp_path) as stage, holding(stage, stage.model()) as held:
        wire = await held.crowd.ask(held.model.chat())

        def widen(settings: Record) -> None:
            settings["models"][0]["endpoints"][0]["max_in_flight"] = 2

        rewritten(tmp_path, widen)
        assert (await wire.reply()).status == 200
        held.release.set()
        assert (await held.first.reply()).body == BUSY


async def test_what_waits_for_a_model_that_goes_or_by_a_key_that_is_revoked_is_refused(tmp_path: Path) -> None:
    async with (
        stage_with(tmp_path) as stage,
        holding(stage, stage.model()) as held,
        holding(stage, stage.model()) as other,
    ):
        orphan = await held.crowd.ask(held.model.chat())
        other.crowd.count = 1
        revoked = await other.crowd.ask(other.model.chat(), key=FIRST)

        def take_away(settings: Record) -> None:
            del settings["models"][0]
            settings["keys"] = [key for key in settings["keys"] if key["id"] != "first"]

        rewritten(tmp_path, take_away)
        assert_error(await orphan.reply(), 404, "model_not_found", param="model")
        assert_error(await revoked.reply(), 401, "invalid_api_key")
        for each in (held, other):
            each.release.set()
            assert (await each.first.reply()).body == BUSY
