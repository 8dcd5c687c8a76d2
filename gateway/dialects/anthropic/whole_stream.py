"""Write a whole message as the events of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

# What a block's own text goes by, in its start and in its delta.
_TEXTS = {"text": ("text", "text_delta"), "thinking": ("thinking", "thinking_delta")}


def message_as_events(body: bytes) -> bytes | None:
    """Return a whole message as a stream; None where it is none.

    Clients that asked for a stream read nothing else.
    """
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        return None
    return b"".join(_events(message))


def _events(message: dict[str, Any]) -> Iterator[bytes]:
    usage = message.get("usage") or {}
    begun: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    yield _event("message_start", message=message | begun)
    for index, block in enumerate(message["content"]):
        if isinstance(block, dict):
            yield from _block_events(index, block)
    stopped = {name: message.get(name) for name in ("stop_reason", "stop_sequence")}
    yield _event("message_delta", delta=stopped, usage=usage)
    yield _event("message_stop")


def _block_events(index: int, block: dict[str, Any]) -> Iterator[bytes]:
    start, deltas = _taken_apart(block)
    yield _event("content_block_start", index=index, content_block=start)
    for delta in deltas:
        yield _event("content_block_delta", index=index, delta=delta)
    yield _event("content_block_stop", index=index)


def _taken_apart(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a block as it starts, and what follows of it."""
    kind = block.get("type")
    if kind in _TEXTS:
        name, delta = _TEXTS[kind]
        deltas = [{"type": delta, name: block.get(name)}] if block.get(name) else []
        if block.get("signature"):
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return block | {name: ""} | ({"signature": ""} if "signature" in block else {}), deltas
    if isinstance(block.get("input"), dict):
        written = orjson.dumps(block["input"]).decode()
        return block | {"input": {}}, [{"type": "input_json_delta", "partial_json": written}]
    return block, []


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind} | fields))
