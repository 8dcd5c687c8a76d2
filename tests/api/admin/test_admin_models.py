"""Models made, replaced and taken away while the gateway runs, and what becomes of their credentials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from admin_kit import SECRET, Admin, fresh, segment


async def test_a_model_in_the_panels_words(admin: Admin) -> None:
    """Made in the panel's names it comes back whole, serves at once, is listed, and is gone once it is taken away."""
    name = fresh("panel")
    fake = admin.stage.upstream.endpoint(name)
    body = {
        "name": name,
        "config": {"modelId": "provider/x", "colour": "blue"},
        "tags": ["chat"],
        "global": True,
        "limits": {"rpm": 1000},
        "endpoints": [{"id": "a", "endpoint": fake.url, "apiKey": SECRET}],
    }
    made = await admin.post("ai/models", body)
    assert isinstance(made["id"], str)
    assert (made["name"], made["config"], made["tags"], made["global"]) == (
        name,
        {"modelId": "provider/x"},
        ["chat"],
        True,
    )
    assert (made["limits"], made["source"]) == ({"rpm": 1000}, "store")
    assert (made["endpoints"][0]["url"], made["endpoints"][0]["api_key"]) == (fake.url, "set")
    assert await admin.get(f"ai/models/{made['id']}") == made
    assert made in await admin.get("ai/models")
    assert (await admin.chat(name)).status == 200
    request = await fake.request()
    assert (request.header("authorization"), request.json()["model"]) == (f"Bearer {SECRET}", "provider/x")
    await admin.delete(f"ai/models/{made['id']}")
    await admin.refused("GET", f"ai/models/{made['id']}", status=404, code="not_found")
    await admin.refused("DELETE", f"ai/models/{made['id']}", status=404, code="not_found")
    assert (await admin.chat(name)).header("x-gateway-model") != name


@pytest.mark.parametrize("wanted", [990_001, "990_002", "with/slash"])
async def test_an_id_keeps_its_type(admin: Admin, wanted: int | str) -> None:
    """A number stays a number, text stays text, and a slash is no obstacle."""
    made, _ = await admin.new_model(id=wanted)
    assert made["id"] == wanted
    assert (await admin.get(f"ai/models/{segment(str(wanted))}"))["id"] == wanted
    await admin.delete(f"ai/models/{segment(str(wanted))}")


async def test_what_was_read_can_be_sent_back(admin: Admin) -> None:
    """Reading and replacing by what was read changes nothing: the credential is kept, and never seen."""
    made, fake = await admin.new_model(**{"global": True})
    assert await admin.put(f"ai/models/{made['id']}", made) == made
    assert (await admin.chat(made["name"])).status == 200
    assert (await fake.request()).header("authorization") == f"Bearer {SECRET}"


KEEPING = {"left out": {}, "set": {"api_key": "set"}, "the panel's set": {"apiKey": "set"}}


@pytest.mark.parametrize("way", KEEPING)
async def test_a_credential_stays_where_none_is_given(admin: Admin, way: str) -> None:
    """A PUT without the credential, or with `set`, keeps it; headers and query likewise."""
    name = fresh("kept")
    fake = admin.stage.upstream.endpoint(name)
    secrets = {"headers": {"x-team": admin.plant("header-secret-1")}, "query": {"sig": admin.plant("query-secret-1")}}
    full = {"id": "a", "url": fake.url, "api_key": SECRET, **secrets}
    made = await admin.post("ai/models", {"name": name, "global": True, "endpoints": [full]})
    assert made["endpoints"][0]["headers"] == {"x-team": "set"}
    assert made["endpoints"][0]["query"] == {"sig": "set"}
    changed = {
        "name": name,
        "global": True,
        "tags": ["new"],
        "endpoints": [{"id": "a", "url": fake.url} | KEEPING[way]],
    }
    assert (await admin.put(f"ai/models/{made['id']}", changed))["tags"] == ["new"]
    await admin.chat(name)
    request = await fake.request()
    assert (request.header("authorization"), request.header("x-team")) == (f"Bearer {SECRET}", "header-secret-1")
    assert request.target.endswith("?sig=query-secret-1")


