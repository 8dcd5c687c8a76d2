"""Find where the values of a valid JSON text stand."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import msgspec
import orjson

from gateway.dialects.openai.choosing import Path

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_KEY = re.compile(rb"[ \t\n\r{,]*+(" + _STRING + rb")[ \t\n\r]*+:[ \t\n\r]*+")
_BEFORE_ITEM = re.compile(rb"[ \t\n\r,]*+")
_members_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_MANY = 10_000  # values: a few milliseconds, during which no other thread of Python runs
_scan = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode  # numbers of any length


class Member(NamedTuple):
    """The offsets of one member of an object."""

    start: int
    value: int
    end: int


def member_value(raw: bytes, key: str) -> tuple[int, int]:
    """Locate the value of a member of a JSON object."""
    member = locate_members(raw, 0)[key]
    return member.value, member.end


def locate_members(raw: bytes, count: int) -> dict[str, Member]:
    """The members of a valid JSON object, in order.

    `count`: how many they are. Many are read one by one, lest other threads wait for all of them.
    """
    if count > _MANY:
        return _members_one_by_one(raw)
    members, at = {}, 0
    for key, value in _members_decoder.decode(raw).items():
        name = _KEY.match(raw, at)
        assert name is not None  # noqa: S101 - the decoder has just read it
        at = name.end() + memoryview(value).nbytes
        members[key] = Member(name.start(1), name.end(), at)
    return members


def locate_items(raw: bytes, count: int) -> list[tuple[int, int]]:
    """Locate the items of a valid JSON array, in order; `count` as above."""
    if count > _MANY:
        return _items_one_by_one(raw, count)
    items, at = [], raw.index(b"[") + 1
    for value in _items_decoder.decode(raw):
        gap = _BEFORE_ITEM.match(raw, at)
        assert gap is not None  # noqa: S101 - it matches nothing, too
        at = gap.end() + memoryview(value).nbytes
        items.append((gap.end(), at))
    return items


def _members_one_by_one(raw: bytes) -> dict[str, Member]:
    text, members, at = raw.decode("latin-1"), {}, 0  # a character a byte; where values end is all that is asked
    while (name := _KEY.match(raw, at)) is not None:
        _, at = _scan(text, name.end())
        members[orjson.loads(name[1])] = Member(name.start(1), name.end(), at)
    return members


def _items_one_by_one(raw: bytes, count: int) -> list[tuple[int, int]]:
    text, items, at = raw.decode("latin-1"), [], raw.index(b"[") + 1
    for _ in range(count):
        gap = _BEFORE_ITEM.match(raw, at)
        assert gap is not None  # noqa: S101 - it matches nothing, too
        _, at = _scan(text, gap.end())
        items.append((gap.end(), at))
    return items


class Spans:
    """Locate values by their paths in a body, parsed as `fields`."""

    def __init__(self, raw: bytes, fields: Any) -> None:
        self._raw = raw
        self._fields = fields
        self._within: dict[Path, dict[str | int, tuple[int, int]]] = {}

    def of(self, path: Path) -> tuple[int, int]:
        start, end, around = 0, len(self._raw), self._fields
        for level, step in enumerate(path):
            found = self._within.get(path[:level])
            if found is None:
                found = self._within[path[:level]] = self._located(start, end, around)
            start, end = found[step]
            around = around[step]
        return start, end

    def _located(self, start: int, end: int, around: Any) -> dict[str | int, tuple[int, int]]:
        value = self._raw[start:end]
        if isinstance(around, dict):
            members = locate_members(value, len(around)).items()
            return {key: (start + member.value, start + member.end) for key, member in members}
        items = locate_items(value, len(around))
        return {place: (start + at, start + to) for place, (at, to) in enumerate(items)}
