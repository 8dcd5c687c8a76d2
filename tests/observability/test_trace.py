"""Which `traceparent` and `tracestate` go on to an upstream."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.observability.tracing import Trace, span_id, trace_of

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


def found(*headers: tuple[str, str]) -> Trace | None:
    return trace_of(CIMultiDictProxy(CIMultiDict(headers)))


def test_a_request_without_one_has_no_trace() -> None:
    assert found(("host", "x"), ("tracestate", "a=1")) is None


@pytest.mark.parametrize(
    "parent",
    [
        PARENT,
        f"00-{TRACE_ID}-00f067aa0ba902b7-00",
        f"cc-{TRACE_ID}-00f067aa0ba902b7-01",
        f"cc-{TRACE_ID}-00f067aa0ba902b7-01-what-comes-later",
        f"cc-{TRACE_ID}-00f067aa0ba902b7-01-",
    ],
)
def test_a_valid_parent_goes_on_as_it_is(parent: str) -> None:
    trace = found(("TraceParent", parent))
    assert trace is not None
    assert (trace.trace_id, trace.fields) == (TRACE_ID, f"traceparent: {parent}\r\n".encode())
    assert trace.parent_id == "00f067aa0ba902b7"
    assert trace.is_sampled is (parent != f"00-{TRACE_ID}-00f067aa0ba902b7-00")


@pytest.mark.parametrize(
    "parent",
    [
        "",
        PARENT.upper(),
        PARENT + "-more",
        PARENT + "0",
        PARENT[:-1],
        " " + PARENT,
        PARENT.replace("-", "_"),
        f"ff-{TRACE_ID}-00f067aa0ba902b7-01",
        f"cc-{TRACE_ID}-00f067aa0ba902b7-01.more",
        f"cc-{TRACE_ID}-00f067aa0ba902b7-01-\r\nx-evil: 1",
        f"cc-{TRACE_ID}-00f067aa0ba902b7-01-" + "x" * 500,
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID[:-1]}٣-00f067aa0ba902b7-01",
    ],
)
def test_an_invalid_parent_is_dropped_and_its_state_with_it(parent: str) -> None:
    assert found(("traceparent", parent), ("tracestate", "a=1")) is None


def test_two_parents_are_none() -> None:
    assert found(("traceparent", PARENT), ("traceparent", PARENT)) is None


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        (["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (["a=1", "b=2 , c=3"], "a=1,b=2,c=3"),
        (["fw529a3039@dt=FfD, ,a-_*/1= 1"], "fw529a3039@dt=FfD,a-_*/1= 1"),
        ([",".join(f"k{number}=v" for number in range(32))], ",".join(f"k{number}=v" for number in range(32))),
    ],
)
def test_a_valid_state_goes_on_in_one_line(lines: list[str], state: str) -> None:
    trace = found(("traceparent", PARENT), *(("tracestate", line) for line in lines))
    assert trace is not None
    assert trace.fields == f"traceparent: {PARENT}\r\ntracestate: {state}\r\n".encode()
    own = f"traceparent: 00-{TRACE_ID}-{'1' * 16}-01\r\n"
    assert trace.continued("1" * 16) == f"{own}tracestate: {state}\r\n".encode()


@pytest.mark.parametrize(
    "state",
    [
        "",
        " , ",
        "nothing",
        "a=",
        "A=1",
        "a=1,a=2",
        "a=1=2",
        "a=\x01",
        "a=é",
        "a=1\r\nx-evil: 1",
        "a=" + "v" * 257,
        "k" * 257 + "=v",
        ",".join(f"k{number}=v" for number in range(33)),
    ],
)
def test_an_invalid_state_is_dropped_alone(state: str) -> None:
    trace = found(("traceparent", PARENT), ("tracestate", state))
    assert trace is not None
    assert trace.fields == f"traceparent: {PARENT}\r\n".encode()
    assert trace.continued("1" * 16) == f"traceparent: 00-{TRACE_ID}-{'1' * 16}-01\r\n".encode()


def test_what_a_later_version_says_in_its_flags_is_not_ours_to_pass_on() -> None:
    trace = found(("traceparent", f"cc-{TRACE_ID}-00f067aa0ba902b7-ff-more"))
    assert trace is not None
    assert trace.continued("1" * 16) == f"traceparent: 00-{TRACE_ID}-{'1' * 16}-03\r\n".encode()


@pytest.mark.parametrize("request_id", ["0a" * 16, "0" * 32, "f" * 32])
def test_the_spans_of_a_request_are_told_apart_by_ids_of_sixteen_digits(request_id: str) -> None:
    ids = [span_id(request_id, attempt) for attempt in range(4)]
    assert len(set(ids)) == 4
    assert all(len(each) == 16 and int(each, 16) for each in ids)
    assert ids[0] == span_id(request_id)
