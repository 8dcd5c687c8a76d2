"""Any bytes as a journal: records that were written, or none; never an exception, and never an end that moves back.

That damage hides no intact record is shown in tests/usage/test_ledger_lines.py; here the bytes are whole and right by
their checksum, but what they hold is anybody's.
"""

from __future__ import annotations

import zlib

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.usage.journal.lines import scan

payloads = st.one_of(
    st.binary(max_size=60),
    st.text('[]{}",:0123456789as\\u ', max_size=60).map(str.encode),
    st.sampled_from([b"[" * 5_000, b'["s",' * 2_000, b"9" * 5_000, b'["s","\xff",null,null,200,"ok"]', b"[]", b"null"]),
)


def line(payload: bytes) -> bytes:
    return b"\x1e%08x%b\n" % (zlib.crc32(payload), payload)


@settings(max_examples=300, deadline=None)
@given(st.lists(payloads, max_size=5))
@example([b"[" * 100_000])
@example([b'["s","' + b"\xff" * 10 + b'"]'])
def test_whole_lines_of_anything_are_no_exception(contents: list[bytes]) -> None:
    """A record of another version, or of nobody's, is passed over and counted."""
    data = b"".join(map(line, contents))
    found = scan(data)
    assert 0 <= found.consumed <= len(data)
    assert len(found.records) + found.damaged >= min(len(contents), 1)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text("\x1e\n0123456789abcdef[]", max_size=200).map(str.encode))
def test_any_bytes_are_read_to_an_end(data: bytes) -> None:
    """What is consumed is never asked for again, and what is left is no longer than it was."""
    found = scan(data)
    assert 0 <= found.consumed <= len(data)
    rest = scan(data[found.consumed :])
    assert rest.consumed == 0 or not data[found.consumed :].startswith(b"\x1e")
    assert rest.records == []
