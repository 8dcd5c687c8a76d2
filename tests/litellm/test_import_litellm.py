"""`gateway import litellm`: configurations of the shapes that LiteLLM's documentation shows, loaded and served."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli.cli_kit import command
from hypothesis import given
from hypothesis import strategies as st
from kit import FakeUpstream, GatewayProcess, Wire, answer, as_openai, request_bytes

from gateway.access.authenticate import key_sha256
from gateway.cli.litellm.conversion import Converted, converted
from gateway.cli.litellm.their_file import read_their_file
from gateway.cli.litellm.yaml_text import yaml_text
from gateway.config import Settings, parse_settings
from gateway.errors import ConfigError

ENVIRON = {
    "OPENAI_API_KEY": "sk-openai",
    "AZURE_KEY_EU": "azure-eu",
    "AZURE_BASE_US": "https://us.openai.azure.com",
    "ANTHROPIC_API_KEY": "sk-ant",
    "GROQ_API_KEY": "gsk",
    "MASTER": "sk-master-0123456789-abcdefgh",
    "AZURE_API_BASE": "https://base.openai.azure.com",
    "AZURE_API_KEY": "az",
}


class Taken:
    """What was made of a text: the sections, the notes by path, and the settings of the real loader."""

    def __init__(self, directory: Path, text: str) -> None:
        self.file = directory / "config.yaml"
        self.file.write_text(text)
        self.found: Converted = converted(read_their_file(self.file))
        self.text = yaml_text(self.found.sections, [str(note) for note in self.found.notes])
        self.settings: Settings = parse_settings(self.text, "gateway.yaml", ENVIRON, directory)

    @property
    def models(self) -> dict[str, Any]:
        return {model.name: model for model in self.settings.models}

    def note(self, path: str) -> str:
        (found,) = [note for note in self.found.notes if note.path == path]
        return f"{found.where.rpartition(':')[2]}: {found.text}"

    @property
    def noted(self) -> list[str]:
        return [note.path for note in self.found.notes]


def take(directory: Path, text: str) -> Taken:
    return Taken(directory, text)


POOL = """
model_list:
  - model_name: chat-large
    litellm_params:
      model: azure/large-eu
      api_base: https://corp-eu.openai.azure.com/
      api_key: os.environ/AZURE_KEY_EU
      api_version: "2024-10-21"
      rpm: 60
      timeout: 300
      stream_timeout: 20
    model_info: {id: eu-1, base_model: azure/gpt-4o}
  - model_name: chat-large
    litellm_params:
      model: azure/large-us
      api_base: os.environ/AZURE_BASE_US
      api_key: "os.environ/AZURE_KEY_EU"
      rpm: 180
      order: 2
      max_parallel_requests: 7
  - model_name: chat-small
    litellm_params: {model: gpt-4o-mini}
"""


def test_entries_of_one_name_are_the_endpoints_of_one_model(tmp_path: Path) -> None:
    """Azure's with and without a version; weights by the rates; time-outs, order and bounds as they were."""
    taken = take(tmp_path, POOL)
    assert list(taken.models) == ["chat-large", "chat-small"]
    large = taken.models["chat-large"]
    first, second = large.endpoints
    assert large.rotation == "weighted"
    assert large.is_global
    assert (first.id, second.id) == ("eu-1", "d2")
    assert (first.weight, second.weight) == (1, 3)
    assert first.url == "https://corp-eu.openai.azure.com/openai/deployments/large-eu"
    assert {name: value.reveal() for name, value in first.query.items()} == {"api-version": "2024-10-21"}
    assert second.url == "https://us.openai.azure.com/openai/v1"
    assert (first.provider_model, second.provider_model) == ("large-eu", "large-us")
    assert first.auth_header == second.auth_header == "api-key"
    assert first.api_key is not None
    assert first.api_key.reveal() == "azure-eu"
    assert (first.timeouts.total, first.timeouts.first_byte) == (300, 20)
    assert (second.priority, second.max_in_flight) == (2, 7)
    small = taken.models["chat-small"]
    assert (small.endpoints[0].url, small.provider_model) == ("https://api.openai.com/v1", "gpt-4o-mini")
    assert "`weight`" in taken.note("model_list[0].litellm_params.rpm")
    assert "${OPENAI_API_KEY}" in taken.text  # which LiteLLM takes without being told
    assert taken.found.variables == ["AZURE_BASE_US", "AZURE_KEY_EU", "OPENAI_API_KEY"]


