"""The relayed routes of the OpenAI surface, one row each."""

from __future__ import annotations

from typing import Final

from gateway.dialects.base import AnswerFields, Dialect, EventRules, Json, Operation, PromptFields, RequestSchema
from gateway.dialects.openai.contents import USAGE_READER
from gateway.dialects.openai.refusal import refusal_body, refusal_event
from gateway.dialects.openai.rerank import RERANK_USAGE_READER
from gateway.dialects.openai.shapes import error_event
from gateway.dialects.openai.stream import CHAT_END_SIGNS, END_SIGNS

JSON: Final = "application/json"
EVENTS, BINARY = "text/event-stream", "application/octet-stream"

OPENAI = Dialect(protocol="openai", refusal_body=refusal_body)
_PROMPT = PromptFields(with_parts=frozenset(("messages", "input", "system")), of_tokens=("prompt", "input"))
_SEARCH = PromptFields(with_parts=frozenset(), of_tokens=())
# Upstreams differ in which bound they go by, on whichever route.
_TEXT_ANSWER = AnswerFields(
    bounds=("max_tokens", "max_completion_tokens", "max_output_tokens"), repeats=("n", "best_of"), prompts="prompt"
)
PLAIN_EVENTS = EventRules(
    asks_usage=False,
    is_numbered=False,
    has_preparations=False,
    end_signs=END_SIGNS,
    error_event=lambda error, _: error_event(error, number=None),
    refusal_event=lambda body: refusal_event(body, named=False),
)
_CHAT_EVENTS = EventRules(
    asks_usage=True,
    is_numbered=False,
    has_preparations=False,
    end_signs=CHAT_END_SIGNS,
    error_event=PLAIN_EVENTS.error_event,
    refusal_event=PLAIN_EVENTS.refusal_event,
)
_RESPONSE_EVENTS = EventRules(
    asks_usage=False,
    is_numbered=True,
    has_preparations=True,
    end_signs=END_SIGNS,
    error_event=lambda error, number: error_event(error, number=number),
    refusal_event=lambda body: refusal_event(body, named=True),
)

_STREAM: Json = {"stream": {"type": "boolean", "description": "Whether to answer with server-sent events."}}
_STREAM_OPTIONS: Json = {
    "stream_options": {
        "type": "object",
        "properties": {"include_usage": {"type": "boolean", "description": "Whether to end with an event of usage."}},
    }
}
_COUNT: Json = {"type": "integer", "minimum": 0, "description": "Read for the reservation of tokens."}
_MESSAGES: Json = {"messages": {"type": "array", "items": {"type": "object"}}}
_TEXTS: Json = {"anyOf": [{"type": "string"}, {"type": "array", "items": {}}]}
_DOCUMENTS: Json = {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "object"}]}}

