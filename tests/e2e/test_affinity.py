"""A conversation's turns go to one endpoint whichever gateway is asked."""

from __future__ import annotations

from pathlib import Path

from kit import FakeUpstream, Stage, ask
from kit.stage import Record, endpoint, model


def pooled(upstream: FakeUpstream) -> list[Record]:
    endpoints = [endpoint(upstream, f"at.{letter}") for letter in "abcd"]
    return [model("warm", endpoints, rotation="cache_affinity")]


async def test_turns_of_a_conversation_stay_together(tmp_path: Path) -> None:
    places: list[set[str]] = []
    for number in range(2):
        directory = tmp_path / str(number)
        directory.mkdir()
        async with Stage.open(directory, pooled) as stage:
            used: set[str] = set()
            for session in ("s1", "s2", "s3", "s4", "s5", "s6"):
                for _ in range(3):
                    reply = await stage.post(ask("warm"), headers=[("x-session-id", session)])
                    assert reply.status == 200
                seen = {f"{session} {letter}" for letter in "abcd" if stage.upstream.endpoint(f"at.{letter}").requests}
                for letter in "abcd":
                    stage.upstream.endpoint(f"at.{letter}").requests.clear()
                assert len(seen) == 1
                used |= seen
            assert len({place[-1] for place in used}) > 1
            places.append(used)
    assert places[0] == places[1]
