"""The journal on a disk that refuses, fills up, or is swept clean; and who owns its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledgerkit import admission, leave_journal, program, segment_files, settlement

from gateway.errors import JournalUnavailable
from gateway.usage.journal.journal import Journal, to_line
from gateway.usage.journal.lines import scan
from gateway.usage.journal.segments import claim_all, close_all, other_owners

ONE, END = admission("one"), settlement("one")
LINE = to_line(ONE)


def records_in(directory: Path) -> list[str]:
    return [record.request_id for path in segment_files(directory) for record in scan(path.read_bytes()).records]


def test_a_record_is_in_the_file_when_the_call_returns(tmp_path: Path) -> None:
    """Nothing waits in a buffer of ours: whoever reads the file next, after a kill, finds it."""
    journal = Journal(tmp_path, max_bytes=10_000)
    journal.admit(ONE)
    journal.settle(END)
    assert records_in(tmp_path) == ["one", "one"]
    journal.segments.close(keep=True)


def test_beyond_its_bound_nothing_is_admitted_but_what_runs_may_end(tmp_path: Path) -> None:
    """The bound keeps a disk from being filled; it must not lose the usage of requests already admitted."""
    journal = Journal(tmp_path, max_bytes=len(LINE) + 10)
    journal.admit(ONE)
    with pytest.raises(JournalUnavailable, match="reached its bound"):
        journal.admit(admission("two"))
    journal.settle(END)
    assert records_in(tmp_path) == ["one", "one"]
    assert journal.retained() == 0
    journal.segments.close(keep=True)


def test_it_is_known_to_admit_nothing_until_there_is_room_again(tmp_path: Path) -> None:
    """For load balancers: they send nobody meanwhile, so it must be found out without a request."""
    journal = Journal(tmp_path, max_bytes=len(LINE) + 10, segment_bytes=1)
    journal.admit(ONE)
    assert journal.admits
    with pytest.raises(JournalUnavailable):
        journal.admit(ONE)
    assert not journal.admits
    (full,) = journal.segments.all()
    assert journal.segments.rotate_if_due()
    assert not journal.admits
    journal.segments.forget(full)
    assert journal.admits
    journal.admit(ONE)
    journal.segments.close(keep=True)


def test_serving_on_keeps_what_does_not_fit_in_memory_up_to_a_bound(tmp_path: Path) -> None:
    """By choice of the operator requests go on without a journal; memory is bounded and losses are counted."""
    journal = Journal(tmp_path, max_bytes=0, retained_lines=2, serves_on=True)
    for number in range(5):
        journal.admit(admission(str(number)))
    assert (journal.retained(), journal.lost_lines) == (2, 3)
    assert [record.request_id for record in scan(journal.take_retained()).records] == ["0", "1"]
    assert journal.retained() == 0
    journal.segments.close(keep=True)


def test_a_full_disk_takes_half_a_record_back() -> None:
    """A write that the disk cut short leaves no half record; admissions are refused, ends are kept and retried."""
    with program("full_disk.py") as child:
        answer, _ = child.communicate(timeout=30)
    assert child.returncode == 0
    assert answer.decode().split("\n") == [
        "refused: the journal cannot be written: only 10 of 100 bytes were written: the disk is full",
        "size 100, retained 1, error True",
        "retried 1, size 100 and its line, retained 0, error False",
        "",
    ]


def test_a_directory_that_cannot_be_made_is_told_at_the_start(tmp_path: Path) -> None:
    """A wrong path shows when the gateway starts, not at the first request."""
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalUnavailable, match="no journal can be kept in"):
        Journal(tmp_path / "file" / "journal", max_bytes=1_000)


def test_a_closed_journal_writes_into_no_other_file(tmp_path: Path) -> None:
    """The number of a closed file is soon another file's: late records must not end up there."""
    journal = Journal(tmp_path, max_bytes=1_000)
    journal.segments.close(keep=False)
    with (tmp_path / "other").open("wb") as other:
        assert other.fileno() > 0
        with pytest.raises(JournalUnavailable):
            journal.admit(ONE)
        journal.settle(END)
    assert (tmp_path / "other").read_bytes() == b""


def test_a_deleted_journal_is_begun_anew(tmp_path: Path) -> None:
    """Someone sweeps the directory: records must not go on into a file that has no name any more."""
    journal = Journal(tmp_path / "journal", max_bytes=10_000)
    for path in segment_files(tmp_path / "journal"):
        path.unlink()
    (tmp_path / "journal").rmdir()
    assert journal.segments.rotate_if_due()
    journal.admit(ONE)
    assert records_in(tmp_path / "journal") == ["one"]
    journal.segments.close(keep=False)


def test_a_long_segment_is_followed_by_a_new_one(tmp_path: Path) -> None:
    """Segments are bounded, so that what is in the database can be let go piece by piece."""
    journal = Journal(tmp_path, max_bytes=10_000, segment_bytes=len(LINE))
    assert not journal.segments.rotate_if_due()
    journal.admit(ONE)
    assert journal.segments.rotate_if_due()
    assert not journal.segments.rotate_if_due()
    first, second = journal.segments.all()
    assert (first.size_bytes, second.size_bytes, journal.segments.used_bytes) == (len(LINE), 0, len(LINE))
    journal.segments.forget(first)
    first.delete()
    assert journal.segments.used_bytes == 0
    assert segment_files(tmp_path) == [second.path]
    journal.segments.close(keep=False)


def test_the_files_of_a_living_process_are_not_touched(tmp_path: Path) -> None:
    """Its lock tells that the owner lives, whatever its process id."""
    journal = Journal(tmp_path, max_bytes=10_000)
    assert other_owners(tmp_path, "someone else") == [journal.segments.owner]
    assert other_owners(tmp_path, journal.segments.owner) == []
    assert claim_all(tmp_path, journal.segments.owner) is None
    journal.segments.close(keep=True)
    claimed = claim_all(tmp_path, journal.segments.owner)
    assert claimed is not None
    close_all(claimed)


def test_only_one_process_replays_an_abandoned_journal(tmp_path: Path) -> None:
    """Workers that start at once share the work, they do not repeat it."""
    path = leave_journal(tmp_path, [LINE])
    (owner,) = other_owners(tmp_path, "")
    first = claim_all(tmp_path, owner)
    assert first is not None
    assert claim_all(tmp_path, owner) is None
    first[0].delete()
    assert not path.exists()
    assert claim_all(tmp_path, owner) is None


def test_other_files_in_the_directory_are_left_alone(tmp_path: Path) -> None:
    """Notes, backups and files set aside lie there in peace."""
    for name in ("notes.journal", "0123456789abcdef-00000001.damaged", "0123456789abcdef-1.journal", "README"):
        (tmp_path / name).write_text("x")
    assert other_owners(tmp_path, "") == []
