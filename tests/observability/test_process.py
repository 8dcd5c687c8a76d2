"""The numbers that the system keeps of a process."""

from __future__ import annotations

import os
import time
from pathlib import Path

from gateway.observability.metrics import FAMILIES
from gateway.observability.metrics.process import process_samples


def value(name: str) -> float:
    ((labels, found),) = process_samples()[name]
    assert labels == ()
    assert isinstance(found, float | int)
    return found


def test_each_number_is_about_this_process() -> None:
    assert set(process_samples()) == {name for name in FAMILIES if name.startswith("process_")}
    assert value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes") > 2**20
    assert 0 < value("process_start_time_seconds") <= time.time() + 1
    before = value("process_open_fds")
    descriptor = os.open(os.devnull, os.O_RDONLY)
    try:
        assert value("process_open_fds") == before + 1 <= value("process_max_fds")
    finally:
        os.close(descriptor)
    burnt = value("process_cpu_seconds_total")
    while time.process_time() < burnt + 0.01:
        pass
    assert value("process_cpu_seconds_total") > burnt


def test_without_proc_there_is_less(tmp_path: Path) -> None:
    assert set(process_samples(tmp_path)) == {"process_cpu_seconds_total", "process_max_fds"}
