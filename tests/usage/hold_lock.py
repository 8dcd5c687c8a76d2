"""A program for the tests: holds the lock of an SQLite file until its standard input ends."""

from __future__ import annotations

import contextlib
import sqlite3
import sys

with contextlib.closing(sqlite3.connect(sys.argv[1], isolation_level=None)) as connection:
    connection.execute("begin exclusive")
    sys.stdout.write("locked\n")
    sys.stdout.flush()
    sys.stdin.read()
