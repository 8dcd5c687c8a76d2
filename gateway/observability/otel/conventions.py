"""How the GenAI conventions call what we relay, and who answers it.

https://github.com/open-telemetry/semantic-conventions-genai. Where they have no word, ours is a custom value, as they
allow.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from gateway.types import Endpoint


class GenAI(NamedTuple):
    """An operation, and what it makes where that is not plain."""

    operation: str
    output: str | None = None


_CHAT = GenAI("chat")

# By method and the end of the route. The longest end counts.
_OPERATIONS = {
    ("POST", "/chat/completions"): _CHAT,
    ("POST", "/responses"): _CHAT,
    ("POST", "/responses/compact"): _CHAT,
    ("GET", "/responses"): _CHAT,  # over a WebSocket
    ("POST", "/messages"): _CHAT,
    ("POST", "/api/ai/chat"): _CHAT,
    ("POST", "/api/ai/studio"): _CHAT,
    ("POST", "/completions"): GenAI("text_completion"),
    ("POST", "/embeddings"): GenAI("embeddings"),
    ("POST", "/moderations"): GenAI("moderation"),
    ("POST", "/rerank"): GenAI("rerank"),
    ("POST", "/images/generations"): GenAI("generate_content", "image"),
    ("POST", "/images/edits"): GenAI("generate_content", "image"),
    ("POST", "/images/variations"): GenAI("generate_content", "image"),
    ("POST", "/audio/speech"): GenAI("generate_content", "speech"),
    ("POST", "/audio/transcriptions"): GenAI("generate_content", "text"),
    ("POST", "/audio/translations"): GenAI("generate_content", "text"),
    ("GET", "/realtime"): GenAI("generate_content"),
    ("POST", "/videos"): GenAI("generate_content"),
    ("POST", "/vector_stores/{vector_store_id}/search"): GenAI("retrieval"),
}
_LONGEST_FIRST = sorted(_OPERATIONS.items(), key=lambda row: -len(row[0][1]))

# By the end of the host's name.
_PROVIDERS = (
    ("openai.azure.com", "azure.ai.openai"),
    ("cognitiveservices.azure.com", "azure.ai.openai"),
    ("services.ai.azure.com", "azure.ai.inference"),
    ("models.ai.azure.com", "azure.ai.inference"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("amazonaws.com", "aws.bedrock"),
    ("anthropic.com", "anthropic"),
    ("openai.com", "openai"),
    ("cohere.com", "cohere"),
    ("cohere.ai", "cohere"),
    ("deepseek.com", "deepseek"),
    ("groq.com", "groq"),
    ("mistral.ai", "mistral_ai"),
    ("moonshot.ai", "moonshot_ai"),
    ("perplexity.ai", "perplexity"),
    ("ml.cloud.ibm.com", "ibm.watsonx.ai"),
    ("x.ai", "x_ai"),
)


def operation_of(method: str, route: str) -> GenAI | None:
    """Return the operation of a route or path, if any."""
    for (known_method, end), found in _LONGEST_FIRST:
        if route.endswith(end) and method == known_method:
            return found
    return None


def provider_of(endpoint: Endpoint, *, is_messages: bool) -> str:
    """Return the provider, by a host that is known to be one's.

    Elsewhere, as the conventions have it, whose protocol is spoken. Nothing else of the address shows.
    """
    host = urlsplit(endpoint.url).hostname or ""
    for name, provider in _PROVIDERS:
        if host == name or host.endswith(f".{name}") or (name == "aiplatform.googleapis.com" and host.endswith(name)):
            return provider
    speaks_anthropic = "anthropic" in endpoint.protocols and (is_messages or "openai" not in endpoint.protocols)
    return "anthropic" if speaks_anthropic else "openai"
