"""Every admin route there is, and the keys that may not have it."""

from __future__ import annotations

import itertools
import re

import pytest
from attacks_kit import ADMIN_KEY
from kit import KEYS, Reply, Stage, Wire, request_bytes

from gateway.api import all_routes

ADMIN_ROUTES = sorted((route.method, route.path) for route in all_routes() if route.scope == "ai:manage")
# `reader` may read anybody's usage, `panel` may act for anybody: neither manages.
POWERLESS = ["user", "stranger", "reader", "panel"]


def filled(path: str) -> str:
    """The path with something in each of its places."""
    return re.sub(r"\{\w+(\.\.\.)?\}", "1", path)


async def ask_admin(
    stage: Stage, method: str, target: str, key: str | None, *, body: bytes = b"{}", user: str | None = None
) -> Reply:
    acting = [] if user is None else [("x-gateway-user", user)]
    async with Wire.open(stage.port) as wire:
        await wire.send(request_bytes(method, target, body, key=key, headers=acting))
        return await wire.reply(bodiless=method == "HEAD")


def test_the_table_has_admin_routes_and_each_asks_for_the_scope() -> None:
    """The walk below walks somewhere."""
    assert len(ADMIN_ROUTES) > 30
    scopes = {route.scope for route in all_routes() if route.path.startswith("/api/admin")}
    assert scopes == {"ai:manage", "usage:read"}
    reading = {route.path for route in all_routes() if route.scope == "usage:read"}
    assert {path for path in reading if path.startswith("/api/admin")} == {"/api/admin/ai/requests"}


def test_what_is_open_to_everybody_is_a_short_list() -> None:
    """A new route without a scope is seen here."""
    assert {route.path for route in all_routes() if route.scope is None} <= {
        "/healthz",
        "/readyz",  # detail for keys with usage:read
        "/metrics",  # looks at the key itself: it may be made public
        "/openapi.json",
    }


@pytest.mark.parametrize("key", POWERLESS)
async def test_no_other_scope_opens_an_admin_route(stage: Stage, key: str) -> None:
    """403 on each of them, whatever the method has for a body, before anything is looked up."""
    for (method, path), body in itertools.product(ADMIN_ROUTES, (b"{}", b"not json")):
        reply = await ask_admin(stage, method, filled(path), KEYS[key], body=body)
        assert (reply.status, reply.json()["error"]) == (403, "insufficient_scope"), (method, path)


async def test_acting_for_an_admin_makes_nobody_one(stage: Stage) -> None:
    """`act:as` takes on a user's identity, never the scopes of that user's keys."""
    for method, path in ADMIN_ROUTES:
        reply = await ask_admin(stage, method, filled(path), KEYS["panel"], user="root")
        assert (reply.status, reply.json()["error"]) == (403, "insufficient_scope"), (method, path)


@pytest.mark.parametrize(
    "key", [None, KEYS["expired"], "sk-nobody-0123456789abcdefghi", ADMIN_KEY + "x", ADMIN_KEY[:-1]]
)
async def test_without_a_good_key_there_is_no_way_in(stage: Stage, key: str | None) -> None:
    """401 on each of them."""
    for method, path in ADMIN_ROUTES:
        reply = await ask_admin(stage, method, filled(path), key)
        assert reply.status == 401, (method, path)


SIDEWAYS = [
    "/v1/../api/admin/keys",
    "/v1/%2e%2e/api/admin/keys",
    "/api/ai/../admin/keys",
    "/api/ai/openai/v1/../../../admin/keys",
    "//api/admin/keys",
    "/api//admin/keys",
    "/api/admin//keys",
    "/api/admin/keys/",
    "/api/admin/keys;x",
    "/api/admin/keys%00",
    "/api/admin/keys%2f",
    "/api/admin%2fkeys",
    "/%61pi/admin/keys",
    "/API/admin/keys",
    "/api/Admin/keys",
    "/api/admin/./keys",
    "/api\\admin\\keys",
    "/api/admin/keys#x",
    "http://gateway.test//api/admin/keys",
]


@pytest.mark.parametrize("target", SIDEWAYS)
async def test_no_other_spelling_of_a_path_goes_around_its_scope(stage: Stage, target: str) -> None:
    """Not even an admin gets in by one: paths are matched as they are written."""
    for key in (KEYS["user"], ADMIN_KEY):
        reply = await ask_admin(stage, "GET", target, key)
        assert reply.status in (400, 403, 404, 405), (target, reply)
        assert b"sha256" not in reply.body


@pytest.mark.parametrize("header", ["x-http-method-override", "x-method-override", "x-http-method"])
async def test_a_method_is_what_the_request_line_says(stage: Stage, header: str) -> None:
    """A GET stays a GET: the key that it should delete is there afterwards."""
    async with Wire.open(stage.port) as wire:
        for _ in range(2):
            request = request_bytes("GET", "/api/admin/keys", key=ADMIN_KEY, headers=[(header, "DELETE")])
            await wire.send(request)
            reply = await wire.reply()
            assert reply.status == 200
            assert b'"admin"' in reply.body
