"""A text made anew, or a key given more, is judged as a key that is made: nobody gets beyond its own key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kit import Reply, Stage
from kit.gateway import KEYS
from own_kit import ADMIN, ALL, MAKER, call, chat, made, opened

LATE, LATER = "2998-01-01T00:00:00Z", "2999-01-01T00:00:00Z"


async def given(stage: Stage, name: str, *, key: str = ADMIN, **body: Any) -> str:
    """Make a key by the admin route; return its text."""
    reply = await call(stage, "POST", "/api/admin/keys", {"user": 42, "id": name, **body}, key=key)
    assert reply.status == 201, reply
    text: str = reply.json()["key"]
    return text


async def rotated(stage: Stage, name: str, key: str, **headers: str) -> Reply:
    return await call(stage, "POST", f"/api/ai/keys/{name}/rotate", key=key, **headers)


async def changed(stage: Stage, key_id: str, key: str, /, **body: Any) -> int:
    return (await call(stage, "PATCH", f"/api/ai/keys/{key_id}", body, key=key)).status


def is_refused(reply: Reply) -> bool:
    return (reply.status, reply.json().get("error")) == (403, "insufficient_scope")


async def test_no_text_with_scopes_beyond_ones_own(tmp_path: Path) -> None:
    """Neither by the user's route, acted for or not, nor by the admin's; the old text goes on."""
    async with opened(tmp_path) as stage:
        plain = await given(stage, "plain")
        powerful = await given(stage, "powerful", scopes=["ai:use", "ai:manage"])
        assert is_refused(await rotated(stage, "powerful", plain))
        assert is_refused(await rotated(stage, "powerful", KEYS["panel"], x_gateway_user="42"))
        assert is_refused(await rotated(stage, "powerful", MAKER))
        reader = (await made(stage, scopes=["ai:use", "usage:read"]))["id"]
        by_admin = await call(stage, "POST", f"/api/admin/keys/{reader}/rotate", key=ADMIN)
        assert is_refused(by_admin)
        assert await chat(stage, powerful) == (200, None)
        assert (await rotated(stage, "plain", powerful)).status == 201
        assert (await rotated(stage, "powerful", powerful)).status == 201


async def test_whom_is_acted_for_gets_no_text_that_acts_for_others(tmp_path: Path) -> None:
    """Though the panel's key, by which its users ask, may give that scope."""
    async with opened(tmp_path) as stage:
        await given(stage, "plain")
        panel = await given(stage, "deputy", user="root", scopes=["ai:use", "ai:manage", "act:as"], key=ALL)
        await given(stage, "acting", scopes=["ai:use", "act:as"], key=ALL)
        for_42 = {"key": panel, "x_gateway_user": "42"}
        assert is_refused(await rotated(stage, "acting", **for_42))
        assert is_refused(await call(stage, "POST", "/api/admin/keys/acting/rotate", **for_42))
        body = {"user": 42, "scopes": ["act:as"]}
        assert is_refused(await call(stage, "POST", "/api/admin/keys", body, **for_42))
        assert (await rotated(stage, "plain", **for_42)).status == 201


@pytest.mark.parametrize(
    "bound",
    [{"models": ["a"]}, {"limits": {"requests": 5, "period": "day"}}, {"expires": LATE}, {"ips": ["127.0.0.0/8"]}],
    ids=["models", "limits", "expires", "ips"],
)
async def test_a_bound_key_gets_no_free_text(tmp_path: Path, bound: dict[str, Any]) -> None:
    """It rotates itself and what it made; a key that its bound does not hold keeps its text."""
    async with opened(tmp_path) as stage:
        narrow, free = await given(stage, "narrow", **bound), await given(stage, "free")
        child = await made(stage, key=narrow)
        assert is_refused(await rotated(stage, "free", narrow))
        assert is_refused(await rotated(stage, "free", child["key"]))
        assert (await rotated(stage, child["id"], narrow)).status == 201
        turned = await rotated(stage, "narrow", narrow)
        assert (turned.status, (await rotated(stage, "free", free)).status) == (201, 201)
        for name, value in bound.items():
            assert turned.json()[name] == value


async def test_a_bound_admin_key_gets_no_free_text(tmp_path: Path) -> None:
    async with opened(tmp_path) as stage:
        narrow = await given(stage, "narrow", scopes=["ai:use", "ai:manage"], models=["a"])
        await given(stage, "free")
        await given(stage, "within", key=narrow)
        path = "/api/admin/keys/{}/rotate"
        assert is_refused(await call(stage, "POST", path.format("free"), key=narrow))
        listed = {each["name"] or each["id"]: each["id"] for each in (await call(stage, "GET", "/api/ai/keys")).json()}
        within = next(name for name in listed.values() if name.endswith("~within"))
        assert (await call(stage, "POST", path.format(within), key=narrow)).status == 201
        assert (await call(stage, "POST", path.format("narrow"), key=narrow)).status == 201


