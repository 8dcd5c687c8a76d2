"""The independent count: what clients heard, what upstreams saw, and what the ledger must say of it.

A client's tag goes to the gateway as its request id and to the upstream as the body's `user`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from gateway.demo.answers import Asked
from gateway.demo.faults import Fault

Ending = Literal["whole", "left", "lost"]

# Faults whose answers tell of their usage as they should, so that the ledger must have it to the token.
TELLING = frozenset(
    ("good", "slow-drip", "second-answer", "done-twice", "no-done", "usage-twice", "gzip", "swapped-type")
)
# What they answer with 200 is an error, or a web page.
FAILING = frozenset(("wrong-type", "error-first", "error-in-stream"))
# The gateway's own words to a request that it did not admit.
NOT_ADMITTED = frozenset(
    (
        "invalid_json",
        "field_not_allowed",
        "missing_api_key",
        "invalid_api_key",
        "model_not_found",
        "model_not_accessible",
        "not_found",
        "rate_limit_exceeded",
        "store_unavailable",
        "shutting_down",
    )
)
_ANSWER_ID = re.compile(rb"answer-\d+")
_FAULT_KEPT = 3


class Heard(NamedTuple):
    """What one client knows of its request. `code`: of the gateway's own error; `broke`: it ended as incomplete.

    `dying`: a process of its gateway was killed meanwhile.
    """

    tag: str
    action: str
    ending: Ending
    status: int
    code: str | None
    broke: bool
    began: float
    ended: float
    dying: bool = False


@dataclass
class Book:
    heard: dict[str, Heard] = field(default_factory=dict)
    seen: dict[str, list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))  # fault, total tokens
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)  # by name and way of asking
    wrongs: list[str] = field(default_factory=list)  # what should not have happened, seen while it ran

    def met(self, fault: Fault, asked: Asked) -> None:
        """An upstream is asked."""
        self.faults[fault.name, "streamed" if asked.stream else "plain"] += 1
        tag = asked.fields.get("user")
        if isinstance(tag, str):
            self.seen[tag].append((fault.name, asked.usage["total_tokens"]))

    def write(self, heard: Heard) -> None:
        self.heard[heard.tag] = heard

    def wrong(self, what: str) -> None:
        self.wrongs.append(what)

    def look_at(self, tag: str, body: bytes) -> None:
        """An answer's own signs that it is one answer and no more."""
        if len(set(_ANSWER_ID.findall(body))) > 1 or b"poison" in body:
            self.wrong(f"{tag}: two answers in one: {body[:300]!r}")

    @property
    def answers(self) -> Counter[str]:
        """How requests ended, in words."""
        return Counter(_words(each) for each in self.heard.values())

    def against(self, ledger: list[dict[str, Any]]) -> Iterator[str]:
        """Every disagreement with the ledger's rows."""
        rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in ledger:
            rows[row["client_request_id"]].append(row)
        for tag, heard in self.heard.items():
            yield from self._disagreements(heard, rows.pop(tag, []), self.seen.get(tag, []))
        for tag in rows:
            yield f"{tag}: in the ledger, and no client knows of it"
        for tag in set(self.seen) - set(self.heard):
            yield f"{tag}: seen by an upstream, and no client knows of it"

    def _disagreements(self, heard: Heard, rows: list[dict[str, Any]], seen: list[tuple[str, int]]) -> Iterator[str]:
        fewest, most = _rows_due(heard, was_seen=bool(seen))
        if not fewest <= len(rows) <= most:
            yield f"{heard.tag}: {len(rows)} rows where {fewest} to {most} are due; {heard}, {seen[:_FAULT_KEPT]}"
        elif rows:
            yield from _wrong_row(heard, rows[0], seen)


def _rows_due(heard: Heard, *, was_seen: bool) -> tuple[int, int]:
    """The fewest and the most rows of a request."""
    if was_seen:
        return 1, 1
    if heard.ending != "whole":
        return 0, 1  # admitted or not, before it was cut off: nobody outside can tell
    return (0, 0) if heard.code in NOT_ADMITTED else (1, 1)


def _wrong_row(heard: Heard, row: dict[str, Any], seen: list[tuple[str, int]]) -> Iterator[str]:
    due = _outcomes_due(heard, seen)
    if row["outcome"] not in due:
        yield f"{heard.tag}: outcome {row['outcome']}, not {' or '.join(sorted(due))}; {heard}, {seen[:_FAULT_KEPT]}"
        return
    if row["outcome"] != "ok" or heard.ending != "whole" or not seen:
        return
    told = [tokens for fault, tokens in seen if fault in TELLING]
    # One that was given up on may reach a busy upstream after the one that answered: then any of those is the answer's.
    if seen[-1][0] in TELLING and not (row["usage_source"] == "reported" and row["total_tokens"] in told):
        yield f"{heard.tag}: {row['usage_source']} {row['total_tokens']} tokens; {seen[:_FAULT_KEPT]}"


def _outcomes_due(heard: Heard, seen: list[tuple[str, int]]) -> set[str]:
    if heard.ending == "left":
        return {"cancelled", "ok", "upstream_error", "interrupted"}  # whichever came first
    if heard.ending == "lost":
        return {"interrupted", "ok", "upstream_error"}
    if heard.broke and heard.dying:
        return {"upstream_error", "interrupted"}  # a worker without a supervisor drains, and ends what is left
    if heard.status != 200 or heard.broke:
        return {"upstream_error"}
    if not seen or seen[-1][0] not in FAILING:
        return {"ok"}
    return {"upstream_error", "ok"} if any(fault in TELLING for fault, _ in seen[:-1]) else {"upstream_error"}


def _words(heard: Heard) -> str:
    if heard.ending != "whole":
        return "client left" if heard.ending == "left" else "lost with a killed process"
    if heard.broke:
        return "200, then stream_incomplete"
    return f"{heard.status} {heard.code or ('relayed' if heard.status != 200 else '')}".strip()
