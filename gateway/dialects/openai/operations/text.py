"""Text, vectors and judgements: the rows of the surface's own JSON paths."""

from __future__ import annotations

from gateway.dialects.base import Learnt, RequestSchema
from gateway.dialects.openai.operations.parts import (
    CHAT_EVENTS,
    COUNT,
    DOCUMENTS,
    EVENTS,
    JSON,
    MESSAGES,
    RESPONSE_EVENTS,
    SEARCH,
    STREAM,
    STREAM_OPTIONS,
    TEXT_ANSWER,
    TEXTS,
    relayed,
)
from gateway.dialects.openai.operations.positions import CONTENT_PINS, CONTENTS, RESPONSE_IDS, RESPONSE_PINS
from gateway.dialects.openai.rerank import RERANK_USAGE_READER
from gateway.dialects.references import Position, Positions

CHAT_COMPLETIONS = relayed(
    path="/chat/completions",
    name="ChatCompletions",
    kind="chat",
    summary="A chat completion",
    is_text=True,
    has_fallbacks=True,
    answer=TEXT_ANSWER,
    events=CHAT_EVENTS,
    pins=Positions((Position("messages[].content[].file.file_id", "file"), Position("messages[].audio.id", "audio"))),
    learns=(
        Learnt(Positions((Position("id", "chat.completion"),)), "store", by_default=False),
        Learnt(
            Positions((Position("choices[].message.audio.id", "audio"), Position("choices[].delta.audio.id", "audio"))),
            "audio",
            by_default=False,
        ),
    ),
    request=RequestSchema(
        fields=MESSAGES | STREAM | STREAM_OPTIONS | {"max_completion_tokens": COUNT, "max_tokens": COUNT, "n": COUNT},
        example={"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello!"}], "stream": True},
    ),
    media=(JSON, EVENTS),
)
COMPLETIONS = relayed(
    path="/completions",
    name="Completions",
    kind="completions",
    summary="A completion of text",
    is_text=True,
    has_fallbacks=True,
    answer=TEXT_ANSWER,
    events=CHAT_EVENTS,
    request=RequestSchema(
        fields={"prompt": TEXTS} | STREAM | STREAM_OPTIONS | {"max_tokens": COUNT, "n": COUNT, "best_of": COUNT},
        example={"model": "gpt-4o", "prompt": "Once upon a time"},
    ),
    media=(JSON, EVENTS),
)
RESPONSES = relayed(
    path="/responses",
    name="Responses",
    kind="chat",
    summary="A response",
    is_text=True,
    has_fallbacks=True,
    works_on="background",
    answer=TEXT_ANSWER,
    events=RESPONSE_EVENTS,
    pins=RESPONSE_PINS,
    content_pins=CONTENT_PINS,
    learns=(Learnt(RESPONSE_IDS, "store"),),
    contents=CONTENTS,
    request=RequestSchema(
        fields={"input": TEXTS, "instructions": {"type": ["string", "null"]}} | STREAM | {"max_output_tokens": COUNT},
        example={"model": "gpt-4o", "input": "Hello!"},
    ),
    media=(JSON, EVENTS),
)
COMPACT = relayed(
    path="/responses/compact",
    name="ResponsesCompact",
    family="objects",
    kind="chat",
    summary="A conversation made shorter",
    is_text=True,
    has_fallbacks=True,
    answer=TEXT_ANSWER,
    pins=RESPONSE_PINS,
    content_pins=CONTENT_PINS,
    contents=CONTENTS,
    request=RequestSchema(
        fields={"input": TEXTS, "instructions": {"type": ["string", "null"]}},
        example={"model": "gpt-4o", "input": "Hello!"},
    ),
    media=(JSON,),
)
EMBEDDINGS = relayed(
    path="/embeddings",
    name="Embeddings",
    kind="embeddings",
    summary="Embeddings",
    is_text=False,
    has_fallbacks=False,  # vectors of another model would be worthless
    request=RequestSchema(fields={"input": TEXTS}, example={"model": "embedder", "input": "Hello!"}),
    media=(JSON,),
)
RERANK = relayed(
    path="/rerank",
    name="Rerank",
    kind="rerank",
    summary="Documents by how well they fit a query",
    is_text=False,
    has_fallbacks=True,
    prompt=SEARCH,
    usage=RERANK_USAGE_READER,
    request=RequestSchema(
        fields={
            "query": {"type": "string"},
            "documents": DOCUMENTS,
            "top_n": {"type": "integer", "minimum": 1, "description": "How many of the documents to answer with."},
            "return_documents": {"type": "boolean", "description": "Whether to answer with their texts."},
        },
        example={"model": "reranker", "query": "What is a lighthouse?", "documents": ["A tower.", "A river."]},
    ),
    media=(JSON,),
)
MODERATIONS = relayed(
    path="/moderations",
    name="Moderations",
    kind="moderations",
    summary="A moderation",
    is_text=False,
    has_fallbacks=True,
    request=RequestSchema(fields={"input": TEXTS}, example={"model": "moderator", "input": "Hello!"}),
    media=(JSON,),
)

TEXT_ROWS = (CHAT_COMPLETIONS, COMPLETIONS, RESPONSES, COMPACT, EMBEDDINGS, RERANK, MODERATIONS)