async def test_a_credential_can_be_replaced_and_taken_away(admin: Admin) -> None:
    """A new one is used from the next request on; `null` removes it."""
    made, fake = await admin.new_model(**{"global": True})
    for number, (given, sent) in enumerate(
        [(admin.plant("a-new-credential"), "Bearer a-new-credential"), (None, None)]
    ):
        changed = made | {"endpoints": [{"id": "a", "url": fake.url, "api_key": given}]}
        replaced = await admin.put(f"ai/models/{made['id']}", changed)
        assert replaced["endpoints"][0]["api_key"] == (None if given is None else "set")
        await admin.chat(made["name"])
        assert (await fake.request(number + 1)).header("authorization") == sent


UNSAID = object()

ELSEWHERE = {
    "scheme": "https://127.0.0.1:{port}/v1",
    "host": "http://127.0.0.2:{port}/v1",
    "port": "http://127.0.0.1:9/v1",
    "path": "http://127.0.0.1:{port}/v1/another-tenant",
}


@pytest.mark.parametrize("part", ELSEWHERE)
@pytest.mark.parametrize("secret", ["api_key", "headers", "query"])
async def test_another_url_needs_the_credential_again(admin: Admin, part: str, secret: str) -> None:
    """Nobody can have a stored credential sent to a place of their own, whichever kind it is of."""
    name = fresh("moved")
    fake = admin.stage.upstream.endpoint(name)
    value: Any = SECRET if secret == "api_key" else {"x-secret": SECRET}
    made = await admin.post("ai/models", {"name": name, "endpoints": [{"id": "a", "url": fake.url, secret: value}]})
    elsewhere = ELSEWHERE[part].format(port=admin.stage.upstream.port)
    for kept in ({}, {secret: "set" if secret == "api_key" else {"x-secret": "set"}}):
        body = {"name": name, "endpoints": [{"id": "a", "url": elsewhere} | kept]}
        message = await admin.refused("PUT", f"ai/models/{made['id']}", body, status=400, code="invalid_request")
        assert "endpoints[0].url" in message
        assert "again" in message
    assert (await admin.get(f"ai/models/{made['id']}"))["endpoints"][0]["url"] == fake.url


OTHERWISE: dict[str, dict[str, Any]] = {
    "a header more": {"headers": {"x-a": "set", "x-route-to": "https://evil.example"}},
    "a header less": {"headers": {}},
    "another header": {"headers": {"x-a": "https://evil.example"}},
    "a query more": {"query": {"q": "set", "host": "evil.example"}},
    "a query less": {"query": {}},
    "another query": {"query": {"q": "evil.example"}},
    "another auth_header": {"auth_header": "x-api-key"},
    "no auth_header": {"auth_header": UNSAID},
}


@pytest.mark.parametrize("case", OTHERWISE)
async def test_a_stored_credential_is_not_sent_otherwise(admin: Admin, case: str) -> None:
    """Proxies are led by headers and queries: what goes along with a credential is a part of where it goes."""
    url = admin.stage.upstream.endpoint(name := fresh("steady")).url
    whole = {"id": "a", "url": url, "headers": {"x-a": "1"}, "query": {"q": "2"}, "auth_header": "api-key"}
    made = await admin.post("ai/models", {"name": name, "endpoints": [whole | {"api_key": SECRET}]})
    kept = whole | {"api_key": "set", "headers": {"x-a": "set"}, "query": {"q": "set"}}
    changed = {key: value for key, value in (kept | OTHERWISE[case]).items() if value is not UNSAID}
    (field,) = OTHERWISE[case]

    def put(endpoint: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "endpoints": [endpoint]}

    target = f"ai/models/{made['id']}"
    message = await admin.refused("PUT", target, put(changed), status=400, code="invalid_request")
    assert message.startswith(f"endpoints[0].{field}: ")
    assert "again" in message
    assert await admin.put(target, put(kept)) == made
    given = {"api_key": SECRET, "headers": {"x-a": "1"}, "query": {"q": "2"}}
    again = {key: value for key, value in (whole | given | OTHERWISE[case]).items() if value is not UNSAID}
    again = {**again, **{part: {k: v for k, v in again[part].items() if v != "set"} for part in ("headers", "query")}}
    await admin.put(target, put(again))


