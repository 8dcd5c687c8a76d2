"""The keys of issuers at URLs: when they are fetched, how long they are held, what a server that is away costs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
import trustme
from kit.books import until
from kit.issuer import AUDIENCE, ISSUER, JwksServer, jwk, jwks, token
from structlog.testing import capture_logs

from gateway.access.authenticate import key_sha256
from gateway.access.tokens import KeySets, Tokens, key_sets
from gateway.assembly import fetcher
from gateway.config.settings import JwtSettings
from gateway.errors import InvalidKey, StoreUnavailable
from gateway.http.client import Transport
from gateway.store.passes import EmbeddedPasses, Passes

DAY = 86_400.0


async def yielded(value: bool) -> bool:
    return value


class Clock:
    """The time of day, moved by hand from the real one."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def epoch(self) -> float:
        return datetime.now(UTC).timestamp() + self.ahead


class Worker:
    """What one process has of an issuer."""

    def __init__(self, sets: KeySets, tokens: Tokens) -> None:
        self.sets = sets
        self._tokens = tokens

    async def outcome(self, text: str) -> str:
        try:
            key = await self._tokens.key(text, key_sha256(text))
        except (InvalidKey, StoreUnavailable) as refusal:
            return refusal.code
        return "none of ours" if key is None else "good"


def at(server: JwksServer, **changes: Any) -> JwtSettings:
    return JwtSettings(
        issuer=ISSUER,
        audience=frozenset((AUDIENCE,)),
        jwks_url=changes.get("jwks_url", server.url),
        jwks=None,
        ca_file=changes.get("ca_file", ""),
        user="sub",
        user_prefix="id:",
        organisations=None,
        organisations_max=frozenset(),
        scopes=None,
        scopes_max=frozenset(("ai:use",)),
        max_age=3600.0,
    )


@asynccontextmanager
async def worker(settings: JwtSettings, passes: Passes, clock: Clock | None = None) -> AsyncIterator[Worker]:
    transport = Transport()
    sets = KeySets(fetcher(transport), passes, lambda: [settings], structlog.get_logger(), (clock or Clock()).epoch)
    tokens = Tokens([settings], sets, lambda: datetime.now(UTC))
    try:
        async with sets:
            yield Worker(sets, tokens)
    finally:
        await transport.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def passes(tmp_path: Path, clock: Clock) -> AsyncIterator[Passes]:
    one = EmbeddedPasses(tmp_path, epoch=clock.epoch)
    yield one
    await one.close()


async def test_a_rotated_key_is_fetched_and_unknown_ones_once_a_minute_for_all(passes: Passes, clock: Clock) -> None:
    async with JwksServer.serving(jwk("RS256")) as server, worker(at(server), passes, clock) as one:
        assert await one.outcome(token()) == "good"
        assert server.asked == 1
        server.document = jwks(jwk("RS256"), jwk("RS256", 1))
        assert await one.outcome(token(number=1)) == "good"
        assert server.asked == 2
        for number in range(30):
            assert await one.outcome(token(header={"kid": f"made-up-{number}"})) == "invalid_api_key"
        server.document = jwks(jwk("RS256", 2))
        assert await one.outcome(token(number=2)) == "invalid_api_key"
        assert server.asked == 2
        clock.ahead += 61
        many = [one.outcome(token(number=2, jti=str(number))) for number in range(10)]
        assert await asyncio.gather(*many) == ["good"] * 10
        assert await one.outcome(token()) == "invalid_api_key", "its key has been withdrawn"
        assert server.asked == 3


async def test_a_known_key_with_another_algorithm_fetches_nothing(passes: Passes) -> None:
    async with JwksServer.serving(jwk("RS256", alg="RS256")) as server, worker(at(server), passes) as one:
        assert await one.outcome(token("RS256")) == "good"
        assert await one.outcome(token("RS512")) == "invalid_api_key"
        assert server.asked == 1


