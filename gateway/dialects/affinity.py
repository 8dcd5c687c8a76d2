"""Name the conversation a request belongs to, for `cache_affinity`.

The same conversation goes to the same endpoint, where the provider's prompt cache is warm. No state: every worker and
machine comes to the same number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.types import Caller, Id, id_text

BEGINNING_BYTES = 1024  # of each of the first messages: a system prompt and the first question
_FIRST_MESSAGES = 2
_MOST_PARTS = 32  # of a message that are looked at
_LEVELS = 4


def affinity_of(fields: Mapping[str, Any], conversation: str | None, caller: Caller, model: Id) -> int:
    """Return a conversation's number, equal on every worker.

    By `prompt_cache_key`, else `metadata.user_id`, else the header `x-session-id` or `session_id`, else by the caller,
    the model and the beginning of the first two messages.
    """
    key = fields.get("prompt_cache_key")
    metadata = fields.get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    if isinstance(key, str) and key:
        name = f"key:{key}"
    elif isinstance(user, str) and user:
        name = f"user:{user}"
    elif conversation:
        name = f"session:{conversation}"
    else:
        name = "\0".join(("caller", id_text(caller.user.id), id_text(model), *_beginnings(fields)))
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _beginnings(fields: Mapping[str, Any]) -> Iterator[str]:
    system = fields.get("system") or fields.get("instructions")
    if system:
        yield _beginning(system)
    said = fields.get("messages") or fields.get("input") or fields.get("prompt")
    for message in said[:_FIRST_MESSAGES] if isinstance(said, list) else [said]:
        yield _beginning(message)


def _beginning(message: object) -> str:
    """Return the first texts of a message, however it is built."""
    whole = ""
    for text in _texts(message, _LEVELS):
        whole += text[: BEGINNING_BYTES - len(whole)]
        if len(whole) >= BEGINNING_BYTES:
            break
    return whole


def _texts(value: object, levels: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif levels and isinstance(value, list):
        for each in value[:_MOST_PARTS]:
            yield from _texts(each, levels - 1)
    elif levels and isinstance(value, dict):
        for name in ("role", "type", "content", "text", "input"):
            yield from _texts(value.get(name), levels - 1)