@pytest.mark.parametrize(
    ("model", "url", "name"),
    [
        ("gpt-4o", "https://api.openai.com/v1", "gpt-4o"),
        ("openai/gpt-4o", "https://api.openai.com/v1", "gpt-4o"),
        ("groq/llama-3.3-70b-versatile", "https://api.groq.com/openai/v1", "llama-3.3-70b-versatile"),
        ("together_ai/meta-llama/Llama-3-70b", "https://api.together.xyz/v1", "meta-llama/Llama-3-70b"),
        ("mistral/mistral-large-latest", "https://api.mistral.ai/v1", "mistral-large-latest"),
        ("gemini/gemini-2.5-pro", "https://generativelanguage.googleapis.com/v1beta/openai", "gemini-2.5-pro"),
        ("deepseek/deepseek-chat", "https://api.deepseek.com/v1", "deepseek-chat"),
        ("openrouter/google/palm-2", "https://openrouter.ai/api/v1", "google/palm-2"),
        ("xai/grok-4", "https://api.x.ai/v1", "grok-4"),
        ("fireworks_ai/accounts/a/models/b", "https://api.fireworks.ai/inference/v1", "accounts/a/models/b"),
        ("ollama/llama3", "http://localhost:11434/v1", "llama3"),
        ("claude-sonnet-4-5", "https://api.anthropic.com/v1", "claude-sonnet-4-5"),
        ("cohere_chat/command-r", "https://api.cohere.ai/compatibility/v1", "command-r"),
    ],
)
def test_providers_have_their_published_addresses(tmp_path: Path, model: str, url: str, name: str) -> None:
    """And the model's name there is what LiteLLM sends."""
    text = f"model_list: [{{model_name: m, litellm_params: {{model: {model}, api_key: os.environ/GROQ_API_KEY}}}}]"
    (endpoint,) = take(tmp_path, text).models["m"].endpoints
    assert endpoint.url == url
    assert take(tmp_path, text).models["m"].provider_model == name


def test_anthropic_is_asked_in_its_own_protocol(tmp_path: Path) -> None:
    taken = take(
        tmp_path,
        "model_list: [{model_name: claude, litellm_params: {model: anthropic/claude-x}}]",
    )
    assert taken.models["claude"].endpoints[0].protocols == ("anthropic", "openai")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ("model: bedrock/anthropic.claude-3-sonnet, aws_region_name: us-west-2", "bedrock-runtime.REGION"),
        ("model: vertex_ai/gemini-pro, vertex_project: p, vertex_location: l", "…/endpoints/openapi"),
        ("model: sagemaker/some-endpoint", "sagemaker speaks no OpenAI protocol"),
        ('model: "openai/*", api_key: os.environ/OPENAI_API_KEY', "wildcard"),
        ('model: "*"', "wildcard"),
        ("model: hosted_vllm/qwen", "needs an api_base"),
        ('model: openai/x, api_base: "ftp://somewhere"', "http:// or https://"),
        ("api_key: os.environ/OPENAI_API_KEY", "no litellm_params.model"),
    ],
)
def test_what_cannot_be_an_endpoint_is_named_and_the_rest_is_taken(tmp_path: Path, params: str, words: str) -> None:
    text = f"""
model_list:
  - model_name: gone
    litellm_params: {{{params}}}
  - model_name: here
    litellm_params: {{model: gpt-4o}}
"""
    taken = take(tmp_path, text)
    assert list(taken.models) == ["here"]
    told = [note for note in taken.found.notes if words in note.text]
    assert [note.where.rpartition(":")[2] for note in told] in (["3"], ["4"])


def test_an_own_server_needs_no_key_and_keeps_no_objects(tmp_path: Path) -> None:
    text = """
model_list:
  - model_name: local
    litellm_params: {model: openai/facebook/opt-125m, api_base: "http://10.0.0.5:8000/v1/", api_key: none}
  - model_name: tgi
    litellm_params: {model: huggingface/org/name, api_base: "http://10.0.0.6:8080"}
"""
    taken = take(tmp_path, text)
    local, tgi = taken.models["local"], taken.models["tgi"]
    assert (local.endpoints[0].url, local.provider_model) == ("http://10.0.0.5:8000/v1", "facebook/opt-125m")
    assert local.endpoints[0].api_key is None
    assert tgi.endpoints[0].api_key is None  # a key is not sent to whom it was not given for
    assert not local.endpoints[0].objects
    assert tgi.endpoints[0].url == "http://10.0.0.6:8080/v1"


