"""/openapi.json: what it says of the routes is all there, and true of the types that the handlers use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import msgspec
import orjson
import pytest
from kit import KEYS, GatewayProcess, config

from gateway.api import all_routes
from gateway.api.openapi import described
from gateway.api.openapi.given import ANSWERS, EXAMPLES
from gateway.api.openapi.relayed import request_name
from gateway.dialects.openai import OPERATIONS

ROUTES = all_routes()
DOCUMENT: dict[str, Any] = orjson.loads(orjson.dumps(described(ROUTES)))


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, rows in DOCUMENT["paths"].items():
        for method, operation in rows.items():
            yield f"{method.upper()} {path}", operation


def everything_in(value: Any) -> Iterator[dict[str, Any]]:
    """Each object within the document."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from everything_in(inner)


def at(reference: str) -> Any:
    found = DOCUMENT
    for word in reference.removeprefix("#/").split("/"):
        found = found[word]
    return found


def validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema | {"components": DOCUMENT["components"]})


def test_every_row_of_the_table_is_described() -> None:
    """No route is forgotten, and none is told of that does not exist."""
    rows = {f"{route.method} {re.sub(r'[.]{3}}', '}', route.path)}" for route in ROUTES}
    assert rows == {name for name, _ in operations()}


def test_every_operation_has_a_name_of_its_own_a_tag_and_a_summary() -> None:
    names = [operation["operationId"] for _, operation in operations()]
    assert len(names) == len(set(names))
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    for name, operation in operations():
        assert operation["summary"], name
        assert set(operation["tags"]) <= tags, name


def test_every_reference_leads_somewhere() -> None:
    references = [each["$ref"] for each in everything_in(DOCUMENT) if "$ref" in each]
    assert len(references) > 100
    assert all(at(reference) is not None for reference in references)


def test_every_schema_is_one() -> None:
    """A misspelt keyword's value would be let pass by every reader, and mean nothing."""
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert jsonschema_rs.meta.is_valid(schema), name
        validator({"$ref": f"#/components/schemas/{name}"})


def test_every_path_has_its_parameters() -> None:
    for name, operation in operations():
        told = {each["name"] for each in operation["parameters"] if each.get("in") == "path"}
        assert told == set(re.findall(r"{(\w+)}", name)), name


def test_every_body_has_an_example_that_is_valid() -> None:
    """By the schema that is served, and by the type that reads it."""
    seen = 0
    for name, operation in operations():
        if "requestBody" in operation:
            ((_, media),) = operation["requestBody"]["content"].items()
            assert validator(media["schema"]).is_valid(media["example"]), name
            seen += 1
    bodiless = [route for route in ROUTES if route.operation is not None and route.operation.body is None]
    assert seen == len(
        [route for route in ROUTES if route.method in ("POST", "PUT", "PATCH") and route not in bodiless]
    )
    for shape, example in EXAMPLES.items():
        assert isinstance(msgspec.convert(example, shape), shape)


def test_the_examples_of_answers_are_valid() -> None:
    """And each of them is an answer of some route."""
    assert {route.answer for route in ROUTES if route.answer in ANSWERS} == set(ANSWERS)
    for name, operation in operations():
        for status in ("200", "201"):
            media = operation["responses"].get(status, {}).get("content", {}).get("application/json", {})
            assert "example" not in media or validator(media["schema"]).is_valid(media["example"]), name


def test_relayed_routes_take_what_they_do_not_know() -> None:
    """The gateway reads a few fields, and judges none that it passes on."""
    for operation in (each for each in OPERATIONS if each.body == "application/json"):
        schema = DOCUMENT["components"]["schemas"][request_name(operation)]
        assert schema["additionalProperties"] is True
        assert {"model", "modelId"} <= set(schema["properties"])


def test_every_route_with_a_key_says_so_and_which_scope_it_needs() -> None:
    for route in ROUTES:
        operation = DOCUMENT["paths"][route.path.replace("...", "")][route.method.lower()]
        scopes = [] if route.scope == "any" else [route.scope]
        wanted = [] if route.scope is None else [{"bearer": scopes}, {"apiKey": scopes}]
        if route.path == "/metrics":  # whether it takes a key, the configuration says
            wanted = [{}, {"bearer": ["usage:read"]}, {"apiKey": ["usage:read"]}]
        assert operation["security"] == wanted, route.path
        assert ("401" in operation["responses"]) == bool(wanted), route.path


@pytest.mark.parametrize(
    ("operation", "status", "told"),
    [
        ("/api/ai/studio", "403", {"error": "tier_required", "message": "No.", "required": "paid"}),
        ("/api/ai/chat", "502", {"error": "ai_unavailable", "message": "No.", "reply": "Later."}),
        ("/api/ai/chat", "503", {"error": "feature_disabled"}),
        (
            "/v1/chat/completions",
            "429",
            {"error": {"message": "No.", "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}},
        ),
    ],
)
def test_errors_have_the_shape_of_their_surface(operation: str, status: str, told: dict[str, Any]) -> None:
    """The flat one, OpenAI's, the one of the feature flag; and a code that this status does not have is not valid."""
    response = at(DOCUMENT["paths"][operation]["post"]["responses"][status]["$ref"])
    schema = response["content"]["application/json"]["schema"]
    assert validator(schema).is_valid(told)
    wrong = {"error": told["error"] | {"code": "other"}} if isinstance(told["error"], dict) else {"error": "other"}
    assert not validator(schema).is_valid(told | wrong)


async def test_it_is_served_to_everybody(tmp_path: Any) -> None:
    """Without a key, and the same each time."""
    async with GatewayProcess.start(config([]), tmp_path) as gateway:
        first, second = await gateway.get("/openapi.json"), await gateway.get("/openapi.json", key=KEYS["user"])
    assert (first.status, first.header("content-type")) == (200, "application/json")
    assert first.json() == DOCUMENT
    assert second.body == first.body


def test_makers_of_clients_have_what_they_need() -> None:
    """What they drop a route or an answer for, or what linters take for a mistake, each seen with one of them."""
    assert DOCUMENT["servers"]
    assert all(tag["description"] for tag in DOCUMENT["tags"])
    known = ("application/json", "application/octet-stream", "text/")
    for name, operation in operations():
        assert re.fullmatch(r"[a-z][A-Za-z0-9_]*", operation["operationId"]), name
        assert any(status.startswith("4") for status in operation["responses"]), name
        for parameter in operation["parameters"]:
            assert "$ref" in parameter or parameter["schema"], name
        for status, response in operation["responses"].items():
            told = at(response["$ref"]) if "$ref" in response else response
            assert told["description"], (name, status)
            assert next(iter(told["content"])).startswith(known), f"{name} {status}: a first media type that none reads"


def test_schemas_are_such_as_makers_of_clients_read() -> None:
    """Lists say of what, unions have members that say something, and security schemes that are asked for are there."""
    for schema in everything_in(DOCUMENT):
        kinds = schema.get("type")
        assert "array" not in (kinds if isinstance(kinds, list) else ()), schema
        assert kinds != "array" or "items" in schema or "prefixItems" in schema, schema
        assert all(schema.get("anyOf", [True])), schema
    asked = {scheme for _, operation in operations() for each in operation["security"] for scheme in each}
    assert asked <= set(DOCUMENT["components"]["securitySchemes"])
