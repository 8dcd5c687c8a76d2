"""How a path finds its route."""

from __future__ import annotations

import msgspec
import pytest

from gateway.api import all_routes
from gateway.api.router import Hit, Route, Router, error_shape, is_ai_path
from gateway.dialects.base import Operation
from gateway.dialects.openai import OPERATIONS
from gateway.errors import MethodNotAllowed, RouteNotFound
from gateway.http.reply import Answer, Reply


async def nothing(_: Hit) -> Reply:
    return Answer(200, [], b"")


ROUTER = Router(
    [
        Route("GET", "/v1/models", nothing),
        Route("GET", "/v1/models/{id...}", nothing),
        Route("POST", "/api/admin/{kind}/{id}", nothing),
        Route("DELETE", "/api/admin/{kind}/{id}", nothing),
    ]
)


def test_a_rest_parameter_takes_slashes_plain_or_encoded() -> None:
    for path in ("/v1/models/meta/llama", "/v1/models/meta%2Fllama"):
        assert ROUTER.match("GET", path)[1] == {"id": "meta/llama"}


def test_a_segment_takes_no_slash_but_an_encoded_one() -> None:
    assert ROUTER.match("POST", "/api/admin/users/a%2Fb")[1] == {"kind": "users", "id": "a/b"}
    with pytest.raises(RouteNotFound):
        ROUTER.match("POST", "/api/admin/users/a/b")


def test_head_is_served_where_get_is() -> None:
    assert ROUTER.match("HEAD", "/v1/models")[0].method == "GET"


def test_a_wrong_method_is_told_which_ones_there_are() -> None:
    with pytest.raises(MethodNotAllowed) as refusal:
        ROUTER.match("PUT", "/api/admin/users/1")
    assert refusal.value.headers == (("allow", "DELETE, POST"),)
    with pytest.raises(MethodNotAllowed) as refusal:
        ROUTER.match("POST", "/v1/models")
    assert refusal.value.headers == (("allow", "GET, HEAD"),)


@pytest.mark.parametrize("path", ["/", "", "/v1", "/v1/", "/v1/models/", "//v1/models", "/v1/../v1/models"])
def test_nothing_is_guessed(path: str) -> None:
    with pytest.raises(RouteNotFound):
        ROUTER.match("GET", path)


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("/chat/completions", "/v1"),
        ("/v1/v1/chat/completions", "/v1"),
        ("/v1//chat/completions", "/v1"),
        ("//v1/chat/completions", "/v1"),
        ("/models/a/b", "/v1"),
        ("/v1/v1/v1/embeddings", "/v1"),
        ("/api/ai/openai/chat/completions", "/api/ai/openai/v1"),
        ("/api/ai/openai/v1/v1/models", "/api/ai/openai/v1"),
        ("/api//ai/openai/v1/chat/completions", "/api/ai/openai/v1"),
        ("/v2/chat/completions", None),
        ("/v1/nowhere", None),
        ("/v1x/models", None),
        ("/", None),
    ],
)
def test_what_a_base_url_was_meant_to_be(path: str, base: str | None) -> None:
    assert Router(all_routes()).base_path_meant(path) == base


def test_errors_have_the_shape_of_their_path() -> None:
    assert error_shape("/v1/chat/completions") == error_shape("/api/ai/openai/v1/nowhere") == "openai"
    assert error_shape("/api/ai/openai/chat/completions") == "openai"
    assert error_shape("/nowhere") == "openai"
    assert error_shape("/api/admin/users") == error_shape("/api/ai/chat") == "flat"


def test_the_feature_flag_rules_both_prefixes_and_nothing_else() -> None:
    assert all(
        is_ai_path(path)
        for path in (
            "/v1/models",
            "/v1/x",
            "/api/ai/chat",
            "/api/ai/openai/v1/models",
            "/openai/models",
            "/openai/v1/x",
        )
    )
    assert not any(
        is_ai_path(path) for path in ("/healthz", "/api/admin/users", "/v10/models", "/api/soc/usage/user/1")
    )


def test_both_prefixes_have_the_same_rows() -> None:
    rows = {(route.method, route.path) for route in all_routes()}
    short = {(method, path.removeprefix("/v1")) for method, path in rows if path.startswith("/v1/")}
    short -= {(method, path) for method, path in short if path.startswith("/messages")}
    long = {(m, p.removeprefix("/api/ai/openai/v1")) for m, p in rows if p.startswith("/api/ai/openai/v1/")}
    assert short == long
    assert ("POST", "/chat/completions") in short


def test_every_operation_has_its_rows_and_the_lane_serves_those_without_parameters() -> None:
    """Adding one to `OPERATIONS` is all that it takes."""
    routes = all_routes()
    for operation in OPERATIONS:
        paths = {route.path for route in routes if route.operation is operation}
        whole = {f"/v1{operation.path}", f"/api/ai/openai/v1{operation.path}"}
        by_id = {f"/api/ai/proxy/{{modelId}}{version}{operation.path}" for version in ("", "/v1")}
        assert paths == (whole | by_id if operation.family == "core" else whole)
        azure = {f"{prefix}{operation.path}" for prefix in ("/openai", "/openai/v1", "/openai/deployments/m")}
        relayed = Router(routes).relayed
        assert all(path in relayed for path in whole | azure)
    assert "/v1/models" not in Router(routes).relayed


@pytest.mark.parametrize("field", Operation.__struct_fields__[: -len(Operation.__struct_defaults__)])
def test_an_operation_without_one_of_its_fields_does_not_start(field: str) -> None:
    """What nobody has thought of has no default that somebody else will trip over."""
    given = {name: getattr(OPERATIONS[0], name) for name in Operation.__struct_fields__ if name != field}
    with pytest.raises(TypeError, match=field):
        Operation(**given)


@pytest.mark.parametrize("path", ["rerank", "/rerank/", "/"])
def test_an_operations_path_can_be_appended_to_a_base_url(path: str) -> None:
    with pytest.raises(ValueError, match="slash"):
        msgspec.structs.replace(OPERATIONS[0], path=path)


def test_a_row_that_is_there_twice_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="POST /v1/x is there twice"):
        Router([Route("POST", "/v1/x", nothing), Route("POST", "/v1/x", nothing)])
