"""A large file is read by a process of its own: the same settings, the same problems, and an end to it in any case."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import Settings, apart, load_settings
from gateway.config.apart import RECORDS_AT_ONCE, SMALL_BYTES, Reading
from gateway.config.yaml.fingerprints import fingerprint
from gateway.errors import ConfigError

ENVIRON = {"URL": "redis://:secret@127.0.0.1/1"}
MANY = 2 * RECORDS_AT_ONCE + 1

LARGE = (
    """
server: {workers: 1, private_endpoints: [10.0.0.0/8]}
features: {ai: false}
store: {url: '${URL}'}
models:
  - id: 1
    name: m
    endpoints:
      - {id: a, url: 'https://up.example', api_key: '${file:credential}', headers: {x: y}, query: {api-version: z}}
organisations: [{id: 10, grants: [{model: m}]}]
plans: [{id: pro, grants: [{model: 1, limits: {rpm: 5}}]}]
users:
"""
    + "".join(f"  - {{id: {n}, tier: free, organisations: [10], plans: [pro]}}\n" for n in range(MANY))
    + "keys:\n"
    + "".join(f"  - {{id: k{n}, user: {n}, hash: 'sha256:{n:064x}', expires: 2100-01-01}}\n" for n in range(MANY))
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "credential").write_text("sk-credential\n")
    path = tmp_path / "gateway.yaml"
    path.write_text(LARGE)
    assert len(LARGE) > SMALL_BYTES
    return path


@pytest.fixture
def never_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this process reads itself fails."""

    def read_here(*_: object) -> Settings:
        raise AssertionError("read in this process")

    monkeypatch.setattr(apart, "load_settings", read_here)


def test_the_settings_are_the_same(file: Path, never_here: None) -> None:
    apart_read, here = Reading(file, ENVIRON).run(), load_settings(file, ENVIRON)
    assert apart_read == here
    assert dict(apart_read.lines) == dict(here.lines)
    assert apart_read.lines["key", f"k{MANY - 1}"] == LARGE.count("\n")
    assert apart_read.files == {str(file.parent / "credential"): fingerprint(file.parent / "credential")}


def test_the_problems_are_the_same(file: Path, never_here: None) -> None:
    file.write_text(LARGE.replace("rpm: 5", "rpm: five") + "nonsense: 1\n")
    (file.parent / "credential").unlink()
    found = []
    for read in (Reading(file, ENVIRON).run, lambda: load_settings(file, ENVIRON)):
        with pytest.raises(ConfigError) as raised:
            read()
        found.append((raised.value.problems, dict(raised.value.files)))
    assert found[0] == found[1]
    assert len(found[0][0]) == 3
    assert found[0][1] == {str(file.parent / "credential"): None}


def test_a_small_file_is_read_here(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart.sys, "executable", "/nowhere")
    file.write_text("models:\n" + "#" * (SMALL_BYTES - 10))
    assert Reading(file, {}).run().models == ()


@pytest.mark.parametrize("program", ["/nowhere", "/bin/true", "/bin/echo"])
def test_where_no_process_of_ours_can_be_started_it_is_read_here(
    file: Path, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart.sys, "executable", program)
    assert len(Reading(file, ENVIRON).run().users) == MANY


def test_a_program_of_another_version_is_not_asked(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade that has been installed and not yet begun: its settings may have other fields."""
    here = load_settings(file, ENVIRON)
    monkeypatch.setattr(apart, "__version__", "0.0.0")
    monkeypatch.setattr(apart, "load_settings", lambda *_: here)
    assert Reading(file, ENVIRON).run() is here


def failing_in_the_midst(file: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Reading:
    """A reading whose process says its version and does `body` then."""
    program = file.parent / "program"
    program.write_text(
        f"#!{apart.sys.executable}\nimport os, sys, time\nfrom gateway.config import apart\nsys.stdin.buffer.read()\n"
        "piece = apart.pickle.dumps(apart.__version__)\n"
        "os.write(1, apart._LENGTH.pack(len(piece)) + piece)\n" + body
    )
    program.chmod(0o700)
    monkeypatch.setattr(apart.sys, "executable", str(program))
    return Reading(file, ENVIRON)


@pytest.mark.parametrize("body", ["", "os.write(1, apart._LENGTH.pack(5) + b'123')\n", "os.write(1, b'12')\n"])
def test_a_process_that_ends_in_the_midst_is_a_problem(
    file: Path, never_here: None, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    """Not read here instead: what ended it, such as a want of memory, would end this one."""
    with pytest.raises(ConfigError, match="has not come to its end"):
        failing_in_the_midst(file, monkeypatch, body).run()


def test_a_process_that_takes_too_long_is_ended(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "LEAST_SECONDS", 2.0)
    with pytest.raises(ConfigError, match="has not come to its end"):
        failing_in_the_midst(file, monkeypatch, "time.sleep(600)\n").run()


def test_a_reading_can_be_stopped(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = failing_in_the_midst(file, monkeypatch, f"os.mkdir({str(file.parent / 'begun')!r}); time.sleep(600)\n")

    def stop_once_begun() -> None:
        while not (file.parent / "begun").exists():
            threading.Event().wait(0.005)
        reading.stop()

    stopping = threading.Thread(target=stop_once_begun)
    stopping.start()
    with pytest.raises(ConfigError):
        reading.run()
    stopping.join()


def test_a_bug_in_the_process_is_one_here(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    piece = "apart.pickle.dumps(('bug', 'KeyError while'))"
    body = f"piece = {piece}\nos.write(1, apart._LENGTH.pack(len(piece)) + piece)\n"
    with pytest.raises(RuntimeError, match="KeyError"):
        failing_in_the_midst(file, monkeypatch, body).run()


def test_no_process_and_no_descriptor_is_left_behind(file: Path) -> None:
    def opened() -> list[str]:
        return os.listdir("/proc/self/fd")

    children: Callable[[], bytes] = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_bytes
    before, others = len(opened()), children()
    for _ in range(3):
        Reading(file, ENVIRON).run()
    assert len(opened()) == before
    assert children() == others
