"""Estimate tokens: to reserve for a request, and of unreported usage.

A token is taken for four bytes of text, which is near the truth for English and code. Estimates guide admission and
label themselves in the ledger (`estimated`); what an upstream reports always replaces them. How a prompt is measured
is in `prompt`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.dialects.base import Operation, PromptFields
from gateway.limits.prompt import BYTES_PER_TOKEN, walked

# What an answer is taken for where the request sets no bound: about 200 words.
DEFAULT_ANSWER_TOKENS = 256
# No model writes a longer answer: a bound beyond it is a mistake or malice, and holds no more than this.
LONGEST_ANSWER_TOKENS = 1_000_000
_SMALL_BODY_BYTES = 4_000  # up to it the body's own length tells enough
_MOST_TOKENS = 10**9  # what is reserved at most, lest nonsense in a body overflow a counter
_LONGEST_NUMBER = 40  # characters of a number that is written as text


class EstimatedUsage(msgspec.Struct, frozen=True, gc=False):
    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


def reserved_usage(fields: Mapping[str, Any], body_size: int, operation: Operation) -> EstimatedUsage:
    """Estimate what to reserve: the prompt, and the largest answer allowed.

    `fields` is the parsed body, `body_size` its length in bytes. An answer counts the largest of the operation's bounds
    (else 256), times the largest of its repeats, times the number of prompts; where answers have no tokens, none.
    Numbers may be floats and texts of digits, as many upstreams take them; other values count as absent: to refuse them
    is the upstream's business. Together always between 1 and a billion.
    """
    if not operation.is_billed:
        return EstimatedUsage(0, 0)
    prompt = prompt_tokens(fields, body_size, operation.prompt)
    if prompt > _MOST_TOKENS:
        prompt = _MOST_TOKENS
    answer = operation.answer
    if answer is None:
        return EstimatedUsage(prompt, 0)
    if answer.names.isdisjoint(fields):
        return EstimatedUsage(prompt, min(DEFAULT_ANSWER_TOKENS, _MOST_TOKENS - prompt))
    answers = repeats(fields, answer.repeats) * _prompts(fields.get(answer.prompts))
    return EstimatedUsage(prompt, min(_answer_tokens(fields, answer.bounds) * answers, _MOST_TOKENS - prompt))


def prompt_tokens(fields: Mapping[str, Any], body_size: int, prompt: PromptFields) -> int:
    """Estimate a prompt's tokens, at least 1.

    From the parsed body and its length in bytes.
    """
    if body_size <= _SMALL_BODY_BYTES and (prompt.of_tokens.isdisjoint(fields) or not _is_of_tokens(fields, prompt)):
        return max(1, body_size // BYTES_PER_TOKEN)
    return max(1, walked(fields, body_size, prompt))


def _is_of_tokens(fields: Mapping[str, Any], prompt: PromptFields) -> bool:
    """Whether the prompt may be numbers, two bytes of body each."""
    for name in prompt.of_tokens:
        given = fields.get(name)
        if type(given) is list and given and type(given[0]) in (int, list):
            return True
    return False


def reserved_tokens(fields: Mapping[str, Any], body_size: int, operation: Operation) -> int:
    """Count the tokens of `reserved_usage`."""
    return reserved_usage(fields, body_size, operation).total_tokens


def estimated_tokens(text_bytes: int) -> int:
    """Tokens of so many bytes (or characters) of text, at least 1."""
    return max(1, -(-text_bytes // BYTES_PER_TOKEN))


def estimated_usage(prompt: int, answer_bytes: int) -> EstimatedUsage:
    """Estimate the usage of an answer that reports none.

    `prompt` as `prompt_tokens` estimates it, and the answer's text seen.

    An answer of which nothing was seen (`answer_bytes` 0) has no completion tokens.
    """
    return EstimatedUsage(prompt, estimated_tokens(answer_bytes) if answer_bytes > 0 else 0)


def _answer_tokens(fields: Mapping[str, Any], bounds: tuple[str, ...]) -> int:
    largest = -1
    for name in bounds:
        bound = whole(fields.get(name))
        if bound is not None and bound > largest:
            largest = bound
    return DEFAULT_ANSWER_TOKENS if largest < 0 else min(largest, LONGEST_ANSWER_TOKENS)


def repeats(fields: Mapping[str, Any], names: tuple[str, ...]) -> int:
    """How many answers are asked for, by the largest of these fields."""
    many = 1
    for name in names:
        many = max(many, whole(fields[name]) or 1) if name in fields else many
    return many


def _prompts(prompt: object) -> int:
    """Count the prompts in a `prompt`.

    A list of texts, or of lists of tokens, is one for each.
    """
    if type(prompt) is not list or not prompt or type(prompt[0]) is int:
        return 1
    return len(prompt)


def whole(value: object) -> int | None:
    """Return the number that an upstream may read; None for negatives."""
    if value is None:
        return None
    # `type`, not `isinstance`: True is no number of tokens.
    if type(value) is str:
        value = _number_in(value)
    if type(value) is float:
        value = math.ceil(value) if math.isfinite(value) else None
    return min(value, _MOST_TOKENS) if type(value) is int and value >= 0 else None


def _number_in(text: str) -> float | None:
    if len(text) > _LONGEST_NUMBER:
        return None
    try:
        return float(text)
    except ValueError:
        return None
