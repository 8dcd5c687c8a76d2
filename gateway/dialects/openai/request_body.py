"""Parse and rewrite a request's body, whose other bytes stay.

It is never serialised again but edited in place.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
import orjson

from gateway.dialects.openai.choosing import Mention, Path
from gateway.dialects.openai.repetition import repetition_in
from gateway.dialects.openai.scan import Size, measure, tame
from gateway.errors import InvalidJson

_TOO_DEEP = "The request body is nested too deeply (more than 254 levels)."
LARGE_BYTES = 1 << 16  # from here on a body is measured before it is parsed, which may take a while
_DIGESTED_BYTES = 2**18  # from the beginning and from the end
_MAX_VALUES = 1_000_000  # a value takes up to a hundred times its bytes as a Python object, and a while to be made
_MAX_LEVELS = 254  # what orjson can write; it reads deeper
_COLON, _BACKSLASH = 0x3A, 0x5C  # a search for a number skips the work of taking a bytes argument apart
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_KEY = re.compile(rb"[ \t\n\r{,]*+(" + _STRING + rb")[ \t\n\r]*+:[ \t\n\r]*+")
_BEFORE_ITEM = re.compile(rb"[ \t\n\r,]*+")
_MODEL_AS_PLAIN_STRING = re.compile(rb'"model"[ \t\n\r]*+:[ \t\n\r]*+("[^"\\]*+")')
_members_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items_decoder = msgspec.json.Decoder(list[msgspec.Raw])

_USAGE_OPTION = b'"include_usage":true'
_STREAM_OPTIONS = b"{" + _USAGE_OPTION + b"}"

# What comes into the body; a number stands for a name that is known only when a rewritten body is asked for: 0 for the
# model's, from 1 on for those of models that are named elsewhere.
_Text = tuple[bytes | int, ...]
_MODEL = 0
# Start and end of what goes, and what comes there. No two edits of a body have the same place.
_Edit = tuple[int, int, _Text]


class _Member(NamedTuple):
    """The offsets of one member of an object."""

    start: int
    value: int
    end: int


class RequestBody:
    """A request's JSON object: bytes and values.

    `raw`, and `fields`, to read only: numbers may have lost precision.
    `mentions`: the models that it names elsewhere, set by whoever examines the fields. `adds_model`: if it has none.
    """

    __slots__ = ("_members", "_pieces", "adds_model", "fields", "mentions", "raw", "size")

    content_type = "application/json"

    def __init__(self, raw: bytes, fields: dict[str, Any]) -> None:
        self.raw = raw
        self.size = len(raw)
        self.fields = fields
        self.mentions: tuple[Mention, ...] = ()
        self.adds_model = True
        self._members: dict[str, _Member] | None = None
        self._pieces: dict[bool, list[bytes | memoryview | int]] = {}

    def __repr__(self) -> str:
        return f"<RequestBody bytes={len(self.raw)} members={len(self.fields)}>"

    def digest(self) -> bytes:
        """Digest the body at a cost independent of its size."""
        ends = self.raw[:_DIGESTED_BYTES], self.raw[-_DIGESTED_BYTES:]
        return blake2b(b"%d:%b%b" % (self.size, *ends), digest_size=16).digest()

    def rewritten(self, model: str, mentioned: Sequence[str] = (), *, include_usage: bool = False) -> bytes:
        """Rewrite `raw` for the provider's `model`, without `modelId`.

        `stream_options.include_usage` is set if wanted, unless `stream_options` is neither an object nor null.
        `mentioned`: what takes the place of each of `mentions`. Every byte outside these members stays.
        """
        if not include_usage and "modelId" not in self.fields and not self.mentions:
            if self.fields.get("model") == model:
                return self.raw
            span = _lone_model_value(self.raw) if "model" in self.fields else None
            if span is not None:
                return b"".join((self.raw[: span[0]], orjson.dumps(model), self.raw[span[1] :]))
        pieces = self._pieces.get(include_usage)
        if pieces is None:
            pieces = self._pieces[include_usage] = _spliced(self.raw, self._edits(include_usage))
        names = tuple(map(orjson.dumps, (model, *mentioned)))
        return b"".join([names[piece] if isinstance(piece, int) else piece for piece in pieces])

    def prepare(self) -> None:
        """Locate the edits of a body in which that takes long."""
        for include_usage in (False, True) if self.fields.get("stream") is True else (False,):
            self._pieces[include_usage] = _spliced(self.raw, self._edits(include_usage))

    def _edits(self, include_usage: bool) -> list[_Edit]:
        edits: list[_Edit] = []
        added: list[_Text] = []
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
        spans = _Spans(self.raw)
        edits += [(*spans.of(mention.path), (number,)) for number, mention in enumerate(self.mentions, start=1)]
        return edits

    def _model_edit(self) -> _Edit:
        span = _lone_model_value(self.raw)
        if span is None:
            member = self._located()["model"]
            span = member.value, member.end
        return *span, (_MODEL,)

    def _removal(self, key: str) -> _Edit:
        """Return the edit that removes a member and a comma."""
        member = self._located()[key]
        members = list(self._located().values())
        place = members.index(member)
        if place + 1 < len(members):
            return member.start, members[place + 1].start, ()
        return members[place - 1].end if place else member.start, member.end, ()

    def _stream_options_edits(self) -> list[_Edit]:
        options, member = self.fields["stream_options"], self._located()["stream_options"]
        if options is None:
            return [(member.value, member.end, (_STREAM_OPTIONS,))]
        if not isinstance(options, dict) or options.get("include_usage") is True:
            return []
        value = self.raw[member.value : member.end]
        if "include_usage" not in options:
            start, end, text = _addition(value, [(_USAGE_OPTION,)], followed=bool(options))
        else:
            _, start, end = _locate_members(value)["include_usage"]
            text = (b"true",)
        return [(member.value + start, member.value + end, text)]

    def _located(self) -> dict[str, _Member]:
        if self._members is None:
            self._members = _locate_members(self.raw)
        return self._members


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
    if size is None and len(raw) >= LARGE_BYTES:
        size = size_of(raw)
    fields = _parse(raw)
    if not isinstance(fields, dict):
        raise InvalidJson(f"The request body must be a JSON object, not {_kind(fields)}.")
    if _has_repetition(raw, fields) if size is None else size.members != _count_members(fields):
        raise InvalidJson(repetition_in(raw))
    return RequestBody(raw, fields)


def member_value(raw: bytes, key: str) -> tuple[int, int]:
    """Locate the value of a member of a JSON object."""
    member = _locate_members(raw)[key]
    return member.value, member.end


def _parse(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        mistake = error
    tamed = tame(raw)
    if tamed != raw:  # it may have been refused for nothing but a number beyond a double
        with contextlib.suppress(orjson.JSONDecodeError):
            return orjson.loads(tamed)
    raise InvalidJson(_malformation(raw, mistake)) from None  # the cause would hold the whole body


def _has_repetition(raw: bytes, fields: dict[str, Any]) -> bool:
    """Whether a key occurs twice."""
    try:
        written = orjson.dumps(fields)
    except TypeError:  # values that orjson has made itself can be refused for their depth only
        raise InvalidJson(_TOO_DEEP) from None
    # A key given twice loses a pair on the way into a dict, and so the colon between its key and value.
    return raw.count(_COLON) + _count_escaped_colons(raw) != written.count(_COLON)


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
    if _BACKSLASH not in raw or b"\\u003" not in raw:
        return 0
    unescaped = raw.replace(b"\\\\", b"")  # the first of each pair escapes the second, so neither escapes a `u`
    return unescaped.count(b"\\u003a") + unescaped.count(b"\\u003A")


def _locate_members(raw: bytes) -> dict[str, _Member]:
    """The members of a valid JSON object, in order."""
    members, at = {}, 0
    for key, value in _members_decoder.decode(raw).items():
        name = _KEY.match(raw, at)
        assert name is not None  # noqa: S101 - the decoder has just read it
        at = name.end() + memoryview(value).nbytes
        members[key] = _Member(name.start(1), name.end(), at)
    return members


def _locate_items(raw: bytes) -> list[tuple[int, int]]:
    """Where the items of a valid JSON array stand, in order."""
    items, at = [], raw.index(b"[") + 1
    for value in _items_decoder.decode(raw):
        gap = _BEFORE_ITEM.match(raw, at)
        assert gap is not None  # noqa: S101 - it matches nothing, too
        at = gap.end() + memoryview(value).nbytes
        items.append((gap.end(), at))
    return items


class _Spans:
    """Locate values within a body by their paths."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._within: dict[Path, dict[str | int, tuple[int, int]]] = {}

    def of(self, path: Path) -> tuple[int, int]:
        start, end = 0, len(self._raw)
        for level, step in enumerate(path):
            found = self._within.get(path[:level])
            if found is None:
                found = self._within[path[:level]] = self._located(start, end, step)
            start, end = found[step]
        return start, end

    def _located(self, start: int, end: int, step: str | int) -> dict[str | int, tuple[int, int]]:
        value = self._raw[start:end]
        if isinstance(step, str):
            members = _locate_members(value).items()
            return {key: (start + member.value, start + member.end) for key, member in members}
        return {place: (start + at, start + to) for place, (at, to) in enumerate(_locate_items(value))}