WIDER: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # what the key has, what would be more, what is less
    "models": ({"models": ["a"]}, {"models": None}, {"models": ["a"], "name": "n"}),
    "another model": ({"models": ["a"]}, {"models": ["a", "b"]}, {"name": "n"}),
    "addresses": ({"ips": ["127.0.0.0/8"]}, {"ips": []}, {"ips": ["127.0.0.0/24"]}),
    "a wider range": ({"ips": ["127.0.0.0/8"]}, {"ips": ["0.0.0.0/0"]}, {"ips": ["127.0.0.1/32"]}),
    "no end": ({"expires": LATE}, {"expires": None}, {"expires": "2997-01-01"}),
    "a later end": ({"expires": LATE}, {"expires": LATER}, {"expires": LATE}),
    "no limits": ({"limits": {"requests": 9}}, {"limits": None}, {"limits": {"requests": 8, "rpm": 6}}),
    "a higher limit": ({"limits": {"rpm": 9}}, {"limits": {"rpm": 10}}, {"limits": {"rpm": 9}}),
    "another period": (
        {"limits": {"requests": 9}},
        {"limits": {"requests": 9, "period": "day"}},
        {"limits": {"requests": 9}},
    ),
}


@pytest.mark.parametrize("case", WIDER)
async def test_a_bound_key_lifts_no_bound(tmp_path: Path, case: str) -> None:
    """Not its own, nor a sibling's; its user's free key may, and so may it for what it made."""
    has, more, less = WIDER[case]
    async with opened(tmp_path) as stage:
        narrow = await given(stage, "narrow", **has)
        await given(stage, "sibling", **has)
        child = (await made(stage, key=narrow, **has))["id"]
        assert await changed(stage, "narrow", narrow, **more) == 403
        assert await changed(stage, "sibling", narrow, **more) == 403
        assert await changed(stage, child, narrow, **more) == 200
        assert await changed(stage, "narrow", narrow, **less) == 200
        assert await changed(stage, "narrow", MAKER, **more) == 200


async def test_the_bounds_of_a_key_with_more_scopes_stay(tmp_path: Path) -> None:
    """A key may take from one that may more than itself, and give it nothing."""
    async with opened(tmp_path) as stage:
        plain = await given(stage, "plain")
        await given(stage, "powerful", scopes=["ai:use", "ai:manage"], ips=["10.0.0.0/8"])
        assert await changed(stage, "powerful", plain, ips=[]) == 403
        assert await changed(stage, "powerful", plain, name="mine") == 200
        assert (await call(stage, "DELETE", "/api/ai/keys/powerful", key=plain)).status == 200


async def test_a_replaced_text_makes_nothing_that_outlives_its_grace(tmp_path: Path) -> None:
    """During the grace it is a key that ends: no new text, no later end, nor a child without that end."""
    async with opened(tmp_path) as stage:
        old = await given(stage, "turned", scopes=["ai:use", "ai:manage"])
        before = await made(stage, key=old)
        turned = await call(stage, "POST", "/api/admin/keys/turned/rotate", {"grace_seconds": 3600}, key=old)
        assert turned.status == 201
        assert is_refused(await rotated(stage, "turned", old))
        assert is_refused(await call(stage, "POST", "/api/admin/keys/turned/rotate", key=old))
        assert is_refused(await rotated(stage, before["id"], old))
        child = await made(stage, key=old, expires=LATER)
        assert child["expires"] is not None
        assert child["expires"] < LATE
        assert await changed(stage, child["id"], old, expires=None) == 403
        assert await changed(stage, child["id"], child["key"], expires=None) == 403
        assert (await call(stage, "POST", "/api/admin/keys", {"user": 42}, key=old)).json()["expires"] < LATE
        assert await changed(stage, child["id"], turned.json()["key"], expires=None) == 200
        assert (await rotated(stage, before["id"], turned.json()["key"])).status == 201


async def test_what_a_key_has_from_its_maker_is_shown(tmp_path: Path) -> None:
    """Made, listed, renamed or rotated; a grandchild's too, and what it says of itself stays."""
    bounds = {"models": ["a"], "limits": {"rpm": 50, "period": "month"}, "expires": LATE, "ips": ["127.0.0.0/8"]}
    async with opened(tmp_path) as stage:
        narrow = await given(stage, "narrow", **bounds)
        child = await made(stage, key=narrow)
        grandchild = await made(stage, key=child["key"], expires=LATER, limits={"rpm": 5})
        listed = {each["id"]: each for each in (await call(stage, "GET", "/api/ai/keys", key=narrow)).json()}
        renamed = (await call(stage, "PATCH", f"/api/ai/keys/{child['id']}", {"name": "b"}, key=narrow)).json()
        fresh = (await rotated(stage, child["id"], narrow)).json()
        for shown in (child, listed[child["id"]], renamed, fresh, grandchild, listed[grandchild["id"]]):
            own = {"rpm": 5} if shown["id"] == grandchild["id"] else bounds["limits"]
            assert {name: shown[name] for name in ("models", "ips", "expires")} == {
                name: bounds[name] for name in ("models", "ips", "expires")
            }
            assert shown["limits"]["rpm"] == own["rpm"]
