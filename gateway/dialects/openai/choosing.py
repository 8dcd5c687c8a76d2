"""Fields by which a request chooses: refused, misspelled, other models.

Models named beside `model`.

Go's encoding/json and .NET read `Model` as `model`. What we take for an unknown field, such an upstream takes for the
field itself, and so for another model or a longer answer than the one that was granted and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from gateway.dialects.openai.shapes import printable
from gateway.errors import FieldNotAllowed, InvalidMultipart, InvalidRequest

Path = tuple[str | int, ...]

GUARDED = (
    "model",
    "modelId",
    "stream",
    "stream_options",
    "n",
    "best_of",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
)
# Fields of every day that choose nothing, so that they need not be looked at any closer.
_HARMLESS = frozenset(
    """messages prompt temperature top_p tool_choice response_format stop seed user metadata store text reasoning
    instructions frequency_penalty presence_penalty logit_bias logprobs top_logprobs parallel_tool_calls
    reasoning_effort service_tier previous_response_id include truncation encoding_format dimensions voice speed size
    quality functions function_call modalities prediction verbosity prompt_cache_key safety_identifier""".split()  # noqa: SIM905
)
_HARMLESS_IN_TOOLS = frozenset(("type", "name", "description", "parameters", "strict", "function", "input_schema"))
_HARMLESS_IN_ITEMS = frozenset(("type", "role", "content", "id", "status", "call_id", "name", "arguments", "output"))
_OF_CALLERS = frozenset(("function", "custom"))  # tools whose parameters are the caller's own schema
_SESSIONS = frozenset(("session", "audio", "input", "output"))
_NAMING = frozenset(("moderation", "advisor", "session"))  # objects whose `model` is one
# Of forms:
_DECIDING = ("model", "modelId", "stream")
_TRUE = frozenset(("true", "1", "yes", "on", "t", "y"))  # as pydantic reads a form's field, and so most upstreams
_FALSE = frozenset(("false", "0", "no", "off", "f", "n"))
_MOST_LEVELS = 8
_MOST_MENTIONS = 1_000


class Mention(NamedTuple):
    """A model named elsewhere than in `model`: its path and use."""

    path: Path
    value: Any

    @property
    def param(self) -> str:
        """Return the path for an error, such as `tools[0].model`."""
        return spelled(self.path)


def fold(key: str) -> str:
    """Fold a key's case, as Go and .NET compare it."""
    return key.lower().replace("ſ", "s")  # `lower` has made a k of the Kelvin sign already


