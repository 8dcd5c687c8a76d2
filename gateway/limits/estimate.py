"""Tokens where nobody tells them: those to reserve for a request, and those of an answer whose upstream reports none.

A token is taken for four bytes of text, which is near the truth for English and code. Estimates guide admission and
label themselves in the ledger (`estimated`); what an upstream reports always replaces them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

BYTES_PER_TOKEN = 4
# What an answer is taken for where the request sets no bound: about 200 words.
DEFAULT_ANSWER_TOKENS = 256
# A picture, sound or file within a message, whatever its size: what a picture costs with common models.
ATTACHMENT_TOKENS = 800
_MOST_TOKENS = 10**9  # what is reserved at most, lest nonsense in a body overflow a counter
_LONG_TEXT_BYTES = 2_000  # beyond it a string is looked at: it may be a picture in base64
_SMALL_BODY_BYTES = 4_000  # up to it the body's own length tells enough
_ATTACHMENT_PARTS = frozenset(("image_url", "input_image", "input_audio", "file", "input_file"))
_ANSWER_BOUNDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_REPEATS = ("n", "best_of")
_PROMPTS = ("messages", "prompt", "input", "instructions", "tools", "functions", "suffix", "response_format", "text")
_WITHOUT_ANSWER_TOKENS = frozenset(("embeddings", "moderations", "audio/speech", "images/generations"))


class EstimatedUsage(NamedTuple):
    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


def reserved_tokens(fields: Mapping[str, Any], body_size: int, route: str) -> int:
    """Tokens to reserve for a request: its prompt, and the largest answer that it allows for.

    `fields` is the parsed body, `body_size` its length in bytes, `route` the path behind the prefix
    (`chat/completions`). Answers count `max_completion_tokens`, `max_tokens` or `max_output_tokens` (else 256), times
    `n` or `best_of`, whichever is more; routes whose results are not text count none. Values of wrong types count as
    absent: to refuse them is the upstream's business. Always between 1 and a billion.
    """
    tokens = prompt_tokens(fields, body_size)
    if route.strip("/") not in _WITHOUT_ANSWER_TOKENS:
        tokens += _answer_tokens(fields) * _repeats(fields)
    return max(1, min(tokens, _MOST_TOKENS))


def prompt_tokens(fields: Mapping[str, Any], body_size: int) -> int:
    """The prompt's tokens, at least 1. Attachments count a fixed number each, not the length of their base64."""
    if body_size <= _SMALL_BODY_BYTES:
        return max(1, body_size // BYTES_PER_TOKEN)
    return max(1, _tokens_within([fields[name] for name in _PROMPTS if name in fields]))


def estimated_tokens(text_bytes: int) -> int:
    """Tokens of so many bytes (or characters) of text, at least 1."""
    return max(1, -(-text_bytes // BYTES_PER_TOKEN))


def estimated_usage(prompt: int, answer_bytes: int) -> EstimatedUsage:
    """The usage of an answer that tells none: `prompt` as `prompt_tokens` estimates it, and the answer's text seen.

    An answer of which nothing was seen (`answer_bytes` 0) has no completion tokens.
    """
    return EstimatedUsage(prompt, estimated_tokens(answer_bytes) if answer_bytes > 0 else 0)


def _answer_tokens(fields: Mapping[str, Any]) -> int:
    for name in _ANSWER_BOUNDS:
        bound = _whole(fields.get(name))
        if bound is not None:
            return bound
    return DEFAULT_ANSWER_TOKENS


def _repeats(fields: Mapping[str, Any]) -> int:
    return max(1, *[_whole(fields.get(name)) or 1 for name in _REPEATS])


def _whole(value: object) -> int | None:
    """`type`, not `isinstance`: True is no number of tokens."""
    return min(value, _MOST_TOKENS) if type(value) is int and value >= 0 else None


def _tokens_within(values: Iterable[Any]) -> int:
    """Tokens of all text within; a walk without recursion, for bodies may be nested deeply."""
    text_bytes, tokens, left = 0, 0, list(values)
    while left:
        value = left.pop()
        if isinstance(value, str):
            if len(value) > _LONG_TEXT_BYTES and _is_data_url(value):
                tokens += ATTACHMENT_TOKENS
            else:
                text_bytes += _size(value)
        elif isinstance(value, dict):
            if value.get("type") in _ATTACHMENT_PARTS:
                tokens += ATTACHMENT_TOKENS
            else:
                left.extend(value.values())
        elif isinstance(value, list):
            if value and type(value[0]) is int:  # a prompt of tokens
                tokens += len(value)
            else:
                left.extend(value)
    return tokens + text_bytes // BYTES_PER_TOKEN


def _is_data_url(text: str) -> bool:
    return text.startswith("data:") and ";base64," in text[:200]


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
