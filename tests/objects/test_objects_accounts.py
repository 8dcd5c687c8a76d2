"""Which endpoints are one account, and that it stays one when its credential is rotated."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.objects.accounts import Accounts, AccountsInUse, origin_of
from gateway.types import Endpoint, Id, Model, Secret

KEY, OTHER = Secret("sk-one"), Secret("sk-other")
OPENAI = "https://api.openai.com/v1"


def endpoint(endpoint_id: Id, **fields: Any) -> Endpoint:
    defaults: dict[str, Any] = {"url": OPENAI, "api_key": KEY}
    return Endpoint(id=endpoint_id, **(defaults | fields))


def model(model_id: Id, *endpoints: Endpoint) -> Model:
    return Model(id=model_id, name=f"model {model_id}", endpoints=endpoints)


def accounts(*endpoints: Endpoint) -> tuple[Accounts, list[Model]]:
    """Each endpoint under a model of its own."""
    models = [model(number, each) for number, each in enumerate(endpoints)]
    return Accounts(models), models


def are_one(*endpoints: Endpoint) -> bool:
    found, models = accounts(*endpoints)
    labels = [found.label(each, each.endpoints[0]) for each in models]
    places = [found.find(label) for label in labels]
    assert None not in places
    assert places == [found.of(each, each.endpoints[0]) for each in models]
    return len({id(place) for place in places}) == 1


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"url": "https://API.openai.com:443/v2"},
        {"provider_model": "x", "weight": 5, "query": {"api-version": Secret("1")}, "objects": False},
        {"account": "main"},
    ],
)
def test_equal_origin_credential_and_headers_are_one_whatever_the_model(other: dict[str, Any]) -> None:
    assert are_one(endpoint("a"), endpoint("b", **other))


@pytest.mark.parametrize(
    "other",
    [
        {"api_key": OTHER},
        {"api_key": None},
        {"url": "http://api.openai.com/v1"},
        {"url": "https://api.openai.com:444/v1"},
        {"url": "https://eu.api.openai.com/v1"},
        {"headers": {"OpenAI-Organization": Secret("org-x")}},
    ],
)
def test_another_origin_credential_or_header_is_another(other: dict[str, Any]) -> None:
    assert not are_one(endpoint("a"), endpoint("b", **other))


def test_headers_are_equal_in_any_order_and_case() -> None:
    assert are_one(
        endpoint("a", headers={"X-One": Secret("1"), "x-two": Secret("2")}),
        endpoint("b", headers={"X-Two": Secret("2"), "x-one": Secret("1")}),
    )


def test_a_named_account_is_one_whatever_else_differs_and_two_names_are_two() -> None:
    assert are_one(endpoint("a", account="main"), endpoint("b", account="main", api_key=OTHER, url="http://proxy:1/v1"))
    assert not are_one(endpoint("a", account="main"), endpoint("b", account="spare"))


def test_an_account_has_those_of_a_models_endpoints_that_are_its_own() -> None:
    one = model(1, endpoint("a"), endpoint("b", api_key=OTHER), endpoint("c", weight=3))
    found = Accounts([one])
    account = found.of(one, one.endpoints[0])
    assert account is not None
    assert [each.id for each in account.endpoints_of(one)] == ["a", "c"]
    assert account.endpoints_of(model(2, endpoint("a"))) == ()


def test_equal_credentials_that_are_rotated_together_stay_one_account() -> None:
    before, models = accounts(endpoint("a"), endpoint("b"))
    labels = [before.label(each, each.endpoints[0]) for each in models]
    after, _ = accounts(endpoint("a", api_key=OTHER), endpoint("b", api_key=OTHER))
    again, _ = accounts(endpoint("a", api_key=Secret("third")), endpoint("b", api_key=Secret("third")))
    for now in (after, again):
        assert len({now.find(label) for label in labels}) == 1
        assert now.find(labels[0]) is not None


def test_ids_may_be_written_as_numbers_or_texts() -> None:
    before, models = accounts(endpoint(1))
    label = before.label(models[0], models[0].endpoints[0])
    after = Accounts([model("0", endpoint("1", api_key=OTHER))])
    assert after.find(label) is not None


def test_an_object_follows_its_credential_when_that_is_elsewhere_now() -> None:
    before, models = accounts(endpoint("a"), endpoint("b", api_key=OTHER))
    label = before.label(models[0], models[0].endpoints[0])
    swapped, after = accounts(endpoint("a", api_key=OTHER), endpoint("b", api_key=KEY))
    assert swapped.find(label) is swapped.of(after[1], after[1].endpoints[0])


def test_an_account_is_found_while_any_of_its_endpoints_is_there() -> None:
    before, models = accounts(endpoint("a"), endpoint("b"))
    label = before.label(models[0], models[0].endpoints[0])
    left = Accounts([models[1]])
    assert left.find(label) is left.of(models[1], models[1].endpoints[0])
    assert Accounts([]).find(label) is None
    assert before.find(label) is not None  # back again


def test_an_account_that_is_named_later_or_no_longer_is_the_same() -> None:
    unnamed, models = accounts(endpoint("a"))
    named, others = accounts(endpoint("a", account="main"))
    assert named.find(unnamed.label(models[0], models[0].endpoints[0])) is not None
    assert unnamed.find(named.label(others[0], others[0].endpoints[0])) is not None
    renamed, _ = accounts(endpoint("a", account="main", api_key=OTHER, url="http://elsewhere/v1"))
    assert renamed.find(named.label(others[0], others[0].endpoints[0])) is not None


@pytest.mark.parametrize("moved", [{"url": "http://elsewhere/v1"}, {"url": "http://elsewhere/v1", "api_key": OTHER}])
def test_an_endpoint_that_has_moved_is_another_account(moved: dict[str, Any]) -> None:
    before, models = accounts(endpoint("a"))
    after, _ = accounts(endpoint("a", **moved))
    assert after.find(before.label(models[0], models[0].endpoints[0])) is None


@pytest.mark.parametrize("label", ["", "main", "[]", "{}", '["a"]', "null", "[1,2,3,4,5]"])
def test_what_is_no_label_is_no_account(label: str) -> None:
    assert accounts(endpoint("a"))[0].find(label) is None


def test_no_credential_is_in_a_label_or_shown() -> None:
    found, models = accounts(endpoint("a", headers={"x-secret": Secret("very secret")}))
    label = found.label(models[0], models[0].endpoints[0])
    shown = f"{label} {found!r} {found.find(label)!r}"
    assert "sk-one" not in shown
    assert "very secret" not in shown


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://a.example/v1", "https://a.example:443"),
        ("http://a.example./v1", "http://a.example:80"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
        ("HTTP://A.example:80", "http://a.example:80"),
    ],
)
def test_origins(url: str, origin: str) -> None:
    assert origin_of(url) == origin


def test_the_accounts_in_use_are_made_once_for_each_catalogue() -> None:
    in_use, models = AccountsInUse(), (model(1, endpoint("a")),)
    assert in_use.of(models) is in_use.of(models)
    assert in_use.of((*models, model(2, endpoint("b")))) is not in_use.of(models)
