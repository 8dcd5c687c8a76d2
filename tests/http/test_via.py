"""Which gateways a request has come through, and what this one makes of it."""

from __future__ import annotations

import re

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.errors import LoopDetected
from gateway.http.via import MOST_GATEWAYS, Via, gateways_passed

OTHER = "1.1 gw-0123456789ab"


def passed(*values: str) -> tuple[str, ...]:
    return gateways_passed(CIMultiDictProxy(CIMultiDict([("Via", value) for value in values])))


def name_of(via: Via) -> str:
    return via.line(()).decode().removeprefix("via: ").removesuffix("\r\n")


@pytest.mark.parametrize(
    ("values", "entries"),
    [
        ([], ()),
        ([OTHER], (OTHER,)),
        ([f"1.1 nginx, {OTHER} ,1.0 gw-ffffffffffff"], (OTHER, "1.0 gw-ffffffffffff")),
        ([OTHER, "1.1 gw-ffffffffffff"], (OTHER, "1.1 gw-ffffffffffff")),
        (["1.1 gw-0123456789AB, 1.1 gw-0123456789abc, gw-0123456789ab, 2 gw-0123456789ab, 1.1 gw-xyz"], ()),
        (["\udcff, 1.1 gw-٠١٢٣٤٥٦٧٨٩ab"], ()),
        (["," * 100_000], ()),
    ],
)
def test_only_entries_of_this_form_are_passed_on(values: list[str], entries: tuple[str, ...]) -> None:
    assert passed(*values) == entries


def test_a_gateway_has_one_name_for_each_store() -> None:
    assert re.fullmatch(r"1\.1 gw-[0-9a-f]{12}", name_of(Via("one")))
    assert name_of(Via("one")) == name_of(Via("one")) != name_of(Via("another"))


def test_its_own_name_comes_behind_those_of_before() -> None:
    via = Via("one")
    assert via.line((OTHER,)) == f"via: {OTHER}, {name_of(via)}\r\n".encode()


def test_a_request_that_bears_its_name_has_come_round() -> None:
    via = Via("one")
    for mine in (name_of(via), name_of(via).replace("1.1", "1.0")):
        with pytest.raises(LoopDetected):
            via.line((OTHER, mine))


def test_more_than_eight_gateways_are_a_loop_that_has_another_name_each_time() -> None:
    via = Via("one")
    assert via.line((OTHER,) * MOST_GATEWAYS)
    with pytest.raises(LoopDetected):
        via.line((OTHER,) * (MOST_GATEWAYS + 1))


def test_a_store_that_becomes_known_late_gives_the_name_from_then_on() -> None:
    via = Via("its address")
    first = name_of(via)
    via.identify("what it says itself")
    assert name_of(via) == name_of(Via("what it says itself")) != first
