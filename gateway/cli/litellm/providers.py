"""Their providers: which speak OpenAI's protocol, and where.

The addresses are those that the providers publish. An endpoint's own `api_base` goes before them.
"""

from __future__ import annotations

from typing import NamedTuple


class Provider(NamedTuple):
    """Where a provider is, and the variables that LiteLLM reads by itself.

    `url` empty: only by `api_base`.
    """

    url: str = ""
    key_variable: str = ""
    protocols: tuple[str, ...] = ("openai",)
    keeps_objects: bool = True


_OWN_SERVER = Provider(keeps_objects=False)

COMPATIBLE: dict[str, Provider] = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "text-completion-openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": Provider("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", ("anthropic", "openai"), False),
    "gemini": Provider(
        "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY", keeps_objects=False
    ),
    "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY", keeps_objects=False),
    "codestral": Provider("https://codestral.mistral.ai/v1", "CODESTRAL_API_KEY", keeps_objects=False),
    "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY", keeps_objects=False),
    "deepseek": Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", keeps_objects=False),
    "together_ai": Provider("https://api.together.xyz/v1", "TOGETHERAI_API_KEY", keeps_objects=False),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", keeps_objects=False),
    "fireworks_ai": Provider("https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY", keeps_objects=False),
    "deepinfra": Provider("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY", keeps_objects=False),
    "xai": Provider("https://api.x.ai/v1", "XAI_API_KEY", keeps_objects=False),
    "nvidia_nim": Provider("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY", keeps_objects=False),
    "cerebras": Provider("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", keeps_objects=False),
    "sambanova": Provider("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY", keeps_objects=False),
    "hyperbolic": Provider("https://api.hyperbolic.xyz/v1", "HYPERBOLIC_API_KEY", keeps_objects=False),
    "moonshot": Provider("https://api.moonshot.ai/v1", "MOONSHOT_API_KEY", keeps_objects=False),
    "dashscope": Provider(
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY", keeps_objects=False
    ),
    "volcengine": Provider("https://ark.cn-beijing.volces.com/api/v3", "VOLCENGINE_API_KEY", keeps_objects=False),
    "meta_llama": Provider("https://api.llama.com/compat/v1", "LLAMA_API_KEY", keeps_objects=False),
    "cohere": Provider("https://api.cohere.ai/compatibility/v1", "COHERE_API_KEY", keeps_objects=False),
    "cohere_chat": Provider("https://api.cohere.ai/compatibility/v1", "COHERE_API_KEY", keeps_objects=False),
    "jina_ai": Provider("https://api.jina.ai/v1", "JINA_AI_API_KEY", keeps_objects=False),
    "voyage": Provider("https://api.voyageai.com/v1", "VOYAGE_API_KEY", keeps_objects=False),
    "friendliai": Provider("https://api.friendli.ai/serverless/v1", "FRIENDLI_TOKEN", keeps_objects=False),
    "huggingface": Provider("https://router.huggingface.co/v1", "HF_TOKEN", keeps_objects=False),
    "ollama": Provider("http://localhost:11434/v1", keeps_objects=False),
    "ollama_chat": Provider("http://localhost:11434/v1", keeps_objects=False),
    "vllm": _OWN_SERVER,
    "hosted_vllm": _OWN_SERVER,
    "lm_studio": _OWN_SERVER,
    "llamafile": _OWN_SERVER,
    "xinference": _OWN_SERVER,
    "openai_like": _OWN_SERVER,
    "custom_openai": _OWN_SERVER,
    "infinity": _OWN_SERVER,
    "docker_model_runner": _OWN_SERVER,
    "databricks": Provider("", "DATABRICKS_API_KEY", keeps_objects=False),
    "litellm_proxy": Provider("", "LITELLM_PROXY_API_KEY", keeps_objects=False),
    "azure_ai": Provider("", "AZURE_AI_API_KEY", keeps_objects=False),
    "azure": Provider("", "AZURE_API_KEY"),
    "azure_text": Provider("", "AZURE_API_KEY"),
}
AZURE = frozenset(("azure", "azure_text"))
BASE_VARIABLES = {"azure": "AZURE_API_BASE", "azure_text": "AZURE_API_BASE", "azure_ai": "AZURE_AI_API_BASE"}

_BESIDE = "keep LiteLLM for it, and give its address as an endpoint: {url: http://HOST:4000/v1, api_key: …}"
_ELSEWHERE: dict[str, str] = {
    "bedrock": "Bedrock has an OpenAI-compatible address for some of its models,"
    " https://bedrock-runtime.REGION.amazonaws.com/openai/v1 with a Bedrock API key; for the others ",
    "bedrock_converse": "as bedrock: https://bedrock-runtime.REGION.amazonaws.com/openai/v1 for some models; else ",
    "vertex_ai": "Vertex has an OpenAI-compatible address, …/endpoints/openapi, whose tokens hold for an hour"
    " (a file that is renewed: `api_key: ${file:PATH}`); Gemini's API takes a lasting key (provider gemini); or ",
    "vertex_ai_beta": "as vertex_ai: …/endpoints/openapi with `api_key: ${file:PATH}`, or provider gemini; or ",
    "perplexity": "its address has no path, to which the gateway adds /v1; ",
    "cloudflare": "its address is https://api.cloudflare.com/client/v4/accounts/ACCOUNT/ai/v1; write it as api_base of"
    " an `openai/` model; or ",
}


def advice_for(provider: str) -> str:
    """Advise on a provider with a protocol of its own."""
    return f"{provider} speaks no OpenAI protocol that is known here; {_ELSEWHERE.get(provider, '')}{_BESIDE}"


def provider_of(model: str, given: str | None) -> tuple[str, str]:
    """Split a `provider/name`; LiteLLM knows some names without one."""
    first, slash, rest = model.partition("/")
    if given is not None:
        return given, rest if slash and first == given else model
    if slash:
        return first, rest
    if model.startswith("claude"):
        return "anthropic", model
    if model.startswith(("gemini", "text-bison", "chat-bison")):
        return "vertex_ai", model
    if model.startswith("command"):
        return "cohere", model
    return "openai", model
