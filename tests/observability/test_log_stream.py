"""What the log is written to, over real pipes: it never blocks, never fails, and counts what it loses."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO, cast

import orjson
import pytest

from gateway.observability.ended import AccessLine
from gateway.observability.log_stream import ONE_PIECE_BYTES, LogStream
from gateway.observability.logging import make_logger

LINE = b"0123456789" * 10 + b"\n"


class Pipe:
    def __init__(self, stream: LogStream, reading: int, writing: int) -> None:
        self.stream = stream
        self.reading = reading
        self.writing = writing

    def read(self, size: int = 1 << 20, seconds: float = 10) -> bytes:
        """What is there, once something is."""
        assert select.select([self.reading], (), (), seconds)[0], "nothing was written"
        return os.read(self.reading, size)

    def read_until(self, end: bytes) -> bytes:
        found = b""
        while end not in found:
            found += self.read()
        return found

    def clog(self) -> None:
        """Fill the pipe with dots, so that whatever is put next stays in the thread's hands."""
        os.set_blocking(self.writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.writing, b"." * 4096)
        os.set_blocking(self.writing, True)

    def fill(self) -> int:
        """Put lines into a clogged pipe until the first is lost; how many were put."""
        self.clog()
        self.stream.put(LINE)
        wait_until(lambda: not self.stream.waiting)  # else the thread might make room once more
        lines = 1
        while not self.stream.lost:
            self.stream.put(LINE)
            lines += 1
        return lines


@pytest.fixture
def make_pipe() -> Iterator[Callable[..., Pipe]]:
    made: list[Pipe] = []

    def make(most_bytes: int = 1 << 18) -> Pipe:
        reading, writing = os.pipe()
        made.append(Pipe(LogStream(writing, most_bytes=most_bytes), reading, writing))
        return made[-1]

    yield make
    for pipe in made:
        with contextlib.suppress(OSError):  # a test has closed it
            os.close(pipe.reading)
        pipe.stream.flush(10)  # with nobody reading it is over at once; its descriptor's number is another's soon
        with contextlib.suppress(OSError):
            os.close(pipe.writing)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_lines_come_out_whole_and_in_order(make_pipe: Callable[..., Pipe]) -> None:
    pipe = make_pipe()
    lines = [b"%d\n" % number for number in range(2000)]
    for line in lines:
        pipe.stream.put(line)
    assert pipe.read_until(lines[-1]) == b"".join(lines)
    assert pipe.stream.lost == 0


def test_lines_that_come_together_are_written_in_pieces_that_a_pipe_takes_whole() -> None:
    """Several workers write into one pipe: a line may not be cut by another's."""
    reading, writing = os.pipe2(os.O_DIRECT)  # a read takes what one write brought
    stream = LogStream(writing)
    pieces, lines = [], [LINE] * 2000
    for line in lines:
        stream.put(line)
    while sum(map(len, pieces)) < sum(map(len, lines)):
        pieces.append(os.read(reading, 1 << 20))
    assert {len(piece) % len(LINE) for piece in pieces} == {0}
    assert max(map(len, pieces)) <= ONE_PIECE_BYTES
    assert len(pieces) < len(lines) / 10
    os.close(reading)
    os.close(writing)


def test_lines_that_come_together_are_one_write_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write gives up the interpreter's lock, for which a busy loop then has to be waited."""
    writes: list[int] = []
    write = os.write

    def counted(fd: int, data: bytes) -> int:
        writes.append(write(fd, data))
        return writes[-1]

    monkeypatch.setattr("gateway.observability.log_stream.os.write", counted)
    with (tmp_path / "log").open("ab") as file:
        stream = LogStream(file.fileno())
        for _ in range(2000):
            stream.put(LINE)
        stream.flush(10)
    assert sum(writes) == 2000 * len(LINE)
    assert len(writes) <= 20


@pytest.mark.parametrize("mode", ["wb", "ab"], ids=["one position", "the end"])
def test_workers_that_share_a_file_keep_their_lines_apart(tmp_path: Path, mode: str) -> None:
    """They inherit one open file, or a successor opens it once more at its end."""
    with (tmp_path / "log").open(mode, buffering=0) as file, (tmp_path / "log").open("ab", buffering=0) as again:
        other = os.dup(file.fileno()) if mode == "wb" else again.fileno()
        streams = [LogStream(file.fileno()), LogStream(other)]
        lines = [b"a" * 300 + b"\n", b"b" * 500 + b"\n"]
        for _ in range(5000):
            for stream, line in zip(streams, lines, strict=True):
                stream.put(line)
        for stream in streams:
            stream.flush(10)
    found = (tmp_path / "log").read_bytes().splitlines(keepends=True)
    assert [found.count(line) for line in lines] == [5000, 5000]
    assert len(found) == 10_000


