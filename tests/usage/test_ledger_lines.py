"""Records as bytes: what was written whole is read, what was not is never mistaken for a record."""

from __future__ import annotations

import zlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgerkit import admission, settlement

from gateway.types import UsageDetails
from gateway.usage.journal.journal import to_line
from gateway.usage.journal.lines import scan
from gateway.usage.journal.pairing import Tail, carried
from gateway.usage.journal.records import FailedAttempt, Record
from gateway.usage.journal.segments import Segment

RECORDS: list[Record] = [
    admission("a1", client_request_id='quotes " and \n lines', time=1.5),
    settlement("a1", served_model=7, first_byte_ms=0.25),
    carried(admission("b2", user="42", organisation=None, counted_on=None, time=2.5)),
    settlement("b2", outcome="cancelled", status=499, cost_nano=10**30),
    admission("c3", user="ümläut \u2028", time=3.5),
]
LINES = [to_line(record) for record in RECORDS]
DATA = b"".join(LINES)
STARTS = [sum(map(len, LINES[:n])) for n in range(len(LINES))]


def test_records_come_back_as_they_were_written() -> None:
    """Every field, the ids' types and the kind of the record survive the journal."""
    found = scan(DATA)
    assert found.records == RECORDS
    assert [type(record) for record in found.records] == [type(record) for record in RECORDS]
    assert (found.consumed, found.damaged) == (len(DATA), 0)


def test_a_cut_off_journal_loses_only_the_record_that_was_cut() -> None:
    """A process killed within a write leaves a torn last record: expected, harmless, and no damage."""
    for length in range(len(DATA)):
        found = scan(DATA[:length])
        whole = [
            record for record, start, line in zip(RECORDS, STARTS, LINES, strict=True) if start + len(line) <= length
        ]
        assert found.records == whole, length
        assert found.damaged == 0, length
        assert scan(DATA[found.consumed :]).records == RECORDS[len(whole) :], length


@settings(max_examples=600, deadline=None)
@given(
    start=st.integers(0, len(DATA) - 1),
    length=st.integers(0, 60),
    junk=st.one_of(st.binary(max_size=80), st.text("\x1e\n0a[]\x00", max_size=40).map(str.encode)),
)
def test_damage_hides_no_intact_record_and_makes_no_wrong_one(start: int, length: int, junk: bytes) -> None:
    """Bytes changed, lost or put in anywhere: each record beside them is read, and nothing that was never written."""
    end = min(start + length, len(DATA))
    found = scan(DATA[:start] + junk + DATA[end:]).records
    intact = [
        record
        for record, begin, line in zip(RECORDS, STARTS, LINES, strict=True)
        if begin + len(line) <= start or begin >= end
    ]
    assert [record for record in RECORDS if record in found] == found
    assert [record for record in intact if record not in found] == []


def test_a_flipped_bit_costs_one_record_and_is_counted() -> None:
    """A single wrong byte, anywhere, takes the record it is in and no other."""
    for offset in range(len(DATA)):
        data = bytearray(DATA)
        data[offset] ^= 0x04
        found = scan(bytes(data))
        hit = max(index for index, start in enumerate(STARTS) if start <= offset)
        assert found.records == RECORDS[:hit] + RECORDS[hit + 1 :], offset
        assert found.damaged == 1, offset


def test_zeros_after_a_power_cut_are_skipped() -> None:
    """File systems fill with zeros what they had promised and not written."""
    found = scan(LINES[0] + LINES[1][:20] + bytes(100_000) + LINES[2])
    assert found.records == [RECORDS[0], RECORDS[2]]
    assert found.damaged == 1
    assert scan(bytes(100_000)).consumed == 100_000


def test_text_that_is_no_unicode_does_not_fail_the_request() -> None:
    """A header may hold half a surrogate pair; the record is kept with a replacement for it."""
    (record,) = scan(to_line(admission("x", client_request_id="a\udcff"))).records
    assert record == admission("x", client_request_id="a?", time=record.time)  # type: ignore[union-attr]


def test_a_record_of_an_older_version_gets_the_defaults() -> None:
    """Journals outlive upgrades: fields that were added since have defaults."""
    payload = b'["s","old",null,null,200,"ok"]'
    (record,) = scan(b"\x1e%08x%b\n" % (zlib.crc32(payload), payload)).records
    assert record == settlement(
        "old",
        served_model=None,
        endpoint=None,
        prompt_tokens=0,
        completion_tokens=0,
        total_tokens=0,
        usage_source="none",
        cost_nano=0,
        attempts=0,
    )


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=30), big=st.integers(0, 100_000))
def test_following_a_file_reads_each_record_once(
    sizes: list[int], big: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However the file grows, and however long a record is, each one is read when it is whole, and once."""
    long = to_line(admission("long", client_request_id="x" * big, time=9.5))
    data = DATA + long + DATA
    segment = Segment.create(tmp_path_factory.mktemp("journal"), "0123456789abcdef", 1)
    try:
        tail = Tail(segment)
        found: list[Record] = []
        position = 0
        for size in [*sizes, len(data)]:
            segment.write(data[position : position + size])
            position += size
            for records in tail.read():
                found += records
        assert found == [*RECORDS, *scan(long).records, *RECORDS]
        assert (tail.damaged, tail.is_torn()) == (0, False)
    finally:
        segment.close()


class OldSettlement(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """A settlement as the release before wrote and read it: what has come since stands behind it."""

    request_id: str
    served_model: int | str | None
    endpoint: int | str | None
    status: int
    outcome: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0
    usage_source: str = "none"
    cost_nano: int = 0
    first_byte_ms: float | None = None
    duration_ms: float | None = None
    attempts: int = 0
    answered: bool = True


def test_journals_of_two_versions_are_read_by_either() -> None:
    """During an upgrade, and after a downgrade, each may replay what the other has left."""
    details = UsageDetails(cache_write_tokens=5, service_tier="flex")
    failed = (FailedAttempt("m", 7, "status_503", 503, 1.5),)
    new = settlement("a", details=details, price='{"input":2.5}', failures=failed)
    old = OldSettlement(*(getattr(new, name) for name in OldSettlement.__struct_fields__))
    assert scan(to_line(new)).records == [new]
    assert scan(to_line(old)).records == [settlement("a")]  # type: ignore[arg-type]
    assert msgspec.json.decode(msgspec.json.encode(new), type=OldSettlement) == old
