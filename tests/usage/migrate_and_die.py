"""A program for the tests: a start that is killed within a migration's step. Its argument is the database's URL.

The step makes a table and is killed before it ends, as if by `kill -9`.
"""

from __future__ import annotations

import os
import signal
import sys

from sqlalchemy import Connection, text

from gateway.types import Secret
from gateway.usage.sql.database import Database
from gateway.usage.sql.migrations.runner import migrate
from gateway.usage.sql.migrations.steps import STEPS, Step


def half(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE half_a_step (n INTEGER)"))
    os.kill(os.getpid(), signal.SIGKILL)


database = Database(Secret(sys.argv[1]), read_only=False, statement_seconds=15)
migrate(database.begin, (STEPS[0], Step(2, "is killed", half)))
