"""What begins and ends is told of once each; receivers that are slow hold nothing up; the command line tries them."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from alerts_kit import OTHER_SECRET, SECRET, Hook, placed, shares, using
from kit import KEYS, Wire, answer, ask, request_bytes
from kit.answers import upstream_error


async def test_a_refused_credential_begins_and_ends_with_the_next_good_answer(tmp_path: Path) -> None:
    """Also where the gateway was started anew in between. No credential is in it."""
    async with placed(tmp_path) as place:
        place.alerts = [place.hook.entry(events=["credentials"])]
        place.model.replies(upstream_error(401))
        async with place.gateway() as gateway:
            await asked(gateway.port, until=502)
            (refused,) = await place.hook.sent(1)
        async with place.gateway() as gateway:
            place.model.always(using(1))
            await asked(gateway.port, until=200)
            _, accepted = await place.hook.sent(2)
    about = {"model": "id-m", "name": "m", "endpoint": "up"}
    assert (refused["type"], refused["data"]) == ("credential.refused", about)
    assert (accepted["type"], accepted["data"].pop("since")) == ("credential.accepted", refused["timestamp"])
    assert accepted["data"] == about
    assert not any(b"sk-upstream" in each.body for each in place.hook.requests)


async def test_a_cooldown_begins_and_ends_once_an_hour(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        place.alerts = [place.hook.entry()]
        place.model.always(upstream_error(429, retry_after="1"))
        async with place.gateway() as gateway:
            await asked(gateway.port, until=429)
            began, ended = await place.hook.sent(2)
            place.model.always(using(501))
            place.model.replies(upstream_error(429, retry_after="0.01"))
            await asked(gateway.port)
            await asked(gateway.port, until=200)
            events = await place.hook.sent(3)
    assert [each["type"] for each in events] == ["pool.cooling", "pool.recovered", "limit.threshold"]
    assert began["data"]["cause"] == "rate_limited"
    assert ended["data"]["since"] == began["timestamp"]


async def test_a_ledger_that_is_away_is_told_of_and_its_return(tmp_path: Path) -> None:
    async with placed(tmp_path, usage={"url": f"sqlite:///{tmp_path}/db/usage.db"}) as place:
        place.alerts = [place.hook.entry(events=["ledger"])]
        blocked = tmp_path / "db"
        blocked.write_text("no directory")
        async with place.gateway():
            (away,) = await place.hook.sent(1)
            blocked.unlink()
            blocked.mkdir()
            _, back = await place.hook.sent(2)
    assert (away["type"], away["data"]) == ("ledger.away", {})
    assert (back["type"], back["data"]) == ("ledger.back", {"since": away["timestamp"]})


async def test_a_receiver_that_does_not_answer_holds_up_neither_requests_nor_the_others(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        slow = Hook(place.upstream, "slow")
        release = asyncio.Event()

        async def wait(_: object) -> None:
            await release.wait()

        slow.always(wait)
        place.alerts.append(slow.entry())
        async with place.gateway() as gateway:
            await place.use(gateway, 600)
            await slow.endpoint.request(1)
            began = time.monotonic()
            await place.use(gateway, 250)
            assert shares(await place.hook.sent(2)) == [50, 80]
            assert time.monotonic() - began < 9
            metrics = (await gateway.get("/metrics", key=KEYS["reader"])).body.decode()
            assert "gateway_alerts_sent_total 2" in metrics
        release.set()


async def test_the_command_line_sends_a_test_event_to_each(tmp_path: Path) -> None:
    """It prints what came back, and neither a path nor a secret."""
    async with placed(tmp_path) as place:
        broken = Hook(place.upstream, "token-in-path", OTHER_SECRET)
        broken.always(answer(503, b""))
        place.alerts = [place.hook.entry()]
        assert await tried(place.settings(), tmp_path) == (0, "ok    alerts[0]")
        place.alerts.append(broken.entry())
        code, printed = await tried(place.settings(), tmp_path)
        assert (code, printed) == (1, "ok    alerts[0]\nFAIL  alerts[1]")
        first, second = place.hook.events()
        assert (first["type"], first["data"]) == ("test", {})
        assert first["id"] != second["id"]


async def asked(port: int, until: int = 0) -> None:
    """Asks the model, again until the answer has this status: a cooldown must be over first, a total be known."""
    async with asyncio.timeout(60):
        while True:
            async with Wire.open(port) as wire:
                body = ask("m", max_tokens=1)
                await wire.send(request_bytes("POST", "/v1/chat/completions", body, key=KEYS["user"]))
                reply = await wire.reply()
            if not until or reply.status == until:
                return


async def tried(settings: dict[str, object], directory: Path) -> tuple[int | None, str]:
    """`gateway alerts test`: its exit code, and the beginnings of its lines."""
    file = directory / "gateway.yaml"
    file.write_text(json.dumps(settings))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "alerts", "test", "-c", str(file)), stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    text = out.decode() + err.decode()
    assert "token-in-path" not in text
    assert SECRET not in text
    return process.returncode, "\n".join(line.partition(",")[0] for line in out.decode().splitlines())
