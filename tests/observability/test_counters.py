"""The counting of requests, and the adding up of what several workers have counted."""

from __future__ import annotations

import pytest
from metrics_kit import Scrape

from gateway.dialects.openai import Usage
from gateway.observability.calls import Call
from gateway.observability.ended import MOST_SERIES, MOST_UNPRICED, OTHER_MODEL
from gateway.observability.metrics import FAMILIES, Counters, Samples, joined
from gateway.observability.metrics.exposition import exposition
from gateway.observability.metrics.families import lasting
from gateway.types import Endpoint, Model, UsageDetails


def a_call(model: str = "m", endpoint: int | str = "a", seconds: float = 0.3) -> Call:
    """A request that was answered well, a tenth of a second of ours in it."""
    call = Call("POST", "/v1/chat/completions", "127.0.0.1", None)
    call.began = 100.0
    call.route, call.status, call.outcome, call.attempts = call.path, 200, "ok", 1
    call.served, call.endpoint = Model(id=1, name=model), Endpoint(id=endpoint, url="http://x/v1")
    call.first_byte, call.upstream_seconds = 100.0 + seconds, seconds - 0.1
    call.usage = Usage(10, 20, 30, 4, 5)
    return call


def told(*calls: Call) -> Scrape:
    counters = Counters()
    for call in calls:
        counters.finished(call, 101.0)
    return as_scrape(counters.samples())


def as_scrape(samples: Samples) -> Scrape:
    return Scrape(exposition(samples, "")[0].decode())


def test_a_request_is_counted_once_in_each_metric_that_it_concerns() -> None:
    told_of = told(a_call(), a_call())
    labels = {"method": "POST", "route": "/v1/chat/completions", "status": "200", "model": "m", "outcome": "ok"}
    assert told_of.total("gateway_requests_total", **labels) == told_of.total("gateway_requests_total") == 2
    used = {kind: told_of.total("gateway_tokens_total", model="m", kind=kind) for kind in ("prompt", "completion")}
    assert used == {"prompt": 20, "completion": 40}
    assert told_of.total("gateway_tokens_total", kind="cached") == 8
    assert told_of.total("gateway_tokens_total", kind="reasoning") == 10
    assert told_of.total("gateway_upstream_attempts_total", model="m", endpoint="a", result="ok") == 2
    assert told_of.total("gateway_failovers_total") == 0


def test_times_fall_into_the_buckets_whose_bound_they_do_not_pass() -> None:
    told_of = told(a_call(seconds=0.25), a_call(seconds=0.3), a_call(seconds=1000))
    count = "gateway_first_byte_seconds_bucket"
    assert [told_of.total(count, le=bound) for bound in ("0.1", "0.25", "0.5", "120.0", "+Inf")] == [0, 1, 2, 2, 3]
    assert told_of.total("gateway_first_byte_seconds_sum") == pytest.approx(1000.55)
    assert told_of.total("gateway_own_share_seconds_sum") == pytest.approx(0.3)
    assert told_of.total("gateway_request_duration_seconds_bucket", le="1.0") == 3


def test_an_attempt_that_failed_is_its_endpoints_and_the_answer_that_of_the_next() -> None:
    call = a_call(endpoint=2)
    call.attempts, call.failures = 2, [("m", 1, "timed_out")]
    told_of = told(call)
    attempts = "gateway_upstream_attempts_total"
    assert told_of.total(attempts) == 2
    assert told_of.total(attempts, endpoint="1", result="timed_out") == 1
    assert told_of.total(attempts, endpoint="2", result="ok") == 1
    assert told_of.total("gateway_failovers_total", model="m") == 1


def test_where_every_attempt_failed_none_is_counted_as_answered() -> None:
    call = a_call()
    call.outcome, call.status, call.code = "upstream_error", 502, "upstream_error"
    call.first_byte = call.usage = None
    call.failures = [("m", "a", "broken")]
    told_of = told(call)
    assert told_of.total("gateway_upstream_attempts_total") == 1
    assert told_of.total("gateway_errors_total", code="upstream_error", model="m") == 1
    assert not told_of.has("gateway_first_byte_seconds_count")


def test_ids_that_are_numbers_and_ids_that_are_text_are_the_same_series() -> None:
    told_of = told(a_call(endpoint=1), a_call(endpoint="1"))
    assert told_of.total("gateway_upstream_attempts_total", endpoint="1") == 2
    assert len(told_of.series()) == len(set(told_of.series()))


