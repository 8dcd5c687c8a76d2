"""`rotation: cache_affinity`: a conversation stays at one endpoint, whoever asks, and spills where it must."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.affinity import affinity_of
from gateway.pool import Cause, Lease, Pool
from gateway.types import ApiKey, Caller, Endpoint, Model, User

NOW = 1_000.0
CALLER = Caller(User(42, "free"), ApiKey("k", 42, "0" * 64))


def pool(*names: str, **settings: Any) -> Pool:
    endpoints = tuple(Endpoint(name, f"http://{name}.example/v1", **settings) for name in names)
    return Pool(Model(1, "m", rotation="cache_affinity", endpoints=endpoints), Random(1))


def taken(some: Pool, conversation: int, now: float = NOW) -> Lease:
    lease = some.take(now, (), conversation)
    assert lease is not None
    return lease


def served(some: Pool, conversation: int, now: float = NOW) -> str:
    lease = taken(some, conversation, now)
    lease.release()
    return lease.endpoint_id


NAMES = [f"e{number}" for number in range(8)]


@given(st.integers(0, 2**64 - 1), st.permutations(NAMES))
def test_every_worker_agrees(conversation: int, names: list[str]) -> None:
    """Whatever the order of the file, and in whichever process."""
    assert served(pool(*names), conversation) == served(pool(*NAMES), conversation)


@given(st.integers(0, 2**64 - 1), st.sampled_from(NAMES))
def test_an_endpoint_that_goes_moves_no_other_conversation(conversation: int, gone: str) -> None:
    before = served(pool(*NAMES), conversation)
    after = served(pool(*[name for name in NAMES if name != gone]), conversation)
    assert after == before or before == gone


def test_conversations_spread_evenly() -> None:
    some = pool(*NAMES)
    shares = Counter(served(some, affinity({"prompt_cache_key": str(number)})) for number in range(8_000))
    assert set(shares) == set(NAMES)
    assert max(shares.values()) <= 1.3 * 1_000


def test_a_cooling_endpoint_is_passed_over_until_it_is_back() -> None:
    some = pool("a", "b", "c")
    first = taken(some, 7)
    first.failed(Cause.RATE_LIMITED, NOW, retry_after_seconds=30)
    first.release()
    second = served(some, 7)
    assert second != first.endpoint_id
    assert served(some, 7) == second
    assert served(some, 7, NOW + 31) == first.endpoint_id


def test_a_full_endpoint_spills() -> None:
    some = pool("a", "b", max_in_flight=1)
    assert {taken(some, 7).endpoint_id, taken(some, 7).endpoint_id} == {"a", "b"}
    assert some.take(NOW, (), 7) is None


def test_nobody_has_much_more_than_its_share() -> None:
    """However popular one conversation is: at most 1.25 of the share, rounded up."""
    some = pool("a", "b", "c", "d")
    held = Counter(taken(some, 7).endpoint_id for _ in range(100))
    assert sum(held.values()) == 100
    assert max(held.values()) <= 32


def affinity(fields: dict[str, Any], conversation: str | None = None, caller: Caller = CALLER) -> int:
    return affinity_of(fields, conversation, caller, 1)


def turn(*texts: str, **more: Any) -> dict[str, Any]:
    roles = ["system", "user", "assistant", "user"]
    return {"messages": [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)], **more}


def test_what_names_a_conversation() -> None:
    """The first of: cache key, metadata's user, the header; else caller, model and how it began."""
    other = Caller(User(43, "free"), ApiKey("k2", 43, "1" * 64))
    begun = turn("be brief", "hello")
    assert affinity(begun) == affinity(turn("be brief", "hello", "hi", "and now?"))
    assert affinity(begun) != affinity(turn("be brief", "bye"))
    assert affinity(begun) != affinity(begun, caller=other)
    assert affinity(begun, "s1") == affinity(turn("else"), "s1", other)
    assert affinity(begun | {"metadata": {"user_id": "u"}}, "s1") == affinity({"metadata": {"user_id": "u"}}, "s2")
    keyed = {"prompt_cache_key": "k", "metadata": {"user_id": "u"}}
    assert affinity(begun | keyed, "s1") == affinity({"prompt_cache_key": "k"})


def test_only_a_beginning_is_looked_at() -> None:
    long = "x" * 2_000
    assert affinity(turn(long + "a", "q")) == affinity(turn(long + "b", "q"))
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:" + long}}]
    assert affinity({"messages": [{"role": "user", "content": parts}]}) == affinity(
        {"messages": [{"role": "user", "content": [*parts[:1], {"type": "image_url", "image_url": {"url": "x"}}]}]}
    )


@pytest.mark.parametrize("fields", [{}, {"messages": None}, {"messages": [1, None]}, {"input": "x"}, {"metadata": []}])
def test_any_body_has_a_number(fields: dict[str, Any]) -> None:
    assert 0 <= affinity(fields) < 2**64


@given(st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_no_body_breaks_it(value: Any) -> None:
    affinity({"messages": value, "system": value, "prompt_cache_key": value, "metadata": value})