def test_router_settings(tmp_path: Path) -> None:
    """Fallbacks from both sections, the defaults for whoever has none, aliases in both spellings."""
    text = (
        POOL
        + """
  - model_name: spare
    litellm_params: {model: groq/spare}
router_settings:
  routing_strategy: least-busy
  model_group_alias:
    {"gpt-4": chat-large, hidden: {model: chat-small, hidden: true}, spare: chat-large, x: gone}
  fallbacks: [{"chat-large": ["chat-small", "gone"]}, {"nobody": ["spare"]}]
  default_fallbacks: ["spare"]
  timeout: 30
  cooldown_time: 30
  num_retries: 2
  allowed_fails: 3
  disable_cooldowns: false
  redis_host: os.environ/REDIS_HOST
litellm_settings:
  fallbacks: [{"chat-small": ["chat-large"]}]
  context_window_fallbacks: [{"chat-small": ["chat-large"]}]
"""
    )
    taken = take(tmp_path, text)
    large, small, spare = (taken.models[name] for name in ("chat-large", "chat-small", "spare"))
    names = {str(model.id): model.name for model in taken.settings.models}
    assert [names[each] for each in large.fallbacks] == ["chat-small"]
    assert [names[each] for each in small.fallbacks] == ["chat-large"]
    assert spare.fallbacks == ()
    assert large.aliases == ("gpt-4",)
    assert small.aliases == ("hidden",)
    assert large.rotation == "least_busy"
    assert small.endpoints[0].timeouts.total == 30
    assert large.endpoints[0].timeouts.total == 300
    for path in (
        "router_settings.cooldown_time",
        "router_settings.num_retries",
        "router_settings.allowed_fails",
        "router_settings.redis_host",
        "router_settings.model_group_alias.spare",
        "router_settings.model_group_alias.x",
        "router_settings.fallbacks[0].chat-large[1]",
        "router_settings.fallbacks[1].nobody",
        "litellm_settings.context_window_fallbacks",
    ):
        assert path in taken.noted
    assert "router_settings.disable_cooldowns" not in taken.noted  # it asks for nothing


def test_prices_modes_and_tags(tmp_path: Path) -> None:
    """Theirs are of one token, ours of a million; what the pool shares stands at the model."""
    text = """
model_list:
  - model_name: priced
    litellm_params:
      model: openai/priced
      input_cost_per_token: 0.00000015
      output_cost_per_token: 6.0e-7
    model_info:
      cache_read_input_token_cost: "7.5e-8"
      input_cost_per_token_above_200k_tokens: 3e-7
      supports_vision: true
      access_groups: [beta]
  - model_name: apart
    litellm_params: {model: openai/a, input_cost_per_token: 1e-6}
  - model_name: apart
    litellm_params: {model: openai/b, output_cost_per_token: 2e-6}
  - {model_name: emb, litellm_params: {model: text-embedding-3-small}, model_info: {mode: embedding}}
  - {model_name: pic, litellm_params: {model: gpt-image-1}, model_info: {mode: image_generation}}
  - {model_name: hear, litellm_params: {model: whisper-1}, model_info: {mode: audio_transcription}}
  - {model_name: live, litellm_params: {model: gpt-realtime}, model_info: {mode: realtime}}
  - {model_name: odd, litellm_params: {model: x}, model_info: {mode: dreams}}
"""
    taken = take(tmp_path, text)
    priced = taken.models["priced"]
    assert (priced.price.input, priced.price.output, priced.price.cached_input) == (0.15, 0.6, 0.075)
    assert [(step.input_tokens, step.input) for step in priced.price.above] == [(200_000, 0.3)]
    assert priced.tags == ("vision",)
    apart = taken.models["apart"]
    assert apart.price is None
    assert [endpoint.price.input for endpoint in apart.endpoints] == [1.0, None]
    assert taken.models["emb"].operations == ("embeddings",)
    assert taken.models["pic"].operations == ("images",)
    assert taken.models["hear"].operations == ("transcriptions",)
    assert taken.models["live"].endpoints[0].websocket
    assert taken.models["odd"].operations is None
    assert "grants" in taken.note("model_list[0].model_info.access_groups")
    assert "mode" in taken.note("model_list[7].model_info.mode")