def test_at_the_end_the_thread_ends_and_last_words_still_come_out(make_pipe: Callable[..., Pipe]) -> None:
    """A thread that the interpreter stops may hold the lock: then the process would never end."""
    before = threading.active_count()
    pipe = make_pipe()
    pipe.stream.put(LINE)
    pipe.stream.end()
    assert threading.active_count() == before
    pipe.stream.write("Exception ignored\n")
    pipe.stream.flush()
    assert pipe.read_until(b"ignored\n") == LINE + b"Exception ignored\n"


def test_at_the_end_nobody_waits_for_a_reader(make_pipe: Callable[..., Pipe]) -> None:
    pipe = make_pipe()
    pipe.fill()
    pipe.stream.end()
    pipe.stream.write("Exception ignored\n")
    pipe.stream.flush()


def test_an_unread_pipe_blocks_nobody_and_its_losses_are_told_when_it_is_read(make_pipe: Callable[..., Pipe]) -> None:
    pipe = make_pipe()
    pipe.stream.loss_line = lambda count: b"lost %d\n" % count
    count = pipe.fill()
    for _ in range(9):
        pipe.stream.put(LINE)
    assert pipe.stream.lost == 10
    found = pipe.read_until(b"lost 10\n").lstrip(b".")
    assert found == LINE * (count - 1) + b"lost 10\n"
    pipe.stream.put(b"after\n")
    assert pipe.read() == b"after\n"


def test_losses_are_told_behind_the_lines_that_came_before_them(make_pipe: Callable[..., Pipe]) -> None:
    pipe = make_pipe(most_bytes=40)
    pipe.stream.loss_line = lambda count: b"lost %d\n" % count
    pipe.clog()
    pipe.stream.put(b"first, in the thread's hands\n")
    wait_until(lambda: not pipe.stream.waiting)
    for line in (b"second\n", b"a third, too long\n"):
        pipe.stream.put(line)
    found = pipe.read_until(b"lost 1\n").lstrip(b".")
    assert found == b"first, in the thread's hands\nsecond\nlost 1\n"


def test_the_buffer_is_bounded_in_bytes_and_empties(make_pipe: Callable[..., Pipe]) -> None:
    pipe = make_pipe(most_bytes=10 * len(LINE))
    pipe.stream.put(b"x" * (10 * len(LINE)) + b"\n")
    assert pipe.stream.lost == 1
    for _ in range(3):
        pipe.stream.put(LINE * 10)  # as much as may be held, and room for it again afterwards
        assert pipe.read_until(LINE * 10) == LINE * 10
        pipe.stream.flush()
    assert pipe.stream.lost == 1


def test_a_reader_that_is_gone_fails_nobody(make_pipe: Callable[..., Pipe]) -> None:
    pipe = make_pipe()
    os.close(pipe.reading)
    pipe.stream.put(LINE)
    pipe.stream.put(LINE * 2)
    wait_until(lambda: pipe.stream.lost == 3)
    pipe.stream.flush(10)  # returns at once: there is nothing left to write


def test_a_named_pipe_finds_its_next_reader(tmp_path: Path) -> None:
    """A collector of logs that is stopped and started again goes on reading."""
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    first = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(fifo, os.O_WRONLY)
    pipe = Pipe(LogStream(writing), first, writing)
    pipe.stream.loss_line = lambda count: b"lost %d\n" % count
    pipe.stream.put(b"one\n")
    assert pipe.read() == b"one\n"
    os.close(first)
    pipe.stream.put(b"two\n")
    wait_until(lambda: pipe.stream.lost == 1)
    pipe.reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    pipe.stream.put(b"three\n")
    assert pipe.read_until(b"lost 1\n") == b"three\nlost 1\n"
    os.close(pipe.reading)
    os.close(writing)


def test_a_full_disk_loses_lines_and_counts_them() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        stream = LogStream(full.fileno())
        stream.put(LINE * 3)
        wait_until(lambda: stream.lost == 3)
        stream.flush(10)