CHAT_COMPLETIONS = Operation(
    dialect=OPENAI,
    translation=None,
    path="/chat/completions",
    name="ChatCompletions",
    summary="A chat completion",
    body=JSON,
    is_text=True,
    has_fallbacks=True,
    ids=(),
    works_on=None,
    prompt=_PROMPT,
    answer=_TEXT_ANSWER,
    usage=USAGE_READER,
    events=_CHAT_EVENTS,
    request=RequestSchema(
        fields=_MESSAGES
        | _STREAM
        | _STREAM_OPTIONS
        | {"max_completion_tokens": _COUNT, "max_tokens": _COUNT, "n": _COUNT},
        example={"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello!"}], "stream": True},
    ),
    media=(JSON, EVENTS),
)
COMPLETIONS = Operation(
    dialect=OPENAI,
    translation=None,
    path="/completions",
    name="Completions",
    summary="A completion of text",
    body=JSON,
    is_text=True,
    has_fallbacks=True,
    ids=(),
    works_on=None,
    prompt=_PROMPT,
    answer=_TEXT_ANSWER,
    usage=USAGE_READER,
    events=_CHAT_EVENTS,
    request=RequestSchema(
        fields={"prompt": _TEXTS} | _STREAM | _STREAM_OPTIONS | {"max_tokens": _COUNT, "n": _COUNT, "best_of": _COUNT},
        example={"model": "gpt-4o", "prompt": "Once upon a time"},
    ),
    media=(JSON, EVENTS),
)
RESPONSES = Operation(
    dialect=OPENAI,
    translation=None,
    path="/responses",
    name="Responses",
    summary="A response",
    body=JSON,
    is_text=True,
    has_fallbacks=True,
    ids=(),
    works_on="background",
    prompt=_PROMPT,
    answer=_TEXT_ANSWER,
    usage=USAGE_READER,
    events=_RESPONSE_EVENTS,
    request=RequestSchema(
        fields={"input": _TEXTS, "instructions": {"type": ["string", "null"]}}
        | _STREAM
        | {"max_output_tokens": _COUNT},
        example={"model": "gpt-4o", "input": "Hello!"},
    ),
    media=(JSON, EVENTS),
)
EMBEDDINGS = Operation(
    dialect=OPENAI,
    translation=None,
    path="/embeddings",
    name="Embeddings",
    summary="Embeddings",
    body=JSON,
    is_text=False,
    has_fallbacks=False,  # vectors of another model would be worthless
    ids=(),
    works_on=None,
    prompt=_PROMPT,
    answer=None,
    usage=USAGE_READER,
    events=PLAIN_EVENTS,
    request=RequestSchema(fields={"input": _TEXTS}, example={"model": "embedder", "input": "Hello!"}),
    media=(JSON,),
)
RERANK = Operation(
    dialect=OPENAI,
    translation=None,
    path="/rerank",
    name="Rerank",
    summary="Documents by how well they fit a query",
    body=JSON,
    is_text=False,
    has_fallbacks=True,
    ids=(),
    works_on=None,
    prompt=_SEARCH,
    answer=None,
    usage=RERANK_USAGE_READER,
    events=PLAIN_EVENTS,
    request=RequestSchema(
        fields={
            "query": {"type": "string"},
            "documents": _DOCUMENTS,
            "top_n": {"type": "integer", "minimum": 1, "description": "How many of the documents to answer with."},
            "return_documents": {"type": "boolean", "description": "Whether to answer with their texts."},
        },
        example={"model": "reranker", "query": "What is a lighthouse?", "documents": ["A tower.", "A river."]},
    ),
    media=(JSON,),
)
MODERATIONS = Operation(
    dialect=OPENAI,
    translation=None,
    path="/moderations",
    name="Moderations",
    summary="A moderation",
    body=JSON,
    is_text=False,
    has_fallbacks=True,
    ids=(),
    works_on=None,
    prompt=_PROMPT,
    answer=None,
    usage=USAGE_READER,
    events=PLAIN_EVENTS,
    request=RequestSchema(fields={"input": _TEXTS}, example={"model": "moderator", "input": "Hello!"}),
    media=(JSON,),
)
IMAGES = Operation(
    dialect=OPENAI,
    translation=None,
    path="/images/generations",
    name="ImagesGenerations",
    summary="Images",
    body=JSON,
    is_text=False,
    has_fallbacks=True,
    ids=(),
    works_on=None,
    prompt=_PROMPT,
    answer=None,
    usage=USAGE_READER,
    events=PLAIN_EVENTS,
    request=RequestSchema(
        fields={"prompt": {"type": "string"}}, example={"model": "painter", "prompt": "A lighthouse"}
    ),
    media=(JSON, EVENTS),
)
SPEECH = Operation(
    dialect=OPENAI,
    translation=None,
    path="/audio/speech",
    name="AudioSpeech",
    summary="Speech",
    body=JSON,
    is_text=False,
    has_fallbacks=True,
    ids=(),
    works_on=None,
    prompt=_PROMPT,
    answer=None,
    usage=USAGE_READER,
    events=PLAIN_EVENTS,
    request=RequestSchema(
        fields={"input": {"type": "string"}}, example={"model": "speaker", "input": "Hello!", "voice": "alloy"}
    ),
    # Sound of whatever kind; makers of clients know this name for bytes, and the other for none at all.
    media=(BINARY, "*/*"),
)

OPERATIONS = (CHAT_COMPLETIONS, COMPLETIONS, RESPONSES, EMBEDDINGS, RERANK, MODERATIONS, IMAGES, SPEECH)
