"""What was seen of an answer, and whether it counts."""

from __future__ import annotations

import pytest

from gateway.relay.seen import Seen

USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
TEXT = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'


@pytest.mark.parametrize("event", [USAGE, TEXT])
def test_what_an_upstream_answered_counts_though_its_client_had_left(event: bytes) -> None:
    """The client may go between an upstream's first event and our head: what the ledger bills, limits must count."""
    seen = Seen()
    assert not seen.counts
    seen.events(event)
    assert seen.counts


def test_an_end_without_anything_before_it_is_no_answer() -> None:
    seen = Seen()
    seen.events(b"data: [DONE]\n\n")
    assert not seen.counts


def test_an_answer_that_tells_of_nothing_counts() -> None:
    """An upstream's refusal, say."""
    seen = Seen()
    seen.answered = True
    assert seen.counts