async def test_another_origin_with_its_credential(admin: Admin) -> None:
    """With the credential the endpoint moves; the old one does not go along."""
    made, _ = await admin.new_model()
    moved = {"id": "a", "url": "http://127.0.0.1:9/v1", "api_key": admin.plant("for-the-new-origin")}
    replaced = await admin.put(f"ai/models/{made['id']}", {"name": made["name"], "endpoints": [moved]})
    assert replaced["endpoints"][0]["url"] == "http://127.0.0.1:9/v1"


async def test_set_stands_for_something_stored_only(admin: Admin) -> None:
    """`set` where nothing is stored is a mistake, told with its field: not a credential of three letters."""
    url = admin.stage.upstream.endpoint("nobody").url
    for field, value in (("api_key", "set"), ("headers", {"x-a": "set"}), ("query", {"q": "set"})):
        body = {"name": fresh("unset"), "endpoints": [{"id": "a", "url": url, field: value}]}
        message = await admin.refused("POST", "ai/models", body, status=400, code="invalid_request")
        assert f"endpoints[0].{field}" in message


async def test_nothing_is_expanded_in_records(admin: Admin) -> None:
    """`${HOME}` from a route is text: nobody reads the gateway's environment or files with it."""
    fake = admin.stage.upstream.endpoint(name := fresh("literal"))
    endpoint = {"id": "a", "url": fake.url, "api_key": "${HOME}", "headers": {"x-file": "${file:/etc/passwd}"}}
    await admin.post("ai/models", {"name": name, "global": True, "endpoints": [endpoint]})
    assert (await admin.chat(name)).status == 200
    request = await fake.request()
    assert (request.header("authorization"), request.header("x-file")) == ("Bearer ${HOME}", "${file:/etc/passwd}")


async def test_what_the_file_defines_is_refused_before_the_body_is_judged(admin: Admin) -> None:
    """409 whatever else is wrong: nothing that could be sent would change it."""
    for method, target, body in (
        ("PUT", "ai/models/id-listed", b"{"),
        ("PUT", "ai/models/id-listed", b'{"name": 5}'),
        ("POST", "ai/models", b'{"id": "id-listed", "nonsense": 1}'),
        ("POST", "ai/models/id-listed/link-user", b'{"userId": 42, "limits": {"rpm": -1}}'),
        ("POST", "ai/models/id-planned/link-plan", b'{"planId": "pro", "nonsense": 1}'),
        ("PUT", "users/42", b'{"tier": "gold"}'),
        ("PUT", "organisations/10", b"[]"),
        ("PUT", "plans/pro", b""),
        ("PUT", "users/42/ai/7", b'{"limits": 5}'),
        ("POST", "users/42/ai/7", b"{"),
        ("POST", "users/42/ai/new", b'{"modelId": "id-listed", "limits": 5}'),
        ("POST", "keys", b'{"id": "user", "user": 42, "scopes": ["root"]}'),
    ):
        message = await admin.refused(method, target, body, status=409, code="defined_in_file")
        assert "gateway.yaml:" in message


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_the_files_models_are_the_operators(admin: Admin, method: str) -> None:
    """409 that names file and line; the model goes on as it is."""
    before = await admin.get("ai/models/id-listed")
    assert before["source"] == "file"
    body = before if method == "PUT" else None
    message = await admin.refused(method, "ai/models/id-listed", body, status=409, code="defined_in_file")
    assert '"id": "id-listed"' in lines_at(message)
    assert await admin.get("ai/models/id-listed") == before
    again = before | {"name": "another"}
    assert "id-listed" in await admin.refused("POST", "ai/models", again, status=409, code="defined_in_file")


def lines_at(message: str) -> str:
    """What stands in the file where the message says."""
    file, _, line = message.split(" ")[0].rpartition(":")
    return "\n".join(Path(file).read_text().splitlines()[int(line) - 1 : int(line) + 1])


