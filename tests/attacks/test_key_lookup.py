"""Keys: what the time of an answer could tell, looked at where it is certain: in what is compared with what.

A key is hashed, and the digest is looked up. Nothing compares the letters of a presented key with those of a stored
one, so a guess that is right in its first letters takes the way of one that is wrong in all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from attacks_kit import ADMIN_KEY
from kit import KEYS, Stage
from multidict import CIMultiDict

from gateway.access.authenticate import Authenticator, Shown, key_sha256
from gateway.errors import InvalidKey
from gateway.store.file import YamlStore
from gateway.types import ApiKey

KEY = "sk-a-key-of-somebody-0123456789"
NEAR_MISSES = [
    KEY[:-1],
    KEY + "0",
    KEY[:-1] + "8",
    "x" + KEY[1:],
    KEY.upper(),
    KEY + "\u200b",
    KEY[::-1],
    key_sha256(KEY),
]


class Watched(str):
    """A presented key that takes down how it is looked at."""

    looks: list[str]

    def __new__(cls, text: str, looks: list[str]) -> Watched:
        made = super().__new__(cls, text)
        made.looks = looks
        return made

    def __eq__(self, other: object) -> bool:
        self.looks.append("==")
        return str.__eq__(self, other)

    def __hash__(self) -> int:
        self.looks.append("hash")
        return str.__hash__(self)

    def startswith(self, *arguments: Any) -> bool:
        self.looks.append("startswith")
        return str.startswith(self, *arguments)

    def __contains__(self, part: object) -> bool:
        self.looks.append("in")
        return str.__contains__(self, part)  # type: ignore[operator]

    def strip(self, *arguments: Any) -> Watched:
        return Watched(str.strip(self, *arguments), self.looks)


class Asked(YamlStore):
    """A store that takes down by what it is asked."""

    def __init__(self, key: ApiKey) -> None:
        super().__init__(keys=[key], lowest_tier="free")
        self.by: list[str] = []

    async def key(self, sha256: str) -> ApiKey | None:
        self.by.append(sha256)
        return await super().key(sha256)


def authenticator() -> tuple[Authenticator, Asked]:
    store = Asked(ApiKey(id="one", user=1, sha256=key_sha256(KEY)))
    return Authenticator(store, lambda: datetime(2026, 1, 1, tzinfo=UTC)), store


async def outcome(found: Authenticator, headers: Mapping[str, str]) -> str:
    try:
        await found.caller(Shown.of(CIMultiDict(headers)), "ai:use")
    except InvalidKey as fault:
        return fault.message
    return "let in"


async def test_a_store_is_asked_for_a_digest_and_for_nothing_else() -> None:
    """A near miss and a far one are each one question, by 64 digits that tell nothing of the key."""
    found, store = authenticator()
    answers = [await outcome(found, {"x-api-key": guess}) for guess in NEAR_MISSES]
    assert store.by == [hashlib.sha256(guess.encode()).hexdigest() for guess in NEAR_MISSES]
    assert set(answers) == {"The API key is not valid."}
    assert await outcome(found, {"x-api-key": KEY}) == "let in"


@pytest.mark.parametrize("text", NEAR_MISSES)
async def test_the_letters_of_a_guess_are_compared_with_nothing(text: str) -> None:
    """Also while the right key is remembered: what is remembered is found by a hash of all letters, seeded anew in each
    process, and compared letter by letter only where that is the same already."""
    looks: list[str] = []
    found, _ = authenticator()
    assert await outcome(found, {"x-api-key": KEY}) == "let in"
    for _ in range(3):
        await outcome(found, {"x-api-key": Watched(text, looks)})
    assert set(looks) <= {"hash"}


def test_only_digests_are_kept() -> None:
    """What a process remembers of a key given in plain in gateway.yaml cannot be turned back into it."""
    _, store = authenticator()
    kept = json.dumps([repr(value) for value in vars(store).values()])
    assert KEY not in kept
    assert key_sha256(KEY) in kept


async def test_the_hash_of_a_key_is_no_key(stage: Stage) -> None:
    """Whoever reads a digest, in gateway.yaml or in Redis, cannot present it."""
    for key in (KEYS["user"], ADMIN_KEY):
        digest = hashlib.sha256(key.encode()).hexdigest()
        for told in (digest, f"sha256:{digest}", digest.upper()):
            reply = await stage.get("/v1/models", key=told)
            assert (reply.status, reply.error()["code"]) == (401, "invalid_api_key")


async def test_answers_to_all_bad_keys_are_the_same_bytes(stage: Stage) -> None:
    """Unknown, near, expired: the body and the headers are one, but for id and date."""
    told = set()
    for key in [*NEAR_MISSES[:5], KEYS["expired"], KEYS["user"][:-1], "x", "x" * 4000]:
        reply = await stage.get("/v1/models", key=key)
        headers = [(n, v) for n, v in reply.headers if n not in ("x-request-id", "date")]
        told.add((reply.status, reply.body, tuple(headers)))
    assert len(told) == 1
