"""Make blocks of days that have ended, and their ranks (see `day_blocks`).

A few in a short transaction.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, TextClause, delete, select, text

from gateway.usage.sql.rows import NONE
from gateway.usage.sql.sums.additions import DAY_MS
from gateway.usage.sql.sums.day_blocks import KINDS, RANKED, Made, first_day, halves, level_of
from gateway.usage.sql.sums.keeping import close_gate
from gateway.usage.sql.sums.ranks import make_ranks
from gateway.usage.sql.sums.sum_tables import VALUES, blocks, daily, made

SETTLED_MS = 3_600_000  # after a day's end: most of what began in it has ended by then
MAKING_SECONDS = 0.05  # in one transaction, while nobody adds; the block that is begun is made
_KEYS = ("a", "b", "c")


def made_of(connection: Connection) -> Made:
    return Made.of(connection.scalars(select(made.c.block)))


def due_blocks(connection: Connection, now_ms: int) -> list[int]:
    """Return what can be made, in an order in which each can."""
    return list(made_of(connection).due((now_ms - SETTLED_MS) // DAY_MS))


def make_blocks(connection: Connection, due: Sequence[int]) -> int:
    """Make the first of these; return how many are done with.

    Passed over is what another process made, and what is made of blocks that were struck out meanwhile. Who adds
    waits until they are there.
    """
    close_gate(connection)
    listed, ends_at = made_of(connection), time.monotonic() + MAKING_SECONDS
    for number, block in enumerate(due):
        if number and time.monotonic() > ends_at:
            return number
        if listed.is_due(block):
            make = make_ranks if level_of(block) == RANKED else _make
            make(connection, block)
            connection.execute(made.insert(), {"block": block})
    return len(due)


def _make(connection: Connection, block: int) -> None:
    connection.execute(delete(blocks).where(blocks.c.block == block))
    if level_of(block) == 0:
        statements, of = _OF_A_DAY, {"day_ms": first_day(block) * DAY_MS}
    else:
        statements, of = _OF_HALVES, dict(zip(("one", "other"), halves(block), strict=True))
    for statement in statements:
        connection.execute(statement, {"block": block, **of})


def _statement(kind: str, keys: Sequence[str], source: str, where: str) -> TextClause:
    named = [*keys, *[f"'{NONE}'"] * (len(_KEYS) - len(keys))]
    sums = [f"sum({name})" for name in VALUES]
    grouped = f" GROUP BY {', '.join(keys)}" if keys else ""
    found = f"SELECT :block, '{kind}', {', '.join([*named, *sums])} FROM {source} WHERE {where}{grouped}"  # noqa: S608 - names of ours
    into = f"{blocks.name} (block, kind, {', '.join([*_KEYS, *VALUES])})"
    return text(f"INSERT INTO {into} {found} HAVING count(*) > 0")  # without keys there is always a row


def _statements(keys: Mapping[str, Sequence[str]], source: str, where: str) -> list[TextClause]:
    return [_statement(kind, of, source, where.format(kind=kind)) for kind, of in keys.items()]


_OF_A_DAY = _statements(KINDS, daily.name, "day_ms = :day_ms")
_OF_HALVES = _statements(dict.fromkeys(KINDS, _KEYS), blocks.name, "block IN (:one, :other) AND kind = '{kind}'")