def test_credentials_and_organisations(tmp_path: Path) -> None:
    """A credential by name lies under the entry; one entry of two organisations is two endpoints."""
    text = """
credential_list:
  - credential_name: azure_default
    credential_values: {api_key: os.environ/AZURE_KEY_EU, api_base: os.environ/AZURE_BASE_US, api_version: v1}
    credential_info: {}
model_list:
  - model_name: one
    litellm_params: {model: azure/dep, litellm_credential_name: azure_default}
  - model_name: two
    litellm_params: {model: gpt-4o, organization: [org-1, org-2], extra_headers: {x-team: a}}
  - model_name: three
    litellm_params: {model: gpt-4o, litellm_credential_name: unknown}
"""
    taken = take(tmp_path, text)
    assert taken.models["one"].endpoints[0].url == "https://us.openai.azure.com/openai/deployments/dep"
    headers = [endpoint.headers for endpoint in taken.models["two"].endpoints]
    assert [each["OpenAI-Organization"].reveal() for each in headers] == ["org-1", "org-2"]
    assert "no credential_list" in taken.note("model_list[2].litellm_params.litellm_credential_name")


@pytest.mark.parametrize(
    ("written", "hashed", "words"),
    [
        ("sk-1234", "sk-1234", "guessed"),
        ("sk-master-0123456789-abcdefgh", "sk-master-0123456789-abcdefgh", "its hash alone"),
        ("os.environ/MASTER", ENVIRON["MASTER"], "at least 24 characters"),
    ],
)
def test_the_master_key_goes_on_working(tmp_path: Path, written: str, hashed: str, words: str) -> None:
    """As a hash where it was written out: the gateway's file holds no key."""
    taken = take(tmp_path, f"{POOL}\ngeneral_settings: {{master_key: {written}}}")
    (key,) = taken.settings.keys
    assert key.sha256 == key_sha256(hashed)
    assert set(key.scopes) == {"ai:use", "ai:manage", "usage:read"}
    assert words in taken.note("general_settings.master_key")
    assert "sk-" not in taken.text.split("keys:")[1]


def test_settings_without_a_counterpart_say_what_to_do_instead(tmp_path: Path) -> None:
    text = (
        POOL
        + """
environment_variables: {SOME_SECRET: hidden-word}
litellm_settings:
  drop_params: true
  callbacks: [prometheus]
  success_callback: ["langfuse"]
  cache: true
  cache_params: {type: redis, password: hidden-word}
  set_verbose: false
  telemetry: false
  never_seen_before: hidden-word
general_settings:
  database_url: postgresql://me:hidden-word@db/litellm
  alerting: ["slack"]
  global_max_parallel_requests: 100
mcp_servers: {a: {url: b}}
a_new_section: {x: 1}
"""
    )
    taken = take(tmp_path, text)
    assert "/metrics" in taken.note("litellm_settings.callbacks")
    assert "not cached" in taken.note("litellm_settings.cache_params")
    assert "`usage.url`" in taken.note("general_settings.database_url")
    assert "`alerts: [{url" in taken.note("general_settings.alerting")
    assert "no counterpart is known" in taken.note("litellm_settings.never_seen_before")
    assert "no counterpart is known" in taken.note("a_new_section")
    assert "MCP" in taken.note("mcp_servers")
    assert "EnvironmentFile" in taken.note("environment_variables")
    assert taken.settings.server.max_in_flight == 100
    assert "hidden-word" not in taken.text
    assert [int(note.where.rpartition(":")[2]) for note in taken.found.notes] == sorted(
        int(note.where.rpartition(":")[2]) for note in taken.found.notes
    )