def _lone_model_value(raw: bytes) -> tuple[int, int] | None:
    """Locate the value of the top-level `model`, if that is quick.

    An object's own key that is spelled without escapes stands in `raw` as `"model"`. Where these bytes occur only
    once, and no escape can spell a letter of it, they are that key. In a large body the members are as soon located.
    """
    if len(raw) >= LARGE_BYTES or raw.count(b'"model"') != 1 or (_BACKSLASH in raw and b"\\u006" in raw):
        return None
    value = _MODEL_AS_PLAIN_STRING.search(raw)
    return value.span(1) if value else None


def _addition(json_object: bytes, members: list[_Text], *, followed: bool) -> _Edit:
    """Return the edit that adds members at an object's front."""
    text: list[bytes | int] = []
    for member in members:
        text += [b",", *member] if text else member
    place = json_object.index(b"{") + 1
    return place, place, (*text, b",") if followed else tuple(text)


def _spliced(raw: bytes, edits: Iterable[_Edit]) -> list[bytes | memoryview | int]:
    """The pieces of the edited body; views, not copies, of what stays."""
    view, at = memoryview(raw), 0
    pieces: list[bytes | memoryview | int] = []
    for start, end, text in sorted(edits):
        pieces += (view[at:start], *text)
        at = end
    pieces.append(view[at:])
    return pieces