async def test_those_who_come_first_wait_for_one_fetch(passes: Passes) -> None:
    async with JwksServer.serving(jwk("RS256")) as server, worker(at(server), passes) as one:
        server.held.clear()
        waiting = [asyncio.create_task(one.outcome(token(jti=str(number)))) for number in range(20)]
        await server.arrived.wait()
        server.held.set()
        assert await asyncio.gather(*waiting) == ["good"] * 20
        assert server.asked == 1


@pytest.mark.parametrize("document", [b"", b"<html>", b'{"keys":[]}', b'{"keys":[{"kty":"oct","k":"AAAA"}]}', b"[1]"])
async def test_without_keys_at_hand_nothing_can_be_told(passes: Passes, document: bytes) -> None:
    async with JwksServer.serving() as server, worker(at(server), passes) as one:
        server.document = document
        assert await one.outcome(token()) == "store_unavailable"
        assert await one.outcome(token(aud="other")) == "invalid_api_key", "that is faulty by whatever key"
        (status,) = one.sets.statuses()
        assert (status.keys, status.age) == (0, None)
        assert status.fault is not None


async def test_a_server_that_is_away_is_asked_again_and_found(passes: Passes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_sets, "FIRST_SECONDS", 0.0)
    async with JwksServer.serving(jwk("RS256")) as server, worker(at(server), passes) as one:
        server.status = 500
        with capture_logs() as logged:
            for _ in range(3):
                assert await one.outcome(token()) == "store_unavailable"
            server.status = 200
            assert await one.outcome(token()) == "good"
        assert [(each["event"], each.get("because")) for each in logged] == [
            ("the keys of an issuer cannot be fetched", "HTTP 500"),
            ("the keys of an issuer are fetched again", None),
        ]


async def test_the_last_keys_are_held_for_a_day(passes: Passes, clock: Clock) -> None:
    async with JwksServer.serving(jwk("RS256")) as server, worker(at(server), passes, clock) as one:
        assert await one.outcome(token()) == "good"
        server.status = 503
        clock.ahead = DAY - 60
        assert await one.outcome(token()) == "good"
        assert await one.outcome(token(header={"kid": "unknown"})) == "invalid_api_key"
        clock.ahead = DAY + 60
        assert await one.outcome(token()) == "store_unavailable"
        server.status = 200
        clock.ahead += 2
        assert await one.outcome(token()) == "good"


@pytest.mark.parametrize("document", [b"", b"<html>", b'{"keys":[]}', b"[" * 60_000, jwks(*[jwk("RS256")] * 201)])
async def test_what_is_no_set_of_keys_takes_the_place_of_none(passes: Passes, clock: Clock, document: bytes) -> None:
    """A proxy's page, a server that has lost its keys: the last ones are held, and what is wrong is said."""
    async with JwksServer.serving(jwk("RS256")) as server, worker(at(server), passes, clock) as one:
        assert await one.outcome(token()) == "good"
        server.document = document
        clock.ahead = 3600.0
        assert await one.outcome(token(header={"kid": "unknown"})) == "invalid_api_key"
        assert server.asked == 2
        assert await one.outcome(token(jti="another")) == "good"
        assert one.sets.statuses()[0].fault is not None


async def test_a_slow_server_holds_up_no_token_whose_key_is_known(passes: Passes, clock: Clock) -> None:
    async with JwksServer.serving(jwk("RS256")) as server, worker(at(server), passes, clock) as one:
        assert await one.outcome(token()) == "good"
        server.held.clear()
        server.arrived.clear()
        clock.ahead = 3600.0
        unknown = asyncio.create_task(one.outcome(token(number=1)))
        await server.arrived.wait()
        for number in range(20):
            assert await one.outcome(token(jti=str(number))) == "good"
        assert not unknown.done()
        server.held.set()
        assert await unknown == "invalid_api_key"


async def test_what_was_fetched_outlives_a_restart(passes: Passes, clock: Clock) -> None:
    async with JwksServer.serving(jwk("RS256")) as server:
        async with worker(at(server), passes) as one:
            assert await one.outcome(token()) == "good"
        server.status = 500
        async with worker(at(server), passes) as another:
            assert await another.outcome(token()) == "good"
        clock.ahead = 3600.0
        async with worker(at(server), passes, clock) as another:
            assert await another.outcome(token()) == "good"
            assert server.asked >= 2, "what is not fresh is fetched, if it can be"


