"""Copy all entries from one place to another, then compare both ends.

Whatever is done may be done again: a copy that was interrupted is run once more and goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import orjson

from gateway.errors import StoreUnavailable
from gateway.store.base import MOST_AUDIT_ENTRIES
from gateway.transfer.entries import Depot, Entry, Progress, are_alike, counted

Mode = Literal["fill", "merge", "replace"]
_MOST_NAMED = 10
_MOST_TRIES = 10


class TargetInUse(Exception):
    """The target holds what the source does not have alike.

    `found`: how many, by kind.
    """

    def __init__(self, found: Counter[str]) -> None:
        super().__init__("the target is not empty")
        self.found = found


class Mismatch(Exception):
    """The ends differ after the copy. `named`: the first few."""

    def __init__(self, number: int, named: Sequence[str]) -> None:
        super().__init__("the ends differ")
        self.number = number
        self.named = tuple(named)


class Outcome(NamedTuple):
    """What was done, by kind. `kept`: differs, and was left alone."""

    written: Counter[str]
    alike: Counter[str]
    kept: Counter[str]
    deleted: Counter[str]


class _Plan(NamedTuple):
    """What is to be done with a batch."""

    new: list[Entry]
    alike: list[Entry]
    differing: list[tuple[Entry, Entry]]  # as wanted, as found


async def copy(
    source: Depot, target: Depot, mode: Mode, progress: Progress, *, is_dry_run: bool = False, of: int | None = None
) -> Outcome:
    """Carry everything over. Raises TargetInUse, Mismatch and StoreUnavailable.

    "fill" an empty target, or one that holds nothing but what the source has alike; "merge": what the target has stays
    as it is; "replace": the target ends as the source. `of`: how many the source has.
    """
    if mode == "fill":
        await _refuse_others(source, target)
    outcome = Outcome(Counter(), Counter(), Counter(), Counter())
    done = 0
    async for batch in source.batches():
        await _carry(batch, target, mode, outcome, is_dry_run=is_dry_run)
        done += len(batch)
        progress("copied", done, of)
    if mode == "replace":
        await _delete_others(source, target, outcome, is_dry_run=is_dry_run)
    if not is_dry_run:
        await _carry_audit(source, target, mode, outcome)
        await _verify(source, target, mode, outcome, progress, of)
    return outcome


async def _refuse_others(source: Depot, target: Depot) -> None:
    found: Counter[str] = Counter()
    async for batch in target.batches():
        for entry, there in zip(batch, await source.get(batch), strict=True):
            if there is None or not are_alike(target.stored(there), entry):
                found[entry.kind] += 1
    if found:
        raise TargetInUse(found)


async def _carry(batch: list[Entry], target: Depot, mode: Mode, outcome: Outcome, *, is_dry_run: bool) -> None:
    plan = await _planned(batch, target)
    outcome.alike.update(entry.kind for entry in plan.alike)
    if mode == "replace":
        wanted = [*plan.new, *(entry for entry, _ in plan.differing)]
        outcome.written.update(entry.kind for entry in wanted)
        if not is_dry_run:
            # Records are replaced in one step: no key is missing for a moment. Of the rest other keys follow from it.
            await target.delete([found for _, found in plan.differing if found.kind == "object"])
            await target.put(wanted)
        return
    outcome.written.update(entry.kind for entry in plan.new)
    outcome.kept.update(entry.kind for entry, _ in plan.differing)
    if not is_dry_run:
        await target.put(plan.new)


async def _planned(batch: list[Entry], target: Depot) -> _Plan:
    plan = _Plan([], [], [])
    wanted = [target.stored(entry) for entry in batch]
    for entry, found in zip(wanted, await target.get(wanted), strict=True):
        if found is None:
            plan.new.append(entry)
        elif are_alike(entry, found):
            plan.alike.append(entry)
        else:
            plan.differing.append((entry, found))
    return plan


async def _delete_others(source: Depot, target: Depot, outcome: Outcome, *, is_dry_run: bool) -> None:
    """Delete what the source lacks."""
    async for batch in target.batches():
        there = await source.get(batch)
        others = [entry for entry, found in zip(batch, there, strict=True) if found is None]
        outcome.deleted.update(entry.kind for entry in others)
        if others and not is_dry_run:
            await target.delete(others)


async def _carry_audit(source: Depot, target: Depot, mode: Mode, outcome: Outcome) -> None:
    """Carry the trail over; two are joined in order of time."""
    wanted = await source.audit()
    for _ in range(_MOST_TRIES):
        there = await target.audit()
        whole = wanted if mode == "replace" else _joined(wanted, there)
        if whole == there or await target.set_audit(whole, there):
            outcome.written["audit"] += len(set(whole) - set(there))
            outcome.alike["audit"] += len(set(whole) & set(there))
            return
    raise StoreUnavailable(f"The audit of {target.name} is being written by others all the time; run it again.")


def _joined(one: list[bytes], other: list[bytes]) -> list[bytes]:
    if not one or not other:
        return one or other
    both = list(dict.fromkeys([*other, *one]))
    return sorted(both, key=_time_of, reverse=True)[:MOST_AUDIT_ENTRIES]


def _time_of(entry: bytes) -> str:
    try:
        fields = orjson.loads(entry)
    except orjson.JSONDecodeError:
        return ""
    found = fields.get("time") if isinstance(fields, dict) else None
    return found if isinstance(found, str) else ""


async def _verify(
    source: Depot, target: Depot, mode: Mode, outcome: Outcome, progress: Progress, of: int | None
) -> None:
    """Compare counts and contents of both ends, read anew."""
    done, kept, wrong = 0, Counter[str](), Counter[str]()
    named: list[str] = []
    async for batch in source.batches():
        plan = await _planned(batch, target)
        kept.update(entry.kind for entry, _ in plan.differing)
        faults = plan.new if mode == "merge" else [*plan.new, *(entry for entry, _ in plan.differing)]
        wrong.update(entry.kind for entry in faults)
        named += [shown(entry) for entry in faults[: max(0, _MOST_NAMED - len(named))]]
        done += len(batch)
        progress("compared", done, of)
    if mode == "merge" and kept != outcome.kept:
        wrong.update(kept - outcome.kept)
    if mode != "merge":
        others = await _others(source, target)
        wrong.update(others)
        named += [f"{counted(kind, number)} that are only in the target" for kind, number in others.items()]
    if wrong:
        raise Mismatch(wrong.total(), named)


async def _others(source: Depot, target: Depot) -> Counter[str]:
    found: Counter[str] = Counter()
    async for batch in target.batches():
        for entry, there in zip(batch, await source.get(batch), strict=True):
            if there is None:
                found[entry.kind] += 1
    return found


def shown(entry: Entry) -> str:
    """Name an entry; of a key the beginning of its hash alone."""
    return f"{entry.kind} {entry.id[:12]}…" if entry.kind == "key" else f"{entry.kind} {entry.id}"
