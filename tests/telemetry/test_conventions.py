"""How operations and providers are named, and what `telemetry` refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from gateway.config import parse_settings
from gateway.config.sections import telemetry
from gateway.config.sections.telemetry import TelemetrySettings
from gateway.dialects import anthropic, openai
from gateway.dialects.base import Operation
from gateway.errors import ConfigError
from gateway.observability.otel.conventions import operation_of, provider_of
from gateway.types import Endpoint

BILLED = [
    operation
    for operation in (*openai.OPERATIONS, *anthropic.OPERATIONS)
    if operation.is_billed and operation.family == "core"
]


@pytest.mark.parametrize("operation", BILLED, ids=repr)
def test_every_route_that_runs_a_model_has_an_operation(operation: Operation) -> None:
    assert operation_of(operation.method, f"/v1{operation.path}") is not None


def test_routes_that_end_alike_are_told_apart() -> None:
    found = {
        path: operation_of("POST", path)
        for path in ("/v1/chat/completions", "/v1/completions", "/openai/deployments/{model}/completions")
    }
    assert [each.operation if each else None for each in found.values()] == [
        "chat",
        "text_completion",
        "text_completion",
    ]
    assert operation_of("GET", "/v1/chat/completions/{completion_id}/messages") is None
    assert operation_of("GET", "/v1/embeddings") is None


@pytest.mark.parametrize(
    ("url", "protocols", "provider"),
    [
        ("https://api.openai.com/v1", ("openai",), "openai"),
        ("https://contoso.openai.azure.com/openai/v1", ("openai",), "azure.ai.openai"),
        ("https://api.anthropic.com/v1", ("anthropic",), "anthropic"),
        ("https://api.anthropic.com/v1", ("openai", "anthropic"), "anthropic"),
        ("https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1", ("openai",), "aws.bedrock"),
        ("https://europe-west1-aiplatform.googleapis.com/v1", ("openai",), "gcp.vertex_ai"),
        ("https://api.x.ai/v1", ("openai",), "x_ai"),
        ("https://api.notx.ai/v1", ("openai",), "openai"),
        ("http://10.0.0.5:8000/v1", ("openai",), "openai"),
        ("http://10.0.0.5:8000/v1", ("anthropic",), "anthropic"),
    ],
)
def test_a_provider_is_known_by_its_host_else_by_its_protocol(
    url: str, protocols: tuple[str, ...], provider: str
) -> None:
    endpoint = Endpoint(id="a", url=url, protocols=protocols)  # type: ignore[arg-type]
    assert provider_of(endpoint, is_messages=False) == provider


def test_one_that_speaks_both_is_named_by_the_protocol_of_the_request() -> None:
    endpoint = Endpoint(id="a", url="http://box/v1", protocols=("openai", "anthropic"))
    assert provider_of(endpoint, is_messages=True) == "anthropic"
    assert provider_of(endpoint, is_messages=False) == "openai"


# -- configuration


def parsed(base: Path, *lines: str) -> TelemetrySettings:
    text = "models: []\ntelemetry:\n" + "".join(f"  {line}\n" for line in lines)
    return parse_settings(text, "gw.yaml", {"TOKEN": "a-secret-token"}, base).telemetry


def refused(base: Path, *lines: str) -> str:
    with pytest.raises(ConfigError) as raised:
        parsed(base, *lines)
    (problem,) = raised.value.problems
    return problem


def test_off_by_default_and_all_that_it_takes(tmp_path: Path) -> None:
    assert parse_settings("models: []\n", "gw.yaml", {}, tmp_path).telemetry.otlp is None
    (tmp_path / "token").write_text("from-a-file\n")
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    found = parsed(
        tmp_path,
        "otlp: https://collector.test/api/otel/",
        "headers: {authorization: 'Bearer ${TOKEN}', x-other: '${file:token}'}",
        "service_name: ai",
        "sample_ratio: 0.1",
        "ca_file: ca.pem",
    )
    assert found.otlp is not None
    assert found.otlp.reveal() == "https://collector.test/api/otel"
    assert {name: value.reveal() for name, value in found.headers.items()} == {
        "authorization": "Bearer a-secret-token",
        "x-other": "from-a-file",
    }
    assert (found.service_name, found.sample_ratio, found.ca_file) == ("ai", 0.1, str(tmp_path / "ca.pem"))
    assert "secret-token" not in repr(found)
    assert "collector.test" not in repr(found), "an address may hold a token"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("otlp: grpc://collector:4317", "must begin with http:// or https://"),
        ("otlp: http://a:b@collector", "must not hold a user or password"),
        ("otlp: http://collector/?key=1", "must not have a query"),
        ("sample_ratio: 1.5", "1"),
        ("sample_ratio: -1", "0"),
        ("headers: {'a b': c}", "not a valid header name"),
        ("headers: {X-Team: a, x-team: b}", "the same header"),
        ("service_name: ''", ""),
        ("otpl: http://collector", "did you mean 'otlp'"),
        ("ca_file: missing.pem", "cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(tmp_path: Path, line: str, reason: str) -> None:
    problem = refused(tmp_path, line)
    assert problem.startswith("gw.yaml:3: telemetry")
    assert reason in problem


def test_where_the_extra_is_missing_it_is_said_with_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "find_spec", lambda module: None if module.startswith("opentelemetry.sdk") else True)
    problem = refused(tmp_path, "otlp: http://collector:4318")
    assert problem.startswith("gw.yaml:3: telemetry.otlp: ")
    assert "pip install 'ecli-gateway[otel]'" in problem
    assert parsed(tmp_path, "service_name: x").otlp is None


def test_a_missing_parent_is_a_missing_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(telemetry, "_NEEDED", ("no_such_package_here.inside",))
    assert "ecli-gateway[otel]" in refused(tmp_path, "otlp: http://collector:4318")
