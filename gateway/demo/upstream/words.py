"""The fixed words of the demo's upstream, and how words are counted."""

from __future__ import annotations

from typing import Any

from gateway.demo.upstream.bodies import whole_number
from gateway.demo.upstream.desk import Json

MODEL = "demo"
ANSWER = (
    "Hello! This is the demo upstream of ecli-gateway, running on your own machine. No language model was asked: "
    "these words are fixed, and they arrive one by one to show that streaming works."
)
_MOST_WORDS, _DEEPEST = 100_000, 12
_NO_WORDS = frozenset(("id", "type", "role", "status", "call_id", "object", "encrypted_content"))


def answer_words(fields: Json) -> tuple[list[str], bool]:
    """Return the answer's words, and whether a bound of tokens cut them."""
    words = ANSWER.split(" ")
    bounds = [fields.get(name) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens")]
    most = min([whole_number(bound, len(words), len(words)) for bound in bounds if bound is not None] or [len(words)])
    return words[:most], most < len(words)


def count_words(value: Any, deep: int = 0) -> int:
    """Count the words of every text within; binary parts count as one."""
    if isinstance(value, str):
        return 1 if value.startswith("data:") else min(len(value.split()), _MOST_WORDS)
    if deep > _DEEPEST or not isinstance(value, dict | list):
        return 0
    inner = value if isinstance(value, list) else [each for name, each in value.items() if name not in _NO_WORDS]
    return sum(count_words(each, deep + 1) for each in inner)


def chat_usage(prompt: int, completion: int) -> Json:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def response_usage(prompt: int, output: int) -> Json:
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + output,
    }