def test_a_line_that_the_disk_cut_is_ended_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that reached its bound takes the beginning of a line, and then nothing."""
    room = [7, 0]
    write = os.write

    def write_as_far_as_there_is_room(fd: int, data: bytes) -> int:
        if not room:
            return write(fd, data)
        if (size := room.pop(0)) == 0:
            raise OSError(28, "No space left on device")
        return write(fd, data[:size])

    with (tmp_path / "log").open("wb") as file:
        stream = LogStream(file.fileno())
        stream.loss_line = lambda count: b"lost %d\n" % count
        monkeypatch.setattr("gateway.observability.log_stream.os.write", write_as_far_as_there_is_room)
        stream.put(b"first line\nsecond line\n")
        wait_until(lambda: stream.lost == 2)
        stream.put(b"third line\n")
        wait_until(lambda: b"lost" in (tmp_path / "log").read_bytes())
    assert (tmp_path / "log").read_bytes() == b"first l\nthird line\nlost 2\n"


def test_a_descriptor_that_others_made_non_blocking_loses_nothing(make_pipe: Callable[..., Pipe]) -> None:
    pipe = make_pipe()
    os.set_blocking(pipe.writing, False)
    for _ in range(2000):
        pipe.stream.put(LINE)
    found = b""
    while len(found) < 2000 * len(LINE):
        found += pipe.read()
    assert (found, pipe.stream.lost) == (LINE * 2000, 0)


def test_flushing_waits_no_longer_than_it_may(make_pipe: Callable[..., Pipe]) -> None:
    pipe = make_pipe()
    pipe.stream.flush(60)  # nothing was ever written
    pipe.fill()
    began = time.monotonic()
    pipe.stream.flush(0.1)
    assert 0.1 <= time.monotonic() - began < 30
    pipe.read()


def test_flushing_has_everything_written(make_pipe: Callable[..., Pipe]) -> None:
    pipe = make_pipe()
    pipe.stream.write("Traceback é \udcff\n")
    pipe.stream.flush(10)
    assert pipe.read(seconds=0) == "Traceback é \\udcff\n".encode()


def test_a_fork_writes_for_itself(make_pipe: Callable[..., Pipe]) -> None:
    """What its parent has not written yet is its parent's to write, and what that lost is its parent's loss."""
    pipe = make_pipe()
    count = pipe.fill()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = pipe.stream.lost
            pipe.stream.put(b"child\n")
            pipe.stream.flush(30)
        finally:
            os._exit(code)
    found = pipe.read_until(b"child\n")
    while found.count(b"\n") < count:
        found += pipe.read()
    assert found.replace(b"child\n", b"").lstrip(b".") == LINE * (count - 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_where_standard_error_is_closed_lines_are_lost_and_counted() -> None:
    stream = LogStream.over(None)
    assert not stream.isatty()
    with pytest.raises(OSError, match="closed"):
        stream.fileno()
    stream.put(LINE)
    wait_until(lambda: stream.lost == 1)


def test_a_terminal_is_known_as_one() -> None:
    ours, theirs = pty.openpty()
    with open(theirs, "w") as terminal:
        assert LogStream.over(cast(TextIO, terminal)).isatty()
    os.close(ours)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_the_log_itself_tells_of_lost_lines(log_format: str, make_pipe: Callable[..., Pipe]) -> None:
    pipe = make_pipe(most_bytes=4096)
    log = make_logger(log_format, stream=pipe.stream)  # type: ignore[arg-type]
    pipe.stream.put(b"x" * 5000 + b"\n")
    log.info("room again")
    found = pipe.read_until(b"lines lost").decode()
    assert found.count("\n") == 2
    if log_format == "json":
        told = orjson.loads(found.splitlines()[1])
        assert (told["level"], told["lines"]) == ("warning", 1)
        assert "timestamp" in told


def test_no_line_of_an_access_log_is_longer_than_one_piece(make_pipe: Callable[..., Pipe]) -> None:
    pipe = make_pipe()
    log = make_logger("json", stream=pipe.stream)
    for path in ("/" + "\x01" * 60_000, "/" + "a" * 60_000, "/" + "\udcff" * 60_000):
        line = AccessLine(datetime.now(UTC), "info", "id", "127.0.0.1", "GET", path, 404, 1.0)
        log.info(line)  # type: ignore[arg-type]
        assert len(pipe.read_until(b"\n")) < 3 * ONE_PIECE_BYTES