def test_included_files_are_read_and_named(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("model_list:\n  - {model_name: b, litellm_params: {model: vertex_ai/x}}\n")
    text = "include: [models.yaml]\nmodel_list:\n  - {model_name: a, litellm_params: {model: gpt-4o}}\n"
    taken = take(tmp_path, text)
    assert list(taken.models) == ["a"]
    assert any(note.where.endswith("models.yaml:2") for note in taken.found.notes)


def test_names_that_would_break_out_of_a_comment_do_not(tmp_path: Path) -> None:
    text = 'model_list: [{model_name: a, litellm_params: {model: gpt-4o}}]\n"x\\nkeys: [{id: evil}]\\u2028": 1\n'
    assert take(tmp_path, text).settings.keys == ()


@pytest.mark.parametrize("text", ["", "- a", "model_list: *", "a: [", "a: " + "[" * 200])
def test_what_is_no_configuration_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_their_file(tmp_path / "config.yaml")
    assert re.match(re.escape(f"{tmp_path / 'config.yaml'}") + r":[12]: ", caught.value.problems[0])


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


@given(st.dictionaries(TEXTS, VALUES, max_size=3))
def test_what_is_written_is_read_as_it_was(sections: dict[str, Any]) -> None:
    assert (yaml.safe_load(yaml_text(sections, [])) or {}) == sections


async def test_the_command_prints_the_file_and_the_list(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(POOL)
    done = await command("import", "litellm", "config.yaml", cwd=tmp_path)
    assert done.code == 0
    assert "config.yaml:9: model_list[0].litellm_params.rpm: " in done.err
    assert "#   config.yaml:9: model_list[0].litellm_params.rpm: " in done.out
    assert "gateway: taken over: 2 models, 3 endpoints." in done.err
    assert "set before `gateway check`: AZURE_BASE_US, AZURE_KEY_EU, OPENAI_API_KEY" in done.err
    (tmp_path / "gateway.yaml").write_text(done.out)
    checked = await command("check", cwd=tmp_path, **ENVIRON)
    assert checked.code == 0, checked.err
    assert checked.out.startswith("gateway.yaml is valid: 2 models")
    written = await command("import", "litellm", "config.yaml", "-o", "new.yaml", cwd=tmp_path)
    assert (written.code, written.out) == (0, "")
    assert (tmp_path / "new.yaml").read_text() == done.out
    assert (tmp_path / "new.yaml").stat().st_mode & 0o777 == 0o600
    again = await command("import", "litellm", "config.yaml", "-o", "new.yaml", cwd=tmp_path)
    assert again.code == 1  # what is there is not overwritten
    (tmp_path / "none.yaml").write_text("model_list: [{model_name: a, litellm_params: {model: bedrock/x}}]")
    none = await command("import", "litellm", "none.yaml", cwd=tmp_path)
    assert (none.code, none.out) == (1, "")
    assert "no model that could be taken over" in none.err


async def test_what_was_made_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that fails over, a fallback, an alias, the master key, an embedding, against upstreams that answer."""
    upstream = await FakeUpstream.start(as_openai())
    try:
        broken, good, spare = (upstream.endpoint(name) for name in ("broken", "good", "spare"))
        for _ in range(8):
            broken.replies(answer(500, {"error": {"message": "away"}}))
        text = f"""
model_list:
  - model_name: chat
    litellm_params: {{model: openai/big, api_base: "{broken.url}", api_key: os.environ/UPSTREAM_KEY, order: 1}}
  - model_name: chat
    litellm_params: {{model: openai/big, api_base: "{good.url}", api_key: os.environ/UPSTREAM_KEY, order: 2}}
  - model_name: emb
    litellm_params: {{model: hosted_vllm/embed, api_base: "{spare.url}"}}
    model_info: {{mode: embedding}}
router_settings:
  model_group_alias: {{gpt-4: chat}}
general_settings: {{master_key: sk-old-master-0123456789}}
"""
        (tmp_path / "config.yaml").write_text(text)
        done = await command("import", "litellm", "config.yaml", cwd=tmp_path)
        assert done.code == 0, done.err
        settings = yaml.safe_load(done.out) | {"server": {"port": 0}}
        monkeypatch.setenv("UPSTREAM_KEY", "sk-upstream")
        async with GatewayProcess.start(settings, tmp_path) as gateway, Wire.open(gateway.port) as wire:
            body = {"model": "gpt-4", "messages": [{"role": "user", "content": "Hello"}]}
            await wire.send(chat(body))
            reply = await wire.reply()
            assert reply.status == 200, reply
            embedding = {"model": "emb", "input": "Hello"}
            await wire.send(
                request_bytes("POST", "/v1/embeddings", json.dumps(embedding).encode(), key="sk-old-master-0123456789")
            )
            assert (await wire.reply()).status == 200
        seen = await good.request()
        assert seen.header("authorization") == "Bearer sk-upstream"
        assert seen.json()["model"] == "big"
        assert (await spare.request()).json()["model"] == "embed"
    finally:
        await upstream.close()


def chat(body: dict[str, Any]) -> bytes:
    return request_bytes("POST", "/v1/chat/completions", json.dumps(body).encode(), key="sk-old-master-0123456789")


def test_nothing_of_the_environment_is_written(tmp_path: Path) -> None:
    """A value is named, never looked up."""
    os.environ["IMPORTED_SECRET"] = "hidden-word"
    try:
        text = "model_list: [{model_name: a, litellm_params: {model: gpt-4o, api_key: os.environ/IMPORTED_SECRET}}]"
        (tmp_path / "config.yaml").write_text(text)
        found = converted(read_their_file(tmp_path / "config.yaml"))
        assert "hidden-word" not in yaml_text(found.sections, [])
        assert "${IMPORTED_SECRET}" in yaml_text(found.sections, [])
    finally:
        del os.environ["IMPORTED_SECRET"]
