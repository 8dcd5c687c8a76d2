"""The rows of an embedded store as entries."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import orjson

from gateway.alerts import sqlite_queue
from gateway.config.yaml import scalars
from gateway.objects import sqlite as objects
from gateway.objects.record import ObjectRecord, Place, Unsettled
from gateway.store import embedded
from gateway.store.base import KINDS as RECORD_KINDS
from gateway.store.base import storable
from gateway.transfer.entries import Entry, Kind
from gateway.types import utc_text

_Row = tuple[Any, ...]
_encode = msgspec.json.Encoder().encode
_EPOCH_DIGITS = 6  # that Redis keeps of alerts' times


class Table(NamedTuple):
    """The entries of a kind.

    `columns` are all of the table, in its order, and `row` writes them so. `key`: an expression of the id. `where` may
    name `:now`.
    """

    kind: Kind
    file: str
    name: str
    columns: str
    key: str
    where: str
    entry: Callable[[_Row], Entry]
    row: Callable[[Entry], _Row]

    def page(self, database: sqlite3.Connection, after: str | None, most: int, now: float) -> list[Entry]:
        """Return entries behind an id, in the order of ids."""
        further = "" if after is None else f" AND {self.key} > :after"
        query = f"SELECT {self.columns} FROM {self.name} WHERE {self.where}{further} ORDER BY {self.key} LIMIT :most"  # noqa: S608 - texts of ours
        rows = database.execute(query, {"now": now, "after": after, "most": most})
        return [self.entry(row) for row in rows]

    def find(self, database: sqlite3.Connection, ids: Sequence[str], now: float) -> dict[str, Entry]:
        names = {f"id{number}": storable(each) for number, each in enumerate(ids)}
        marks = ", ".join(f":{name}" for name in names)
        query = f"SELECT {self.columns} FROM {self.name} WHERE {self.where} AND {self.key} IN ({marks})"  # noqa: S608 - marks only
        found = (self.entry(row) for row in database.execute(query, {"now": now, **names}))
        return {entry.id: entry for entry in found}

    def write(self, database: sqlite3.Connection, entries: Sequence[Entry]) -> None:
        marks = ", ".join("?" * (self.columns.count(",") + 1))
        database.executemany(
            f"INSERT OR REPLACE INTO {self.name} ({self.columns}) VALUES ({marks})",  # noqa: S608
            [self.row(entry) for entry in entries],
        )

    def delete(self, database: sqlite3.Connection, ids: Sequence[str]) -> None:
        where = "kind = ? AND id = ?" if self.name == "records" else f"{self.key} = ?"
        values = [(self.kind, each) if self.name == "records" else (each,) for each in ids]
        database.executemany(f"DELETE FROM {self.name} WHERE {where}", values)  # noqa: S608

    def total(self, database: sqlite3.Connection, now: float) -> int:
        query = f"SELECT count(*) FROM {self.name} WHERE {self.where}"  # noqa: S608
        (found,) = database.execute(query, {"now": now}).fetchone()
        return int(found)


def without_lifetime(entry: Entry) -> Entry:
    """Return an expiring record as SQLite can keep it.

    A key's end becomes its `expires`, where that is not sooner.
    """
    if entry.expires is None:
        return entry
    if entry.kind != "key":
        return entry._replace(expires=None)
    try:
        fields = orjson.loads(entry.value)
        end = datetime.fromtimestamp(entry.expires, UTC)
        given = fields.get("expires")
        told = None if given is None else scalars.moment(given)
        sooner = given is not None and (told is None or told.timestamp() <= entry.expires)
    except (ValueError, AttributeError, TypeError, OverflowError):  # no key can be read from it, so none works
        return entry._replace(expires=None)
    value = entry.value if sooner else orjson.dumps(fields | {"expires": utc_text(end)})
    return entry._replace(value=value)


def _record_table(kind: Kind) -> Table:
    return Table(
        kind,
        embedded.FILE_NAME,
        "records",
        "kind, id, document",
        "id",
        f"kind = '{kind}'",
        lambda row: Entry(kind, row[1], row[2]),
        lambda entry: (kind, storable(entry.id), entry.value),
    )


def _object(row: _Row) -> Entry:
    object_id, owner, kind, created, in_lists, expires, account, model, final, about, body = row
    record = ObjectRecord(
        id=object_id,
        owner=owner,
        kind=kind,
        created=created,
        in_lists=bool(in_lists),
        account=account,
        model=model,
        final=bool(final),
        about=msgspec.json.decode(about, type=dict[str, str]) if about else {},
        body=body or None,
    )
    return Entry("object", object_id, _encode(record), expires)


def _object_row(entry: Entry) -> _Row:
    record = msgspec.json.decode(entry.value, type=ObjectRecord)
    about = _encode(record.about) if record.about else None
    whose = (record.id, record.owner, record.kind, record.created, record.in_lists)
    where = (record.account, record.model, record.final)
    return (*whose, _end_of(entry), *where, about, record.body)


def _content(row: _Row) -> Entry:
    found, owner, account, expires = row
    return Entry("content", found, _encode(Place(account, owner)), expires)


def _content_row(entry: Entry) -> _Row:
    place = msgspec.json.decode(entry.value, type=Place)
    return entry.id, place.owner, place.account, _end_of(entry)


def _work_row(entry: Entry) -> _Row:
    return entry.id, msgspec.json.decode(entry.value, type=Unsettled).since, entry.value


def _alert(row: _Row) -> Entry:
    name, event_id, body, made, kept_until = row
    return Entry("alert", name, _encode((event_id, body.decode(), made)), kept_until)


def _alert_row(entry: Entry) -> _Row:
    event_id, body, made = msgspec.json.decode(entry.value, type=tuple[str, str, float])
    return entry.id, event_id, body.encode(), made, _end_of(entry)


def _delivery_row(entry: Entry) -> _Row:
    receiver, _, name = entry.id.partition(" ")
    at, tries = msgspec.json.decode(entry.value, type=tuple[float, int])
    return receiver, name, at, tries


def _episode(row: _Row) -> Entry:
    name, began, until, worker, _ = row
    return Entry("episode", name, episode_value(began, until, worker))


def _episode_row(entry: Entry) -> _Row:
    return entry.id, *msgspec.json.decode(entry.value, type=tuple[float, float, str]), 1


def delivery_value(at: float, tries: int) -> bytes:
    return _encode((round(at, _EPOCH_DIGITS), tries))


def episode_value(began: float, until: float, worker: str) -> bytes:
    return _encode((round(began, _EPOCH_DIGITS), round(until, _EPOCH_DIGITS), worker))


def _end_of(entry: Entry) -> float:
    if entry.expires is None:
        raise ValueError(f"a {entry.kind} needs an end")
    return int(entry.expires) if entry.kind != "alert" else entry.expires


TABLES: tuple[Table, ...] = (
    *(_record_table(kind) for kind in RECORD_KINDS),
    Table(
        "object",
        objects.FILE_NAME,
        "objects",
        "id, owner, kind, created, in_lists, expires, account, model, final, about, body",
        "id",
        "expires > :now",
        _object,
        _object_row,
    ),
    Table(
        "content",
        objects.FILE_NAME,
        "contents",
        "hash, owner, account, expires",
        "hash",
        "expires > :now",
        _content,
        _content_row,
    ),
    Table(
        "home",
        objects.FILE_NAME,
        "homes",
        "owner, account",
        "owner",
        "1",
        lambda row: Entry("home", row[0], _encode(row[1])),
        lambda entry: (entry.id, msgspec.json.decode(entry.value, type=str)),
    ),
    Table(
        "work",
        objects.FILE_NAME,
        "unsettled",
        "id, since, work",
        "id",
        "1",
        lambda row: Entry("work", row[0], row[2]),
        _work_row,
    ),
    Table(
        "alert",
        sqlite_queue.FILE_NAME,
        "events",
        "name, id, body, made, kept_until",
        "name",
        "kept_until > :now",
        _alert,
        _alert_row,
    ),
    Table(
        "delivery",
        sqlite_queue.FILE_NAME,
        "due",
        "receiver, name, at, tries",
        "receiver || ' ' || name",
        "1",
        lambda row: Entry("delivery", f"{row[0]} {row[1]}", delivery_value(row[2], row[3])),
        _delivery_row,
    ),
    Table(
        "episode",
        sqlite_queue.FILE_NAME,
        "episodes",
        "name, began, until, worker, runs",
        "name",
        "runs",
        _episode,
        _episode_row,
    ),
    Table(
        "receiver",
        sqlite_queue.FILE_NAME,
        "stopped",
        "receiver, fingerprint",
        "receiver",
        "1",
        lambda row: Entry("receiver", row[0], _encode(row[1])),
        lambda entry: (entry.id, msgspec.json.decode(entry.value, type=str)),
    ),
)
TABLE_OF: dict[str, Table] = {table.kind: table for table in TABLES}
SCHEMAS: dict[str, str] = {
    embedded.FILE_NAME: embedded.SCHEMA,
    objects.FILE_NAME: objects.SCHEMA,
    sqlite_queue.FILE_NAME: sqlite_queue.SCHEMA,
}
