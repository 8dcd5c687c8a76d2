"""Make files and directories that only their owner may read.

Whatever the umask of the process is.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700


def make_private_directory(directory: Path) -> None:
    """Make a private directory and its missing parents. Raises OSError.

    One that is there keeps its mode: others may share it.
    """
    if directory.is_dir():
        return
    make_private_directory(directory.parent)
    try:
        directory.mkdir(DIRECTORY_MODE)
    except FileExistsError:  # another process was faster; or it is a file, and whatever is put in it fails
        return
    directory.chmod(DIRECTORY_MODE)


def open_private(path: Path, flags: int) -> int:
    """A descriptor, with O_CREAT and O_CLOEXEC in addition. Raises OSError."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    with contextlib.suppress(OSError):  # somebody else's file, which we may write all the same
        if os.fstat(descriptor).st_mode & 0o777 != FILE_MODE:
            os.fchmod(descriptor, FILE_MODE)
    return descriptor


def make_private_database(path: Path) -> None:
    """Make an SQLite file before SQLite does. Raises OSError.

    That gives its `-wal` and `-shm` the same mode.

    One that is there is never opened: closing it would let go of the locks that this process has on it through SQLite.
    """
    with contextlib.suppress(FileExistsError):
        os.close(open_private(path, os.O_RDWR | os.O_EXCL))
        return
    for suffix in ("", "-wal", "-shm"):  # of an earlier run, perhaps of a version that left it to the umask
        with contextlib.suppress(OSError):  # not there, or somebody else's
            os.chmod(f"{path}{suffix}", FILE_MODE)
