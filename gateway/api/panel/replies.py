"""Extract a reader's text from a model's answer, whatever its shape.

Never null, never an object printed out.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.dialects.openai import printable

# A reply is held whole, to be told once more at its end. Whatever is longer is no reply but an upstream gone wild.
MOST_CHARACTERS = 16 * 2**20
_MOST_TOOLS_NAMED = 3
_LONGEST_TOOL_NAME = 64
_LONGEST_FINISH_REASON = 64

_CALLS_TOOLS = "The model wanted to use a tool ({}) instead of answering, and there are none in this chat."
_SILENCES = {
    "content_filter": "The model's answer was held back by its provider's content filter.",
    "length": "The model ran out of room before it came to an answer. Please ask for something shorter.",
}
_SILENCE = "The model had no answer to this. Please try to put it another way."


class Transcript:
    """Collect a model's text from whole completions or chunks.

    `reply` is always the sum of what `hear`, `say` and `conclude` have returned. After `conclude` it is not blank.
    """

    __slots__ = ("_halves", "_pieces", "_size", "_tools", "finish_reason")

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._pieces: list[str] = []
        self._size = 0
        self._tools: list[str] = []
        # Some servers cut text between the two halves of a UTF-16 pair; neither half could be written as UTF-8.
        self._halves = codecs.getincrementaldecoder("utf-16-le")("replace")

    @property
    def reply(self) -> str:
        return "".join(self._pieces)

    @property
    def is_too_long(self) -> bool:
        return self._size > MOST_CHARACTERS

    def add(self, document: Mapping[str, Any]) -> str:
        """Add a completion or a chunk; return its text."""
        choice = _first_choice(document)
        finish_reason = choice.get("finish_reason")
        if isinstance(finish_reason, str):
            self.finish_reason = printable(finish_reason, _LONGEST_FINISH_REASON)
        message = _first_object(choice.get("message"), choice.get("delta"))
        self._note_tools(message)
        texts = (_text_in(message.get("content")), _text_in(message.get("refusal")), _text_in(choice.get("text")))
        return self.add_text("".join(texts))

    def add_text(self, text: str) -> str:
        """Add text; return what of it is whole.

        Half a character waits for its other half.
        """
        return self._add(self._halves.decode(text.encode("utf-16-le", "surrogatepass"))) if text else ""

    def conclude(self) -> str:
        """End the transcript; return the text that is left.

        Some words where the model has found none.
        """
        rest = self._add(self._halves.decode(b"", final=True))
        if any(piece.strip() for piece in self._pieces):
            return rest
        return rest + self._add(self._why_silent())

    def _add(self, text: str) -> str:
        if text:
            self._pieces.append(text)
            self._size += len(text)
        return text

    def _note_tools(self, message: Mapping[str, Any]) -> None:
        calls = message.get("tool_calls")
        functions = [_first_object(call).get("function") for call in calls] if isinstance(calls, list) else []
        for function in [*functions, message.get("function_call")]:
            name = _first_object(function).get("name")
            if isinstance(name, str) and name and len(self._tools) < _MOST_TOOLS_NAMED:
                self._tools.append(printable(name, _LONGEST_TOOL_NAME))

    def _why_silent(self) -> str:
        if self._tools:
            return _CALLS_TOOLS.format(", ".join(self._tools))
        return _SILENCES.get(self.finish_reason or "", _SILENCE)

    def __repr__(self) -> str:
        return f"<Transcript of {self._size} characters, finish reason {self.finish_reason}>"


def transcript_of(body: bytes) -> Transcript | None:
    """Return a whole answer's transcript; None for no chat completion."""
    document = parsed(body)
    if document is None or not isinstance(document.get("choices"), list):
        return None
    transcript = Transcript()
    transcript.add(document)
    transcript.conclude()
    return transcript


def parsed(payload: bytes) -> dict[str, Any] | None:
    """Parse a payload's JSON object; None for all else.

    What is not UTF-8 in it reads as U+FFFD.
    """
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        document = _parsed_leniently(payload)
    return document if isinstance(document, dict) else None


def _parsed_leniently(payload: bytes) -> object:
    """Parse JSON with half a surrogate pair, which orjson refuses."""
    try:
        return json.loads(payload.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def _first_choice(document: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = document.get("choices")
    return _first_object(*choices[:1]) if isinstance(choices, list) else {}


def _first_object(*values: object) -> Mapping[str, Any]:
    return next((value for value in values if isinstance(value, dict)), {})


def _text_in(content: object) -> str:
    """Return the text of a content.

    A string, or the text of its parts (`text`, or a part's `refusal`) joined.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [_first_object(part) for part in content]
    texts = [part.get("text") or part.get("refusal") for part in parts]
    return "".join([text for text in texts if isinstance(text, str)])