def spelled(path: Path) -> str:
    """Write a path as `tools[0].model`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return printable(text.removeprefix("."))


class Fields:
    """Which fields a gateway takes. `refused`: those of `routing.refuse_fields`.

    `harmless`: a body that has no others is not to be examined.
    """

    __slots__ = ("_folded", "_refused", "harmless")

    def __init__(self, refused: tuple[str, ...]) -> None:
        self._refused = frozenset(refused)
        self._folded = {fold(name) for name in (*refused, *GUARDED)}
        known = _HARMLESS.union(GUARDED) - self._refused
        self.harmless = frozenset(name for name in known if name in GUARDED or fold(name) not in self._folded)

    def examine(self, fields: Mapping[str, Any]) -> tuple[Mention, ...]:
        """Find the models that a body names elsewhere. Raises FieldNotAllowed or InvalidRequest."""
        if self.harmless.issuperset(fields):
            return ()
        unusual = [key for key in fields if key not in self.harmless]
        for key in unusual:
            if key in self._refused:
                raise FieldNotAllowed(f"This gateway does not take the field `{printable(key)}`.", param=key)
            if fold(key) in self._folded:
                raise _misspelled((key,))
        found = tuple(islice(_mentions({key: fields[key] for key in unusual}, (), 0), _MOST_MENTIONS + 1))
        if len(found) > _MOST_MENTIONS:
            raise InvalidRequest(f"The request names more than {_MOST_MENTIONS:,} models.")
        return found


@lru_cache(maxsize=8)
def allowed_fields(refused: tuple[str, ...]) -> Fields:
    """The rules for one `routing.refuse_fields`, made once."""
    return Fields(refused)


def _mentions(found: Mapping[str, Any], path: Path, level: int) -> Iterator[Mention]:
    """Yield the models that an object names.

    A body, a session or what is within one.
    """
    if level > _MOST_LEVELS:
        return
    for key, value in found.items():
        name, here = fold(key), (*path, key)
        if isinstance(value, dict):
            if name in _NAMING or name.endswith("transcription"):
                yield from _named_in(value, here)
            if name in _SESSIONS:
                yield from _mentions(value, here, level + 1)
        elif isinstance(value, list):
            if name in ("tools", "plugins"):
                yield from _in_tools(value, here, level)
            elif name == "input":
                yield from _in_items(value, here)


def _in_tools(tools: list[Any], path: Path, level: int) -> Iterator[Mention]:
    for place, tool in enumerate(tools):
        if not isinstance(tool, dict):
            continue
        here = (*path, place)
        if tool.get("type") not in _OF_CALLERS:
            yield from _within(tool, ("parameters",), here)
        if tool.keys() <= _HARMLESS_IN_TOOLS:
            continue
        yield from _named_in(tool, here)
        if level < _MOST_LEVELS:
            yield from _mentions(tool, here, level + 1)


def _in_items(items: list[Any], path: Path) -> Iterator[Mention]:
    """Tools may be handed in late, as an item of a conversation."""
    for place, item in enumerate(items):
        if isinstance(item, dict) and not item.keys() <= _HARMLESS_IN_ITEMS:
            for key, value in item.items():
                if fold(key) == "tools" and isinstance(value, list):
                    yield from _in_tools(value, (*path, place, key), 1)


def _within(tool: dict[str, Any], names: tuple[str, ...], path: Path) -> Iterator[Mention]:
    """Yield the models in a provider tool's own settings.

    They stand in an object within it.
    """
    for name in names:
        settings = tool.get(name)
        if isinstance(settings, dict) and not isinstance(settings.get("model"), dict):
            yield from _named_in(settings, (*path, name))


def _named_in(found: dict[str, Any], path: Path) -> Iterator[Mention]:
    for key, value in found.items():
        if value is not None and len(key) == len("model") and fold(key) == "model":
            if key != "model":
                raise _misspelled((*path, key))
            yield Mention((*path, key), value)


def _misspelled(path: Path) -> FieldNotAllowed:
    return FieldNotAllowed(
        f"The field `{spelled(path)}` is spelled in another case than one that this gateway reads.",
        param=spelled(path) if len(path) > 1 else str(path[0]),
    )


class FormFields:
    """Which fields forms may have. `refused`: those of `routing.refuse_fields`.

    Upstreams differ in how they read a form: some take the first of two fields, some the last, some fold their case or
    read `model[]` as `model`. What could be read as another model than the one that is granted is refused.
    """

    __slots__ = ("_deciding", "_guarded", "_refused")

    def __init__(self, refused: tuple[str, ...]) -> None:
        self._refused = frozenset(refused)
        self._deciding = {fold(name): name for name in (*refused, *_DECIDING)}
        self._guarded = {fold(name): name for name in GUARDED}

    def judge(self, name: str, before: set[str], *, is_file: bool) -> None:
        """Judge a field by its name and those that came `before`.

        Raises InvalidMultipart where two readings of it are possible, FieldNotAllowed where it is another spelling of a
        field that counts.
        """
        plain = fold(name.partition("[")[0].strip())
        meant = self._deciding.get(plain)
        if meant is None:
            meant = self._guarded.get(plain)
            if meant is None:
                return
            if name != meant:
                raise _spelled_otherwise(name, meant)
        elif name != meant:
            raise InvalidMultipart(f"The form spells the field `{meant}` in another way.")
        if is_file:
            raise InvalidMultipart(f"The form has the field `{meant}` as a file.")
        if name in before:
            raise InvalidMultipart(f"The form has the field `{meant}` twice.")

    def refuse(self, names: set[str]) -> None:
        """Raise FieldNotAllowed for a refused field of a form that is whole."""
        found = sorted(self._refused & names)
        if found:
            raise FieldNotAllowed(f"This gateway does not take the field `{printable(found[0])}`.", param=found[0])


@lru_cache(maxsize=8)
def form_fields(refused: tuple[str, ...]) -> FormFields:
    """The rules for one `routing.refuse_fields`, made once."""
    return FormFields(refused)


def form_value(name: str, text: str) -> str | bool:
    """What a form's text means: `stream` is a boolean."""
    if name == "stream":
        asked = text.strip().lower()
        if asked in _TRUE:
            return True
        if asked in _FALSE:
            return False
    return text


def _spelled_otherwise(name: str, meant: str) -> FieldNotAllowed:
    return FieldNotAllowed(
        f"The field `{printable(name)}` is spelled in another way than `{meant}`, which this gateway reads.",
        param=printable(name),
    )