async def test_withdrawn_keys_go_with_the_next_refresh(
    passes: Passes, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verified tokens among them; what has not changed keeps them."""
    monkeypatch.setattr(key_sets, "LOOK_EACH_SECONDS", 0.02)
    async with JwksServer.serving(jwk("RS256")) as server, worker(at(server), passes, clock) as one:
        text = token()
        assert await one.outcome(text) == "good"
        before = one.sets.held(at(server))
        clock.ahead += 301
        await until(lambda: yielded(server.asked == 2 and one.sets.statuses()[0].age < 100))  # type: ignore[operator]
        assert one.sets.held(at(server)) is before
        server.document = jwks(jwk("RS256", 1))
        clock.ahead += 301

        async def refused() -> bool:
            return await one.outcome(text) == "invalid_api_key"

        await until(refused)


async def test_two_workers_fetch_once_for_both(passes: Passes, clock: Clock) -> None:
    """The one that did not fetch takes what the other one got, also while that is still on its way."""
    async with (
        JwksServer.serving(jwk("RS256")) as server,
        worker(at(server), passes, clock) as one,
        worker(at(server), passes, clock) as other,
    ):
        assert await one.outcome(token()) == "good"
        assert await other.outcome(token()) == "good"
        asked = server.asked
        server.document = jwks(jwk("RS256", 1))
        server.held.clear()
        server.arrived.clear()
        both = [asyncio.create_task(each.outcome(token(number=1))) for each in (one, other)]
        await server.arrived.wait()
        server.held.set()
        assert await asyncio.gather(*both) == ["good", "good"]
        assert await one.outcome(token(number=2)) == "invalid_api_key"
        assert await other.outcome(token(number=2)) == "invalid_api_key"
        assert server.asked == asked + 1


class AwayPasses(EmbeddedPasses):
    """A store that cannot be asked."""

    async def put(self, *_: Any) -> None:
        raise StoreUnavailable("away")

    async def put_if_absent(self, *_: Any) -> bool:
        raise StoreUnavailable("away")

    async def get(self, *_: Any) -> bytes | None:
        raise StoreUnavailable("away")


async def test_while_the_store_is_away_each_worker_fetches_for_itself(tmp_path: Path) -> None:
    async with JwksServer.serving(jwk("RS256")) as server, worker(at(server), AwayPasses(tmp_path)) as one:
        assert await one.outcome(token()) == "good"
        server.document = jwks(jwk("RS256", 1))
        assert await one.outcome(token(number=1)) == "good"
        assert await one.outcome(token(number=2)) == "invalid_api_key"
        assert server.asked == 2


async def test_a_private_authority_vouches_for_the_keys(passes: Passes, tmp_path: Path) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(str(tmp_path / "ours.pem"))
    theirs.cert_pem.write_to_path(str(tmp_path / "theirs.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.issue_cert("127.0.0.1").configure_cert(context)
    async with JwksServer.serving(jwk("RS256"), ssl=context) as server:
        url = server.url.replace("http:", "https:")
        outcomes = []
        for name in ("ours.pem", "theirs.pem"):
            async with worker(at(server, jwks_url=url, ca_file=str(tmp_path / name)), passes) as one:
                outcomes.append(await one.outcome(token()))
    assert outcomes == ["good", "store_unavailable"]


@pytest.mark.parametrize("status", [301, 302, 204, 404])
async def test_what_is_no_answer_is_not_followed(passes: Passes, status: int) -> None:
    async with JwksServer.serving(jwk("RS256")) as server, worker(at(server), passes) as one:
        server.status = status
        assert await one.outcome(token()) == "store_unavailable"


async def test_an_endless_document_is_not_read_to_its_end(passes: Passes) -> None:
    async with JwksServer.serving() as server, worker(at(server), passes) as one:
        server.document = b" " * (600 << 10) + jwks(jwk("RS256"))
        assert await one.outcome(token()) == "store_unavailable"
        (status,) = one.sets.statuses()
        assert status.fault == "the answer is longer than 512 KiB"
