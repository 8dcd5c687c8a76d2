"""Embeddings, moderations and rerank: numbers that only the words decide."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Any

from gateway.demo.upstream.bodies import needing, whole_number
from gateway.demo.upstream.desk import Desk, Json, new_id
from gateway.demo.upstream.words import count_words

DIMENSIONS, MOST_DIMENSIONS, MOST_INPUTS = 64, 3_072, 2_048
_CATEGORIES = """harassment harassment/threatening hate hate/threatening illicit illicit/violent self-harm
self-harm/instructions self-harm/intent sexual sexual/minors violence violence/graphic""".split()  # noqa: SIM905


def embeddings(_: Desk, fields: Json) -> Json:
    """Embed texts: the same text has the same vector, of length 1."""
    needing(fields, "model", "input")
    inputs = _inputs(fields["input"])
    size = whole_number(fields.get("dimensions"), DIMENSIONS, MOST_DIMENSIONS)
    is_packed = fields.get("encoding_format") == "base64"
    data = []
    for index, text in enumerate(inputs):
        vector = _vector(str(text), size)
        packed = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() if is_packed else vector
        data.append({"object": "embedding", "index": index, "embedding": packed})
    tokens = max(1, count_words(inputs))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": fields["model"], "usage": usage}


def _inputs(given: Any) -> list[Any]:
    is_one = not isinstance(given, list) or (bool(given) and isinstance(given[0], int))
    return [given] if is_one else given[:MOST_INPUTS]


def _vector(text: str, size: int) -> list[float]:
    raw = hashlib.shake_128(text.encode("utf-8", "replace")).digest(size)
    values = [byte / 127.5 - 1 for byte in raw]
    length = sum(value * value for value in values) ** 0.5 or 1.0
    return [value / length for value in values]


def moderations(_: Desk, fields: Json) -> Json:
    """Find nothing wrong with anything."""
    needing(fields, "input")
    given = fields["input"]
    are_parts = isinstance(given, list) and bool(given) and isinstance(given[0], dict)
    clean: Json = {
        "flagged": False,
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": dict.fromkeys(_CATEGORIES, 0.0001),
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }
    model = fields.get("model") or "omni-moderation-latest"
    return {"id": new_id("modr-"), "model": model, "results": [clean] * (1 if are_parts else len(_inputs(given)))}


def rerank(_: Desk, fields: Json) -> Json:
    """Rank documents by the share of the query's words that they have."""
    needing(fields, "model", "query", "documents")
    wanted = set(str(fields["query"]).lower().split())
    documents = fields["documents"] if isinstance(fields["documents"], list) else []
    texts = [str(each.get("text", "")) if isinstance(each, dict) else str(each) for each in documents]
    scores = [len(wanted & set(text.lower().split())) / max(1, len(wanted)) for text in texts]
    ranked = sorted(range(len(texts)), key=lambda index: -scores[index])
    shown: list[Json] = [{"index": index, "relevance_score": scores[index]} for index in ranked]
    if fields.get("return_documents") is True:
        shown = [each | {"document": {"text": texts[each["index"]]}} for each in shown]
    tokens = max(1, count_words(texts) + count_words(fields["query"]))
    return {
        "id": new_id("rerank-"),
        "model": fields["model"],
        "results": shown[: whole_number(fields.get("top_n"), len(shown) or 1, len(shown) or 1)],
        "meta": {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": tokens}},
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