@pytest.mark.parametrize("taken", [{"id": "open"}, {"name": "open"}, {"aliases": ["id-open"]}])
async def test_a_name_that_is_taken(admin: Admin, taken: dict[str, Any]) -> None:
    """Nothing made at run time can stand for what another model stands for."""
    url = admin.stage.upstream.endpoint("nobody").url
    body = {"name": fresh("thief"), "endpoints": [{"id": "a", "url": url}]} | taken
    await admin.refused("POST", "ai/models", body, status=409, code="already_exists")


async def test_an_id_is_made_once(admin: Admin) -> None:
    """A second model with the same id is refused and the first one stays."""
    made, _ = await admin.new_model()
    again = made | {"name": fresh("second"), "endpoints": [{"id": "b", "url": made["endpoints"][0]["url"]}]}
    await admin.refused("POST", "ai/models", again, status=409, code="already_exists")
    assert await admin.get(f"ai/models/{made['id']}") == made


async def test_a_model_is_replaced_not_made_by_put(admin: Admin) -> None:
    """PUT to an id that nobody has is a 404; another id in the body than in the path is a mistake."""
    made, _ = await admin.new_model()
    await admin.refused(
        "PUT", f"ai/models/{fresh('none')}", made | {"id": fresh("x")}, status=400, code="invalid_request"
    )
    nameless = {name: value for name, value in made.items() if name != "id"}
    await admin.refused("PUT", f"ai/models/{fresh('none')}", nameless, status=404, code="not_found")


ENDPOINT = {"id": "a", "url": "https://upstream.example"}
BAD = {
    "not JSON": (b"{", "JSON"),
    "not UTF-8": (b'{"name": "\xff"}', "JSON"),
    "a lone surrogate": (b'{"name": "\\ud800", "endpoints": []}', "JSON"),
    "too deep": (b"[" * 100_000, "object"),
    "too deep in a panel's bag": (b'{"name": "x", "config": {"more": ' + b"[" * 100_000, "JSON"),
    "a list": (b"[]", "object"),
    "no name": ({"endpoints": [ENDPOINT]}, "name"),
    "no endpoints": ({"name": "x"}, "endpoints"),
    "empty endpoints": ({"name": "x", "endpoints": []}, "endpoints"),
    "unknown field": ({"name": "x", "endpoints": [ENDPOINT], "endpoint": 1}, "endpoint"),
    "wrong type": ({"name": "x", "endpoints": [ENDPOINT], "limits": {"rpm": "many"}}, "limits.rpm"),
    "out of range": ({"name": "x", "endpoints": [ENDPOINT], "limits": {"rpm": 0}}, "limits.rpm"),
    "slip in a limit": ({"name": "x", "endpoints": [ENDPOINT], "limits": {"rmp": 5}}, "rmp"),
    "no url": ({"name": "x", "endpoints": [{"id": "a"}]}, "endpoints[0].url"),
    "bad url": ({"name": "x", "endpoints": [{"id": "a", "url": "ftp://x"}]}, "endpoints[0].url"),
    "user info": (
        {"name": "x", "endpoints": [{"id": "a", "url": "https://u:pw-hidden@x.example"}]},
        "endpoints[0].url",
    ),
    "contradiction": ({"name": "x", "endpoints": [ENDPOINT | {"endpoint": "https://y.example"}]}, "endpoints[0]"),
    "two of one id": ({"name": "x", "endpoints": [ENDPOINT, ENDPOINT]}, "endpoints[1].id"),
    "bad header": ({"name": "x", "endpoints": [ENDPOINT | {"headers": {"Host": "evil"}}]}, "endpoints[0].headers"),
    "header injection": ({"name": "x", "endpoints": [ENDPOINT | {"api_key": "a\r\nx: y"}]}, "endpoints[0].api_key"),
    "huge number": ({"name": "x", "endpoints": [ENDPOINT | {"weight": 10**30}]}, "weight"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_body_is_told_by_its_field(admin: Admin, case: str) -> None:
    """400 invalid_request, and the message says where."""
    body, named = BAD[case]
    message = await admin.refused("POST", "ai/models", body, status=400, code="invalid_request")
    assert named in message
    assert "pw-hidden" not in message