def test_methods_that_nobody_knows_make_no_series() -> None:
    """At a path with no route anybody could send any word."""
    calls = [Call(f"M{number}", "/nowhere", "127.0.0.1", None) for number in range(20)]
    told_of = told(*calls)
    assert told_of.total("gateway_requests_total", method="", route="(none)") == 20
    assert "M1" not in told_of.label_values()


def test_the_number_of_series_is_bounded() -> None:
    counters = Counters()
    for number in range(MOST_SERIES + 50):
        counters.finished(a_call(model=f"m{number}"), 101.0)
    requests = dict(counters.samples()["gateway_requests_total"])
    assert len(requests) == MOST_SERIES + 1
    assert [count for labels, count in requests.items() if OTHER_MODEL in labels] == [50]


def test_a_name_that_utf8_cannot_write_does_not_break_the_scrape() -> None:
    assert told(a_call(model='odd\ud800"\n')).has("gateway_requests_total", model='odd\\ud800"\n')


def test_samples_of_workers_are_added_and_what_each_sees_for_itself_is_not() -> None:
    one: Samples = {
        "gateway_requests_total": [(("GET", "/x", "200", "", ""), 3)],
        "gateway_own_share_seconds": [((), [1.0] * 14)],
        "gateway_in_flight": [((), 2)],
        "gateway_journal_up": [((), 1)],
        "gateway_config_reloads_total": [(("ok",), 4)],
    }
    other: Samples = {
        "gateway_requests_total": [(("GET", "/x", "200", "", ""), 5), (("GET", "/y", "200", "", ""), 1)],
        "gateway_own_share_seconds": [((), [2.0] * 14)],
        "gateway_in_flight": [((), 1)],
        "gateway_journal_up": [((), 0)],
        "gateway_config_reloads_total": [(("ok",), 3)],
        "of_a_later_version": [((), 1)],
    }
    assert joined([one, other]) == {
        "gateway_requests_total": [(("GET", "/x", "200", "", ""), 8), (("GET", "/y", "200", "", ""), 1)],
        "gateway_own_share_seconds": [((), [3.0] * 14)],
        "gateway_in_flight": [((), 3)],
        "gateway_journal_up": [((), 0)],
        "gateway_config_reloads_total": [(("ok",), 4)],
    }
    assert set(lasting(one)) == {"gateway_requests_total", "gateway_own_share_seconds", "gateway_config_reloads_total"}


def test_what_bears_the_same_labels_is_one_series() -> None:
    """A model of the file and one made at run time may have the same name."""
    labels = ("m", "a", "available")
    assert joined([{"gateway_endpoint_state": [(labels, 1.0), (labels, 1.0)]}]) == {
        "gateway_endpoint_state": [(labels, 2.0)]
    }


def test_every_family_is_told_in_both_formats() -> None:
    """A typing error in the table would otherwise show itself in production's first scrape."""
    samples: Samples = {
        name: [(tuple("x" for _ in family.labels), [1.0] * (len(family.buckets) + 2) if family.buckets else 1.0)]
        for name, family in FAMILIES.items()
    }
    plain, plain_type = exposition(samples, "*/*")
    modern, modern_type = exposition(samples, "application/openmetrics-text; version=1.0.0")
    assert plain_type.startswith("text/plain")
    assert modern_type.startswith("application/openmetrics-text")
    assert modern.endswith(b"# EOF\n")
    names = Scrape(plain.decode()).names()
    for name, family in FAMILIES.items():
        assert (f"{name}_bucket" if family.kind == "histogram" else name) in names
        assert (family.kind == "counter") == name.endswith("_total")


def test_what_is_booked_without_a_price_of_its_tier_is_counted() -> None:
    """By model and tier; a tier is an upstream's word, so that there is a bound on how many."""
    calls = []
    for tier in ["scale", "scale", *(f"made-up-{number}" for number in range(2 * MOST_UNPRICED))]:
        call = a_call()
        call.usage, call.is_unpriced = Usage(details=UsageDetails(service_tier=tier)), True
        calls.append(call)
    found = told(a_call(), *calls)
    assert found.total("gateway_unpriced_total", model="m", tier="scale") == 2
    assert found.total("gateway_unpriced_total", model=OTHER_MODEL, tier="") == MOST_UNPRICED + 1
