"""Usage reports in the shape of each provider, made from disjoint amounts."""

from __future__ import annotations

from typing import Any

Used = dict[str, Any]


def _sum(used: Used, *names: str) -> int:
    return sum(int(used.get(name, 0)) for name in names)


def prompt(used: Used) -> int:
    return _sum(used, "input", "audio_input", "image_input", *CACHED, *WRITTEN)


def completion(used: Used) -> int:
    return _sum(used, "output", "reasoning", "audio_output", "image_output")


CACHED = ("cached_input", "cached_audio_input", "cached_image_input")
WRITTEN = ("cache_write", "cache_write_1h", "cache_write_12h")


def chat(used: Used) -> tuple[Used, dict[str, Any]]:
    """OpenAI's chat completions: no crossing, so that cached tokens are text."""
    kept = {name: used.get(name, 0) for name in ("input", "cached_input", "cache_write", "audio_input", "output")}
    kept |= {name: used.get(name, 0) for name in ("reasoning", "audio_output")}
    return kept, {
        "prompt_tokens": prompt(kept),
        "completion_tokens": completion(kept),
        "total_tokens": prompt(kept) + completion(kept),
        "prompt_tokens_details": {
            "cached_tokens": kept["cached_input"],
            "audio_tokens": kept["audio_input"],
            "cache_write_tokens": kept["cache_write"],
        },
        "completion_tokens_details": {
            "reasoning_tokens": kept["reasoning"],
            "audio_tokens": kept["audio_output"],
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def realtime(used: Used) -> tuple[Used, dict[str, Any]]:
    """With the crossing of cached and spoken."""
    kept = {name: used.get(name, 0) for name in ("input", "audio_input", "image_input", *CACHED)}
    kept |= {name: used.get(name, 0) for name in ("output", "audio_output")}
    return kept, {
        "input_tokens": prompt(kept),
        "output_tokens": completion(kept),
        "total_tokens": prompt(kept) + completion(kept),
        "input_token_details": {
            "text_tokens": kept["input"] + kept["cached_input"],
            "audio_tokens": kept["audio_input"] + kept["cached_audio_input"],
            "image_tokens": kept["image_input"] + kept["cached_image_input"],
            "cached_tokens": _sum(kept, *CACHED),
            "cached_tokens_details": {
                "text_tokens": kept["cached_input"],
                "audio_tokens": kept["cached_audio_input"],
                "image_tokens": kept["cached_image_input"],
            },
        },
        "output_token_details": {"text_tokens": kept["output"], "audio_tokens": kept["audio_output"]},
    }


def responses(used: Used) -> tuple[Used, dict[str, Any]]:
    kept = {name: used.get(name, 0) for name in ("input", "cached_input", "output", "reasoning")}
    return kept, {
        "input_tokens": prompt(kept),
        "input_tokens_details": {"cached_tokens": kept["cached_input"]},
        "output_tokens": completion(kept),
        "output_tokens_details": {"reasoning_tokens": kept["reasoning"]},
        "total_tokens": prompt(kept) + completion(kept),
    }


def beside(used: Used) -> tuple[Used, dict[str, Any]]:
    """xAI's and Gemini's: reasoning beside the completion."""
    kept = {name: used.get(name, 0) for name in ("input", "cached_input", "output", "reasoning")}
    return kept, {
        "prompt_tokens": prompt(kept),
        "completion_tokens": kept["output"],
        "total_tokens": prompt(kept) + completion(kept),
        "prompt_tokens_details": {"cached_tokens": kept["cached_input"], "text_tokens": prompt(kept)},
        "completion_tokens_details": {"reasoning_tokens": kept["reasoning"]},
    }


def deepseek(used: Used) -> tuple[Used, dict[str, Any]]:
    kept = {name: used.get(name, 0) for name in ("input", "cached_input", "output", "reasoning")}
    return kept, {
        "prompt_tokens": prompt(kept),
        "completion_tokens": completion(kept),
        "total_tokens": prompt(kept) + completion(kept),
        "prompt_cache_hit_tokens": kept["cached_input"],
        "prompt_cache_miss_tokens": kept["input"],
        "completion_tokens_details": {"reasoning_tokens": kept["reasoning"]},
    }


def messages(used: Used) -> tuple[Used, dict[str, Any]]:
    """Anthropic's: reads and writes stand beside `input_tokens`."""
    kept = {name: used.get(name, 0) for name in ("input", "cached_input", "cache_write", "cache_write_1h", "output")}
    kept |= {name: used.get(name, 0) for name in ("web_search", "web_fetch")}
    return kept, {
        "input_tokens": kept["input"],
        "cache_read_input_tokens": kept["cached_input"],
        "cache_creation_input_tokens": kept["cache_write"] + kept["cache_write_1h"],
        "cache_creation": {
            "ephemeral_5m_input_tokens": kept["cache_write"],
            "ephemeral_1h_input_tokens": kept["cache_write_1h"],
        },
        "output_tokens": kept["output"],
        "server_tool_use": {"web_search_requests": kept["web_search"], "web_fetch_requests": kept["web_fetch"]},
        "service_tier": used.get("tier") or "standard",
    }


def seconds(used: Used) -> tuple[Used, dict[str, Any]]:
    """A transcription that is paid by the minute."""
    kept = {"audio_seconds": used.get("audio_seconds", 0.0)}
    return kept, {"type": "duration", "seconds": kept["audio_seconds"]}


SHAPES = (chat, realtime, responses, beside, deepseek, messages, seconds)
