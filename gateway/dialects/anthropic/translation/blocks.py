"""The content blocks of a streamed message, one open at a time.

Chat completions may tell of several calls in turn; Messages give one block after the other. What belongs to a later
block waits until the one before it is complete: a text is so when anything follows it, a call when its arguments are
one whole object, everything at the end.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any

import msgspec
import orjson

from gateway.dialects.anthropic.translation.completion import UntranslatableAnswer, function_of
from gateway.dialects.anthropic.translation.hints import Json

MOST_HELD_CHARACTERS = 4 << 20
_MARK = re.compile(r'[{}"]|\\.|\\\Z', re.DOTALL)


class ObjectScan:
    """Find the end of a JSON object that comes in pieces.

    Braces outside of texts are counted: nothing is looked at twice.
    """

    __slots__ = ("_escaped", "_in_text", "_levels", "is_over")

    def __init__(self) -> None:
        self.is_over = False
        self._levels = 0
        self._in_text = False
        self._escaped = False

    def feed(self, piece: str) -> None:
        start = 1 if self._escaped else 0
        self._escaped = False
        for found in _MARK.finditer(piece, start):
            mark = found[0]
            if self._in_text:
                self._escaped = mark == "\\"  # the last character: what it escapes is in the next piece
                self._in_text = mark != '"'
            elif mark == '"':
                self._in_text = True
            elif mark == "{":
                self._levels += 1
            elif mark == "}":
                self._levels -= 1
                self.is_over = self.is_over or self._levels == 0


class Block(msgspec.Struct, eq=False):
    """A text, or a call of a tool."""

    is_call: bool = False
    id: str = ""
    name: str = ""
    pieces: list[str] = []  # what waits
    is_open: bool = False
    is_closed: bool = False
    scan: ObjectScan | None = None  # of a call's arguments

    def is_complete(self) -> bool:
        return self.scan is None or self.scan.is_over


class Blocks:
    """Order the pieces of a stream into content blocks.

    Every method returns the events that are due.
    """

    __slots__ = ("_calls", "_held", "_index", "_newest", "_request_id", "_waiting", "has_calls")

    def __init__(self, request_id: str) -> None:
        self.has_calls = False
        self._request_id = request_id
        self._waiting: deque[Block] = deque()  # the first is open, or about to be
        self._newest: Block | None = None
        self._calls: dict[Any, Block] = {}  # by the upstream's index
        self._index = 0  # of the first
        self._held = 0

    def __repr__(self) -> str:
        return f"<Blocks index={self._index} waiting={len(self._waiting)}>"

    def text(self, piece: str) -> bytes:
        block = self._newest
        if block is None or block.is_call:
            block = self._begin(Block(pieces=[]))
        if block.is_open:
            return _delta(self._index, b"text_delta", b"text", piece)
        return self._keep(block, piece)

    def call(self, delta: Json, place: int) -> bytes:
        """Take a delta of a call.

        `place`: where it stands among those of its chunk.
        """
        function = function_of(delta)
        block = self._called(delta, place)
        name, arguments = function.get("name"), function.get("arguments")
        if isinstance(name, str) and not block.name:
            block.name = name
        if isinstance(arguments, dict):
            arguments = orjson.dumps(arguments).decode()
        if not isinstance(arguments, str) or not arguments:
            return self._advance()
        if block.is_closed:
            if arguments.strip():
                raise UntranslatableAnswer("it goes on with a call that was complete")
            return b""
        if block.scan is not None:
            block.scan.feed(arguments)
        return self._keep(block, arguments)

    def end(self) -> bytes:
        """Close everything."""
        events = [self._advance()]
        while self._waiting:
            if self._waiting[0].is_call and not self._waiting[0].name:
                raise UntranslatableAnswer("it calls a tool without a name")
            events += (self._open(self._waiting[0]), self._close())
        return b"".join(events)

    def _called(self, delta: Json, place: int) -> Block:
        """Return the call that a delta belongs to.

        Some upstreams give each call the index 0, or none.
        """
        index, identity = delta.get("index"), delta.get("id")
        key = index if isinstance(index, int) else place
        known = self._calls.get(key)
        if isinstance(identity, str) and identity and known is not None and known.id != identity:
            known = None
        if known is None:
            given = identity if isinstance(identity, str) and identity else f"toolu_{self._request_id}_{self._count()}"
            known = self._calls[key] = self._begin(Block(is_call=True, id=given, pieces=[], scan=ObjectScan()))
            self.has_calls = True
        return known

    def _count(self) -> int:
        return self._index + len(self._waiting)

    def _begin(self, block: Block) -> Block:
        self._waiting.append(block)
        self._newest = block
        return block

    def _keep(self, block: Block, piece: str) -> bytes:
        self._held += len(piece)
        if self._held > MOST_HELD_CHARACTERS:
            raise UntranslatableAnswer("it holds back more than can be kept")
        block.pieces.append(piece)
        return self._advance()

    def _advance(self) -> bytes:
        """Send what is due of the first block.

        Where it is complete, of the next as well.
        """
        events: list[bytes] = []
        while self._waiting:
            first = self._waiting[0]
            if first.is_call and not first.name:
                break
            events.append(self._open(first))
            if len(self._waiting) == 1 or not first.is_complete():
                break
            events.append(self._close())
        return b"".join(events)

    def _open(self, block: Block) -> bytes:
        """Begin a block, once, and send what it has."""
        events = b""
        if not block.is_open:
            block.is_open = True
            start: Json = {"type": "text", "text": ""}
            if block.is_call:
                start = {"type": "tool_use", "id": block.id, "name": block.name, "input": {}}
            events = event(
                b"content_block_start", {"type": "content_block_start", "index": self._index, "content_block": start}
            )
        due, block.pieces = "".join(block.pieces), []
        if not due:
            return events
        self._held -= len(due)
        kind, field = (b"input_json_delta", b"partial_json") if block.is_call else (b"text_delta", b"text")
        return events + _delta(self._index, kind, field, due)

    def _close(self) -> bytes:
        block = self._waiting.popleft()
        block.is_open, block.is_closed = False, True
        if block is self._newest:
            self._newest = None
        closed = event(b"content_block_stop", {"type": "content_block_stop", "index": self._index})
        self._index += 1
        return closed


def event(name: bytes, data: Json) -> bytes:
    """Write one event of a stream of Messages."""
    return b"event: %b\ndata: %b\n\n" % (name, orjson.dumps(data))


def _delta(index: int, kind: bytes, field: bytes, piece: str) -> bytes:
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":%b}}\n\n'
        % (index, kind, field, orjson.dumps(piece))
    )
