"""Which model a request means and who grants it (contract §3)."""

from __future__ import annotations

import pytest

from gateway.access.resolve import accessible, assigned, named_model, resolve
from gateway.errors import ModelNotAccessible, ModelNotFound, NoModelGranted
from gateway.store.base import Catalogue
from gateway.types import ApiKey, Caller, Grant, Limits, Model, Organisation, Plan, User

OPEN = Model(id=1, name="open", is_global=True, limits=Limits(rpm=60))
LLAMA = Model(id="2", name="meta/llama", aliases=("llama",))
SECRET = Model(id=3, name="secret")
CATALOGUE = Catalogue([OPEN, LLAMA, SECRET])
KEY = ApiKey(id="k", user=42, sha256="0" * 64)


def caller(
    grants: tuple[Grant, ...] = (), organisations: tuple[Organisation, ...] = (), plans: tuple[Plan, ...] = ()
) -> Caller:
    return Caller(User(id=42, tier="free", grants=grants), KEY, organisations, plans)


def resolved(who: Caller, body: dict[str, object], *, unknown_is_assigned: bool = True) -> str:
    return resolve(who, CATALOGUE, named_model(body), unknown_is_assigned=unknown_is_assigned).model.name


@pytest.mark.parametrize("model_id", [2, "2"])
def test_a_model_id_matches_as_text_whatever_its_type(model_id: object) -> None:
    assert resolved(caller((Grant("g", "2"),)), {"modelId": model_id, "model": "open"}) == "meta/llama"


@pytest.mark.parametrize("model_id", ["meta/llama", "llama", "9", True, [2], {"id": 2}, 2.0])
def test_a_model_id_that_is_no_id_of_a_model_is_not_found(model_id: object) -> None:
    with pytest.raises(ModelNotFound):
        resolved(caller((Grant("g", "2"),)), {"modelId": model_id})


@pytest.mark.parametrize("name", ["meta/llama", "llama", "2", 2])
def test_model_is_an_id_a_name_or_an_alias(name: object) -> None:
    assert resolved(caller((Grant("g", "2"),)), {"model": name}) == "meta/llama"


@pytest.mark.parametrize("body", [{}, {"model": None}, {"modelId": None}, {"model": "gpt-99"}, {"model": ["open"]}])
def test_an_absent_or_unknown_model_is_the_assigned_one(body: dict[str, object]) -> None:
    assert resolved(caller((Grant("g", "2"),)), body) == "meta/llama"


def test_an_unknown_model_is_not_found_where_it_is_not_served_by_the_assigned_one() -> None:
    with pytest.raises(ModelNotFound):
        resolved(caller((Grant("g", "2"),)), {"model": "gpt-99"}, unknown_is_assigned=False)


def test_an_absent_model_is_the_assigned_one_even_then() -> None:
    assert resolved(caller(), {}, unknown_is_assigned=False) == "open"


def test_a_known_model_without_a_grant_is_refused_and_never_replaced() -> None:
    with pytest.raises(ModelNotAccessible) as refusal:
        resolved(caller(), {"model": "secret"})
    assert refusal.value.param == "model"


def test_sources_win_in_order_and_bring_their_own_limits() -> None:
    mine, theirs, planned = Limits(rpm=1), Limits(rpm=2), Limits(rpm=3)
    organisation = Organisation(id=10, grants=(Grant("o", "2", theirs), Grant("o1", "1")))
    plan = Plan(id="pro", grants=(Grant("p", "2", planned), Grant("p3", "3", planned)))
    everything = caller((Grant("u", "2", mine),), (organisation,), (plan,))
    found = {access.model.name: access for access in accessible(everything, CATALOGUE)}
    assert [access.source for access in found.values()] == ["user", "organisation", "plan"]
    assert found["meta/llama"].limits == mine
    assert found["open"].limits == OPEN.limits, "a model's own limits hold where the winning grant has none"
    assert (found["secret"].limits, found["secret"].owner) == (planned, "pro")


def test_the_assigned_model_is_the_first_of_the_users_grants_then_organisations_plans_and_global() -> None:
    organisation = Organisation(id=10, grants=(Grant("o", "3"),))
    plan = Plan(id="pro", grants=(Grant("p", "2"),))
    assert assigned(caller((Grant("g", "2"),), (organisation,), (plan,)), CATALOGUE).model is LLAMA
    assert assigned(caller((), (organisation,), (plan,)), CATALOGUE).model is SECRET
    assert assigned(caller((), (), (plan,)), CATALOGUE).model is LLAMA
    assert assigned(caller(), CATALOGUE).model is OPEN


def test_a_grant_of_a_model_that_has_gone_is_passed_over() -> None:
    assert assigned(caller((Grant("g", "gone"),)), CATALOGUE).model is OPEN


def test_nothing_granted_at_all_is_its_own_error() -> None:
    with pytest.raises(NoModelGranted):
        assigned(caller(), Catalogue([SECRET]))
