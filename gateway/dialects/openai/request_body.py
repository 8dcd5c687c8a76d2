"""Parse and rewrite a request's body, whose other bytes stay.

It is never serialised again but edited in place.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, ClassVar

import msgspec
import orjson

from gateway.dialects.base import Operation
from gateway.dialects.openai.choosing import Mention
from gateway.dialects.openai.locating import Member, Spans, locate_members
from gateway.dialects.openai.repetition import repetition_in
from gateway.dialects.openai.scan import Size, measure, tame
from gateway.dialects.openai.spliced import Edit, Piece, SplicedBody, Text, spliced
from gateway.dialects.references import OTHER_SPELLINGS
from gateway.errors import InvalidJson

_TOO_DEEP = "The request body is nested too deeply (more than 254 levels)."
LARGE_BYTES = 1 << 16  # from here on a body is measured before it is parsed, which may take a while
_UPLOAD_BYTES = 1 << 20  # from here on a copy for the upstream is too much
_DIGESTED_BYTES = 2**18  # from the beginning and from the end
_MAX_VALUES = 1_000_000  # a value takes up to a hundred times its bytes as a Python object, and a while to be made
_MAX_LEVELS = 254  # what orjson can write; it reads deeper
_ESCAPED = b"\\u003"  # how the escape of a colon begins
_COLON, _BACKSLASH = 0x3A, 0x5C  # a search for a number skips the work of taking a bytes argument apart
_MODEL_AS_PLAIN_STRING = re.compile(rb'"model"[ \t\n\r]*+:[ \t\n\r]*+("[^"\\]*+")')

_USAGE_OPTION = b'"include_usage":true'
_STREAM_OPTIONS = b"{" + _USAGE_OPTION + b"}"

_lean_decoder = msgspec.json.Decoder()
_FEW_VALUES = 10_000  # which are looked at one by one
_LEAST_INT, _MOST_INT, _INFINITE = -(2**63), 2**64 - 1, (math.inf, -math.inf)
_MODEL = 0  # in the place of its name
_WINDOW_BYTES, _LONGEST_SIGN = 1 << 18, 64  # of what is searched at a time, and of what is searched for


class RequestBody(msgspec.Struct, eq=False):
    """A request's JSON object: bytes and values.

    `raw`, and `fields`, to read only: numbers may have lost precision.
    `mentions`: the models that it names elsewhere, set by whoever examines the fields. `adds_model`: if it has none.
    """

    content_type: ClassVar[str] = "application/json"

    raw: bytes
    fields: dict[str, Any]
    mentions: tuple[Mention, ...] = ()
    adds_model: bool = True
    size: int = 0  # of `raw`, in bytes
    _members: dict[str, Member] | None = None
    _pieces: dict[bool, list[Piece]] | None = None  # of a large one

    def __post_init__(self) -> None:
        self.size = len(self.raw)

    def __repr__(self) -> str:
        return f"<RequestBody bytes={len(self.raw)} members={len(self.fields)}>"

    def digest(self) -> bytes:
        """Digest the body at a cost independent of its size."""
        ends = self.raw[:_DIGESTED_BYTES], self.raw[-_DIGESTED_BYTES:]
        return blake2b(b"%d:%b%b" % (self.size, *ends), digest_size=16).digest()

    def may_concern_objects(self, operation: Operation) -> bool:
        """Whether it may name objects, or its answers bring some.

        By its bytes alone, and quick: a plain request pays for nothing of what others need.
        """
        learns_by = operation.learns_by
        if (learns_by is None or not learns_by.isdisjoint(self.fields)) and operation.brings_objects(self.fields):
            return True
        return may_have(operation.pins.signs, self.raw)

    def rewritten(self, model: str, mentioned: Sequence[str] = (), *, include_usage: bool = False) -> bytes:
        """Rewrite `raw` for the provider's `model`, without `modelId`.

        `stream_options.include_usage` is set if wanted, unless `stream_options` is neither an object nor null.
        `mentioned`: what takes the place of each of `mentions`. Every byte outside these members stays.
        """
        raw, fields = self.raw, self.fields
        if "model" in fields and not (include_usage or self.mentions or "modelId" in fields):
            if fields["model"] == model:
                return raw
            value = _lone_model_value(raw)
            if value is not None:
                start, end = value.span(1)
                return b"%b%b%b" % (raw[:start], orjson.dumps(model), raw[end:])
        return b"".join(self._parts(model, mentioned, include_usage))

    def upload(self, model: str, mentioned: Sequence[str] = (), *, include_usage: bool = False) -> bytes | SplicedBody:
        """The same, without a copy of what stays where that is much."""
        if len(self.raw) < _UPLOAD_BYTES:
            return self.rewritten(model, mentioned, include_usage=include_usage)
        return SplicedBody(self._parts(model, mentioned, include_usage))

    def _parts(self, model: str, mentioned: Sequence[str], include_usage: bool) -> list[bytes | memoryview]:
        pieces = self._pieces.get(include_usage) if self._pieces is not None else None
        if pieces is None:  # of a small one they are not kept: an open stream would hold more of them than of it
            pieces = spliced(self.raw, self._edits(include_usage))
        names = tuple(map(orjson.dumps, (model, *mentioned)))
        return [names[piece] if isinstance(piece, int) else piece for piece in pieces]

    def prepare(self) -> None:
        """Locate the edits of a body in which that takes long."""
        ways = (False, True) if self.fields.get("stream") is True else (False,)
        self._pieces = {include_usage: spliced(self.raw, self._edits(include_usage)) for include_usage in ways}

    def _edits(self, include_usage: bool) -> list[Edit]:
        edits: list[Edit] = []
        added: list[Text] = []
        if "model" in self.fields:
            edits.append(self._model_edit())
        elif self.adds_model:
            added.append((b'"model":', _MODEL))
        if "modelId" in self.fields:
            edits.append(self._removal("modelId"))
        if include_usage and "stream_options" not in self.fields:
            added.append((b'"stream_options":', _STREAM_OPTIONS))
        elif include_usage:
            edits += self._stream_options_edits()
        if added:
            edits.append(_addition(self.raw, added, followed=bool(self.fields.keys() - {"modelId"})))
        spans = Spans(self.raw, self.fields)
        edits += [(*spans.of(mention.path), (number,)) for number, mention in enumerate(self.mentions, start=1)]
        return edits

    def _model_edit(self) -> Edit:
        value = _lone_model_value(self.raw)
        if value is not None:
            return *value.span(1), (_MODEL,)
        member = self._located()["model"]
        return member.value, member.end, (_MODEL,)

    def _removal(self, key: str) -> Edit:
        """Return the edit that removes a member and a comma."""
        member = self._located()[key]
        members = list(self._located().values())
        place = members.index(member)
        if place + 1 < len(members):
            return member.start, members[place + 1].start, ()
        return members[place - 1].end if place else member.start, member.end, ()

    def _stream_options_edits(self) -> list[Edit]:
        options, member = self.fields["stream_options"], self._located()["stream_options"]
        if options is None:
            return [(member.value, member.end, (_STREAM_OPTIONS,))]
        if not isinstance(options, dict) or options.get("include_usage") is True:
            return []
        value = self.raw[member.value : member.end]
        if "include_usage" not in options:
            start, end, text = _addition(value, [(_USAGE_OPTION,)], followed=bool(options))
        else:
            _, start, end = locate_members(value, len(options))["include_usage"]
            text = (b"true",)
        return [(member.value + start, member.value + end, text)]

    def _located(self) -> dict[str, Member]:
        if self._members is None:
            self._members = locate_members(self.raw, len(self.fields))
        return self._members


def may_have(signs: tuple[bytes, ...], raw: bytes) -> bool:
    """Whether JSON may have one of these names, however it is spelled."""
    if not signs:
        return False
    if len(raw) > _WINDOW_BYTES:  # a copy of a part at a time, and others have their turn between them
        starts = range(0, len(raw), _WINDOW_BYTES - _LONGEST_SIGN)
        return any(may_have(signs, raw[at : at + _WINDOW_BYTES]) for at in starts)
    folded = raw.lower()
    for sign in signs:
        if folded.find(sign) >= 0:  # `in` takes the bytes for a number first, and makes an error of that
            return True
    if _BACKSLASH not in folded and folded.isascii():
        return False
    return any(folded.find(each) >= 0 for each in OTHER_SPELLINGS)


def size_of(raw: bytes) -> Size:
    """Measure a body; raise InvalidJson for over a million values."""
    size = measure(raw, _MAX_VALUES)
    if size is None:
        raise InvalidJson(f"The request body has too many values (more than {_MAX_VALUES:,}).")
    return size


def read_body(raw: bytes, size: Size | None = None) -> RequestBody:
    """Parse a request's body, which must be a JSON object.

    Raises InvalidJson, with the position where one is known: not JSON or not UTF-8 (nor can half a surrogate pair be
    escaped), not an object, a key given twice at any depth, nested more than 254 levels deep, more than a million
    values. Of the body itself the message holds at most a key's name. `fields` has 1e308 for a number beyond a double's
    range, such as 1e400. From `LARGE_BYTES` on it may take long, and then lets other threads have their turn.
    """
    if size is not None or len(raw) >= LARGE_BYTES:
        return _read_large(raw, size or size_of(raw))
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError as mistake:
        fields = _parsed_otherwise(raw, mistake)
    if type(fields) is not dict:
        raise InvalidJson(f"The request body must be a JSON object, not {_kind(fields)}.")
    try:
        written = orjson.dumps(fields)
    except TypeError:  # values that orjson has made itself can be refused for their depth only
        raise InvalidJson(_TOO_DEEP) from None
    # A key given twice loses a pair on the way into a dict, and so the colon between its key and value.
    colons = raw.count(_COLON)
    if raw.find(_ESCAPED) >= 0:
        colons += _count_escaped_colons(raw)
    if colons != written.count(_COLON):
        raise InvalidJson(repetition_in(raw))
    return RequestBody(raw, fields)


def _read_large(raw: bytes, size: Size) -> RequestBody:
    fields = _parsed_leanly(raw) if size.values <= _FEW_VALUES else None
    if fields is None:
        try:
            fields = orjson.loads(raw)
        except orjson.JSONDecodeError as mistake:
            fields = _parsed_otherwise(raw, mistake)
    if not isinstance(fields, dict):
        raise InvalidJson(f"The request body must be a JSON object, not {_kind(fields)}.")
    if size.members != _count_members(fields):
        raise InvalidJson(repetition_in(raw))
    return RequestBody(raw, fields)


def _parsed_leanly(raw: bytes) -> Any:
    """Parse in half of the memory; None where orjson has to judge.

    orjson copies what it reads first, which counts where texts are long; msgspec takes numbers that orjson does not.
    """
    try:
        parsed = _lean_decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    left = [parsed]
    for value in left:
        if type(value) is dict:
            left += value.values()
        elif type(value) is list:
            left += value
        elif (type(value) is int and not _LEAST_INT <= value <= _MOST_INT) or value in _INFINITE:
            return None
    return parsed


def _parsed_otherwise(raw: bytes, mistake: orjson.JSONDecodeError) -> Any:
    """Parse what was refused for nothing but a number beyond a double."""
    tamed = tame(raw)
    if tamed != raw:
        with contextlib.suppress(orjson.JSONDecodeError):
            return orjson.loads(tamed)
    raise InvalidJson(_malformation(raw, mistake)) from None  # the cause would hold the whole body


def _count_members(fields: dict[str, Any]) -> int:
    """Count the members of all objects, level by level."""
    members = 0
    level: list[Any] = [fields]
    for _ in range(_MAX_LEVELS):
        inner: list[Any] = []
        for each in level:
            if type(each) is dict:
                members += len(each)
                inner += [value for value in each.values() if type(value) is dict or type(value) is list]
            else:
                inner += [value for value in each if type(value) is dict or type(value) is list]
        if not inner:
            return members
        level = inner
    raise InvalidJson(_TOO_DEEP)


def _malformation(raw: bytes, error: orjson.JSONDecodeError) -> str:
    if not raw.strip(b" \t\n\r"):
        return "The request body is empty; a JSON object is expected."
    try:
        raw.decode()
    except UnicodeDecodeError as undecodable:
        return f"The request body is not valid UTF-8 (byte {undecodable.start})."
    if re.search("depth|recursion", error.msg, re.IGNORECASE):
        return _TOO_DEEP
    return f"The request body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})."


def _kind(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _count_escaped_colons(raw: bytes) -> int:
    """How many colons valid JSON spells as an escape."""
    unescaped = raw.replace(b"\\\\", b"")  # the first of each pair escapes the second, so neither escapes a `u`
    return unescaped.count(b"\\u003a") + unescaped.count(b"\\u003A")


def _lone_model_value(raw: bytes) -> re.Match[bytes] | None:
    """Find the top-level `model` if that is quick; group 1.

    An object's own key that is spelled without escapes stands in `raw` as `"model"`. Where these bytes occur only
    once, and no escape can spell a letter of it, they are that key. In a large body the members are as soon located.
    """
    if len(raw) < LARGE_BYTES and raw.count(b'"model"') == 1 and raw.find(b"\\u006") < 0:
        return _MODEL_AS_PLAIN_STRING.search(raw)
    return None


def _addition(json_object: bytes, members: list[Text], *, followed: bool) -> Edit:
    """Return the edit that adds members at an object's front."""
    text: list[bytes | int] = []
    for member in members:
        text += [b",", *member] if text else member
    place = json_object.index(b"{") + 1
    return place, place, (*text, b",") if followed else tuple(text)
