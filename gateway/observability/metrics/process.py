"""CPU, memory and descriptors of this process, as Prometheus clients name them.

Read here and not by Prometheus' library: loading that takes longer than the other workers wait for an answer.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from gateway.observability.metrics.families import Samples

_PROC = Path("/proc")
_START_TIME = 19  # of the words of /proc/PID/stat behind the command's name


def process_samples(proc: Path = _PROC) -> Samples:
    """Return the system's figures of this process.

    Less where there is no `proc`.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "process_cpu_seconds_total": used.ru_utime + used.ru_stime,
        "process_max_fds": float(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    }
    with contextlib.suppress(OSError):  # not on Linux
        found.update(_from_proc(proc))
    return {name: [((), value)] for name, value in found.items()}


def _from_proc(proc: Path) -> Iterator[tuple[str, float]]:
    own = proc / "self"
    virtual, resident, *_ = (own / "statm").read_text().split()
    page = os.sysconf("SC_PAGE_SIZE")
    yield "process_virtual_memory_bytes", int(virtual) * page
    yield "process_resident_memory_bytes", int(resident) * page
    yield "process_open_fds", len(os.listdir(own / "fd"))
    ticks = (own / "stat").read_text().rpartition(")")[2].split()[_START_TIME]
    booted = (proc / "stat").read_text().partition("btime ")[2].split()[0]
    yield "process_start_time_seconds", int(booted) + int(ticks) / os.sysconf("SC_CLK_TCK")
