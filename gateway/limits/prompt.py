"""How large a prompt is, from a request's body.

Text counts by its bytes, whatever it looks like. Pictures, sounds and files count a fixed number each, and are known by
their place alone: a text that claims to be base64 is a text. Such places exist only within the fields that the
operation names; what stands in a tool's description or in a call's arguments is shown to the model as it is written.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from gateway.dialects.base import PromptFields

BYTES_PER_TOKEN = 4
# A picture, sound or file within a message, whatever its size: what a picture costs with common models.
ATTACHMENT_TOKENS = 800
_FLOAT_BYTES = 8
# A body of many tiny values takes long to walk through: beyond so many, its length has to do.
_FREE_STEPS, _BYTES_PER_STEP = 2_000, 32
_ITEMS_PER_STEP = 64  # of a list of nothing but numbers or texts, which is taken as a whole
# Within these the model's own words and its tools' stand, which no upstream takes for a picture.
_WITHOUT_PARTS = frozenset(("tool_calls", "function_call", "arguments", "parameters", "tools", "metadata"))
_ATTACHMENT_TYPES = frozenset(("image_url", "input_image", "input_audio", "file", "input_file"))
# A place of binary data: its key in a part, and the keys under which the data may stand where it is an object.
_PLACES: Mapping[str, frozenset[str]] = {
    "image_url": frozenset(("url",)),
    "input_image": frozenset(("image_url", "url", "data")),
    "input_audio": frozenset(("data",)),
    "input_file": frozenset(("file_data",)),
    "file": frozenset(("file_data",)),
    "file_data": frozenset(),
    "source": frozenset(("data",)),
    "result": frozenset(),
}


def walked(fields: Mapping[str, Any], body_size: int, prompt: PromptFields) -> int:
    """Estimate a prompt's tokens by a walk through the body."""
    return _Walk(body_size).measure(fields, prompt.with_parts)


class _Walk:
    """Walk through a body once, without recursion: bodies nest deeply."""

    __slots__ = ("binary_bytes", "body_size", "left", "steps", "text_bytes", "tokens")

    def __init__(self, body_size: int) -> None:
        self.body_size = body_size
        self.steps = _FREE_STEPS + body_size // _BYTES_PER_STEP
        self.text_bytes = 0
        self.tokens = 0
        self.binary_bytes = 0
        self.left: list[tuple[Any, bool]] = []  # values yet to be looked at, and whether parts may be among them

    def measure(self, fields: Mapping[str, Any], with_parts: frozenset[str]) -> int:
        for name, value in fields.items():
            if type(value) in (str, dict, list):  # not the request's own settings
                self._take(value, name in with_parts)
        while self.left and self.steps >= 0:
            value, has_parts = self.left.pop()
            if type(value) is dict:
                self._enter_object(value, has_parts)
            else:
                self._enter_list(value, has_parts)
        counted = self.tokens + self.text_bytes // BYTES_PER_TOKEN
        if self.steps >= 0:
            return counted
        return max(counted, (self.body_size - self.binary_bytes) // BYTES_PER_TOKEN)

    def _enter_object(self, value: dict[str, Any], has_parts: bool) -> None:
        self.steps -= 1 + len(value)
        self.text_bytes += _size("".join(value))
        if not has_parts:
            for inner in value.values():
                self._take(inner, False)
            return
        kind = value.get("type")
        found = False
        for key, inner in value.items():
            if key in _PLACES and self._is_binary(key, inner, kind):
                found = True
            else:
                self._take(inner, key not in _WITHOUT_PARTS and not (key == "input" and kind == "tool_use"))
        if found or (type(kind) is str and kind in _ATTACHMENT_TYPES):
            self.tokens += ATTACHMENT_TOKENS

    def _is_binary(self, key: str, value: Any, kind: object) -> bool:
        """Whether binary data stands here.

        What stands beside it in an object is text.
        """
        if key == "result" and kind != "image_generation_call":
            return False
        if type(value) is str:
            if key in ("source", "file"):  # an address, a name
                return False
            self.binary_bytes += len(value)
            return True
        if type(value) is not dict or (key == "source" and value.get("type") != "base64"):
            return False
        return self._holds_binary(value, _PLACES[key])

    def _holds_binary(self, value: dict[str, Any], places: Container[str]) -> bool:
        binary = {name for name, inner in value.items() if name in places and type(inner) is str}
        if not binary:
            return False
        for name, inner in value.items():
            if name in binary:
                self.binary_bytes += len(inner)
            else:
                self._take(inner, False)
        return True

    def _enter_list(self, value: list[Any], has_parts: bool) -> None:
        self.steps -= 1 + len(value) // _ITEMS_PER_STEP
        kinds = set(map(type, value))
        if kinds == {int}:  # a prompt of tokens
            self.tokens += len(value)
        elif kinds == {str}:
            self.text_bytes += max(_size("".join(value)), BYTES_PER_TOKEN * len(value))  # each at least a token
        elif len(value) <= self.steps:
            self.steps -= len(value)
            for each in value:
                self._take(each, has_parts)
        else:
            self.steps = -1

    def _take(self, value: Any, has_parts: bool) -> None:
        kind = type(value)
        if kind is str:
            self.text_bytes += _size(value)
        elif kind is dict or kind is list:
            if value:
                self.left.append((value, has_parts))
        elif kind is float:
            self.text_bytes += _FLOAT_BYTES
        else:
            self.tokens += kind is int


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
