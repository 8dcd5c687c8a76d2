"""The relayed routes of the OpenAI surface, one row each.

parts.py          what rows are made of
positions.py      where responses, conversations and items name objects
text.py           chat, completions, responses, embeddings, rerank, moderations
realtime.py       sessions of speech and text
media.py          images, speech, transcriptions
stored.py         stored responses and chat completions, conversations
files.py          files, uploads, batches
vector_stores.py  vector stores
extra.py          families that `surface.extra` names
not_served.py     what has no row, and why
"""

from gateway.dialects.openai.operations.extra import (
    CONTAINER_ROWS,
    EVAL_ROWS,
    SKILL_ROWS,
    TUNING_ROWS,
    VIDEO_ROWS,
)
from gateway.dialects.openai.operations.files import FILE_ROWS
from gateway.dialects.openai.operations.media import IMAGES, MEDIA_ROWS, SPEECH
from gateway.dialects.openai.operations.not_served import NOT_SERVED, why_not_served
from gateway.dialects.openai.operations.parts import BINARY, FORM, JSON, PLAIN_EVENTS
from gateway.dialects.openai.operations.realtime import REALTIME
from gateway.dialects.openai.operations.stored import STORED_ROWS
from gateway.dialects.openai.operations.text import (
    CHAT_COMPLETIONS,
    COMPLETIONS,
    EMBEDDINGS,
    MODERATIONS,
    RERANK,
    RESPONSES,
    TEXT_ROWS,
)
from gateway.dialects.openai.operations.vector_stores import VECTOR_STORE_ROWS

OPERATIONS = (*TEXT_ROWS, *MEDIA_ROWS)
KEPT_OPERATIONS = (
    *STORED_ROWS,
    *FILE_ROWS,
    *VECTOR_STORE_ROWS,
    *VIDEO_ROWS,
    *CONTAINER_ROWS,
    *SKILL_ROWS,
    *EVAL_ROWS,
    *TUNING_ROWS,
)

# The list of each kind that has one.
LISTS = {row.lists.kind: row.lists for row in KEPT_OPERATIONS if row.lists is not None}

# How an object of such a kind is read.
RETRIEVALS = {
    row.segments[0].kind: row
    for row in KEPT_OPERATIONS
    if row.method == "GET" and len(row.segments) == 1 and row.path.endswith("}") and row.segments[0].kind is not None
}

__all__ = [
    "BINARY",
    "CHAT_COMPLETIONS",
    "COMPLETIONS",
    "EMBEDDINGS",
    "FORM",
    "IMAGES",
    "JSON",
    "KEPT_OPERATIONS",
    "LISTS",
    "MODERATIONS",
    "NOT_SERVED",
    "OPERATIONS",
    "PLAIN_EVENTS",
    "REALTIME",
    "RERANK",
    "RESPONSES",
    "RETRIEVALS",
    "SPEECH",
    "why_not_served",
]
