"""Clients that keep their connection repeat their heads; bodies differ, and come in pieces as the network cuts them."""

from __future__ import annotations

from kit import KEYS, Reply, Stage, Wire, assert_error, request_bytes
from kit.stage import FreshModel

CHAT = "/v1/chat/completions"


def said(model: FreshModel, text: str, *, key: str = KEYS["user"], path: str = CHAT) -> bytes:
    return request_bytes("POST", path, model.chat(messages=[{"role": "user", "content": text}]), key=key)


async def has_read(other: Wire) -> None:
    """The gateway has read what was sent before this: it has answered a request that came later."""
    await other.send(request_bytes("GET", "/healthz"))
    assert (await other.reply()).status == 200


async def assert_relayed(model: FreshModel, number: int, text: str, reply: Reply) -> None:
    assert reply.status == 200
    received = (await model.a.request(number)).json()
    assert received["messages"] == [{"role": "user", "content": text}]
    assert received["model"] == model.provider_name


async def test_bodies_of_all_lengths_under_one_head(stage: Stage) -> None:
    model = stage.model()
    async with Wire.open(stage.port) as wire:
        for number, length in enumerate((1, 2, 2, 30, 900, 9_000, 90_000, 300_000, 2, 1), start=1):
            text = "w" * length
            await wire.send(said(model, text))
            await assert_relayed(model, number, text, await wire.reply())


async def test_a_repeated_request_may_be_cut_anywhere(stage: Stage) -> None:
    model = stage.model()
    request = said(model, "cut me")
    async with Wire.open(stage.port) as wire, Wire.open(stage.port) as other:
        for number, cut in enumerate(range(0, len(request), 3), start=1):
            await wire.send(request[:cut])
            await has_read(other)
            await wire.send(request[cut:])
            await assert_relayed(model, number, "cut me", await wire.reply())


async def test_what_follows_a_body_that_came_in_pieces_is_the_next_request(stage: Stage) -> None:
    model = stage.model()
    request = said(model, "first")
    async with Wire.open(stage.port) as wire, Wire.open(stage.port) as other:
        await wire.send(request)
        await assert_relayed(model, 1, "first", await wire.reply())
        await wire.send(request[:-20])
        await has_read(other)
        await wire.send(request[-20:] + said(model, "second") + said(model, "third")[:-1])
        await assert_relayed(model, 2, "first", await wire.reply())
        await assert_relayed(model, 3, "second", await wire.reply())
        await wire.send(said(model, "third")[-1:] + said(model, "fourth"))
        await assert_relayed(model, 4, "third", await wire.reply())
        await assert_relayed(model, 5, "fourth", await wire.reply())


async def test_the_next_head_may_show_another_key(stage: Stage) -> None:
    model = stage.model()
    async with Wire.open(stage.port) as wire:
        for key, status in ((KEYS["user"], 200), ("sk-of-nobody-0123456789abcdef", 401), (KEYS["user"], 200)):
            await wire.send(said(model, "who", key=key))
            assert (await wire.reply()).status == status


async def test_a_request_that_is_refused_before_its_body_is_read_leaves_the_next_alone(stage: Stage) -> None:
    model = stage.model()
    nowhere = said(model, "lost", path="/v1/nothing-here")
    async with Wire.open(stage.port) as wire, Wire.open(stage.port) as other:
        for _ in range(3):
            await wire.send(nowhere[:-10])
            assert_error(await wire.reply(), 404, "not_found")
            await has_read(other)
            await wire.send(nowhere[-10:])
        await wire.send(said(model, "found"))
        await assert_relayed(model, 1, "found", await wire.reply())


async def test_the_rest_of_a_body_that_does_not_come(strict: Stage) -> None:
    model = strict.model()
    request = said(model, "slow")
    async with Wire.open(strict.port) as wire:
        await wire.send(request)
        await assert_relayed(model, 1, "slow", await wire.reply())
        await wire.send(request[:-1])
        assert_error(await wire.reply(), 408, "request_timeout")
        assert await wire.ended() == b""


async def test_a_fin_in_the_midst_of_a_body(stage: Stage) -> None:
    model = stage.model()
    request = said(model, "short")
    async with Wire.open(stage.port) as wire:
        await wire.send(request)
        await assert_relayed(model, 1, "short", await wire.reply())
        await wire.send(request[:-1])
        wire.half_close()
        assert_error(await wire.reply(), 400, "invalid_http")
        assert await wire.ended() == b""


async def test_a_body_that_is_too_large(strict: Stage) -> None:
    model = strict.model()
    async with Wire.open(strict.port) as wire:
        await wire.send(said(model, "small"))
        await assert_relayed(model, 1, "small", await wire.reply())
        await wire.send(said(model, "l" * (1 << 20)))
        assert_error(await wire.reply(), 413, "request_too_large")


async def test_requests_whose_heads_differ_each_have_what_their_own_says(stage: Stage) -> None:
    """What a proxy in front adds to requests of many clients on one connection: ids, traces, conversations, keys."""
    model = stage.model()
    keys = (KEYS["user"], KEYS["user"], "sk-of-nobody-0123456789abcdef", KEYS["panel"], KEYS["user"])
    served = 0
    async with Wire.open(stage.port) as wire:
        for number, key in enumerate(keys, start=1):
            trace = f"00-{number:032x}-{number:016x}-01"
            headers = [
                ("x-request-id", f"own-{number}"),
                ("traceparent", trace),
                ("x-session-id", f"talk-{number}"),
                ("accept", f"application/json;q=0.{number}"),
                ("x-unheard-of", f"{number}"),
            ]
            await wire.send(request_bytes("POST", CHAT, model.chat(), key=key, headers=headers))
            reply = await wire.reply()
            line = await stage.gateway.log(lambda line, own=f"own-{number}": line.get("client_request_id") == own)  # type: ignore[misc]
            assert line["trace_id"] == f"{number:032x}"
            if key == "sk-of-nobody-0123456789abcdef":
                assert_error(reply, 401, "invalid_api_key")
                continue
            served += 1
            assert reply.status == 200
            sent = await model.a.request(served)
            assert (sent.header("traceparent"), sent.header("accept")) == (trace, f"application/json;q=0.{number}")
            assert sent.header("x-unheard-of") is None
