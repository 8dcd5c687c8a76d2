"""The files that operators take from config/ to run the gateway beside a panel do what they say."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit import DONE, KEYS, Stage, Wire, events, request_bytes
from kit.answers import delta
from kit.nginx import nginx

CONFIG = Path(__file__).parents[3] / "config"
DOCS = CONFIG.parent / "docs" / "beside-a-panel.md"
GATEWAY_YAML = CONFIG / "gateway.beside-panel.yaml"


def check(**environment: str) -> subprocess.CompletedProcess[str]:
    """`gateway check` of the delivered file, in an environment of these variables alone."""
    command = [sys.executable, "-m", "gateway", "check", "-c", str(GATEWAY_YAML)]
    return subprocess.run(
        command,
        env={"PATH": os.environ["PATH"]} | environment,
        cwd=CONFIG.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_delivered_file_is_valid_once_its_key_is_set() -> None:
    done = check(PANEL_KEY=KEYS["panel"])
    assert (done.returncode, done.stderr) == (0, "")


def test_without_its_key_the_delivered_file_says_which_variable_is_missing() -> None:
    done = check()
    assert done.returncode == 1
    assert "PANEL_KEY" in done.stderr


async def test_behind_the_delivered_nginx_settings_streams_arrive_event_by_event(panel: Stage, tmp_path: Path) -> None:
    """The upstream sends each event only once the client has the one before: a proxy that buffers never gets on."""
    model = panel.model()
    gates = [asyncio.Event() for _ in range(4)]
    steps = [step for number, gate in enumerate(gates) for step in (delta(str(number)), gate)]
    model.a.replies(events(*steps, DONE))
    async with nginx(panel.port, tmp_path, (CONFIG / "nginx.conf").read_text()) as port, Wire.open(port) as wire:
        await wire.send(request_bytes("POST", "/v1/chat/completions", model.chat(stream=True), key=KEYS["user"]))
        head = await wire.head()
        assert (head.status, head.header("transfer-encoding")) == (200, "chunked")
        for number, gate in enumerate(gates):
            assert await wire.event() == delta(str(number))
            gate.set()
        assert await wire.event() == DONE


async def test_behind_the_delivered_nginx_settings_a_large_body_is_refused_by_the_gateway(
    hasty: Stage, tmp_path: Path
) -> None:
    """In the shape that clients read, whatever the size; `hasty` takes one megabyte, and waits for no more of it."""
    async with nginx(hasty.port, tmp_path, (CONFIG / "nginx.conf").read_text()) as port:
        for declared, sent in ((2 * 2**20, 2 * 2**20), (2**30, 1000), (50 * 2**40, 0)):
            head = request_bytes("POST", "/v1/chat/completions", b"{}", key=KEYS["user"]).removesuffix(b"{}")
            head = head.replace(b"content-length: 2\r\n", f"content-length: {declared}\r\n".encode())
            async with Wire.open(port) as wire:
                await wire.send(head + b" " * sent)
                reply = await wire.reply()
            assert (reply.status, reply.json()["error"]["code"]) == (413, "request_too_large"), declared


def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    """But for the program, which is not installed where the tests run."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("NO systemd-analyze: the unit was NOT verified")
    text = (CONFIG / "ecli-gateway.service").read_text()
    unit = tmp_path / "ecli-gateway.service"
    unit.write_text(text.replace("/opt/ecli-gateway/bin/gateway", "/bin/true"))
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False)
    assert str(unit.name) not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr


def test_the_unit_writes_only_where_systemd_lets_it() -> None:
    """Everything is read-only but the state directory, which the delivered gateway.yaml writes to."""
    text = (CONFIG / "ecli-gateway.service").read_text()
    for line in ("DynamicUser=yes", "ProtectSystem=strict", "NoNewPrivileges=yes", "StateDirectory=ecli-gateway"):
        assert f"\n{line}\n" in text
    assert "\nExecReload=/bin/kill -USR2 $MAINPID\n" in text
    usage = yaml.safe_load(GATEWAY_YAML.read_text())["usage"]
    assert usage["url"].startswith("sqlite:///${STATE_DIRECTORY:-data}/")
    assert usage["journal"].startswith("${STATE_DIRECTORY:-data}/")


def test_stopping_takes_longer_than_draining() -> None:
    """Whoever stops it waits longer than `drain_seconds` (30 by default), or streams are cut."""
    unit = re.search(r"^TimeoutStopSec=(\d+)$", (CONFIG / "ecli-gateway.service").read_text(), re.MULTILINE)
    assert unit is not None
    compose: dict[str, Any] = yaml.safe_load((CONFIG / "compose.yaml").read_text())
    for seconds in (unit[1], compose["services"]["gateway"]["stop_grace_period"].removesuffix("s")):
        assert int(seconds) > 30


def test_compose_builds_the_image_and_tells_the_file_what_it_asks_for() -> None:
    """The image itself: tests/packaging."""
    compose: dict[str, Any] = yaml.safe_load((CONFIG / "compose.yaml").read_text())
    gateway = compose["services"]["gateway"]
    assert (CONFIG / gateway["build"]["context"] / gateway["build"]["dockerfile"]).resolve() == CONFIG / "Dockerfile"
    variables = set(re.findall(r"\$\{([A-Z_]+)", GATEWAY_YAML.read_text()))
    assert set(gateway["environment"]) <= variables
    assert GATEWAY_YAML.name in gateway["command"][2]


def test_the_walk_through_names_files_that_are_there() -> None:
    """docs/beside-a-panel.md leads nowhere else."""
    named = set(re.findall(r"config/([\w.-]+\.\w+|Dockerfile)", DOCS.read_text()))
    assert {"gateway.beside-panel.yaml", "nginx.conf", "ecli-gateway.service", "Dockerfile", "compose.yaml"} <= named
    assert all((CONFIG / name).exists() for name in named)
