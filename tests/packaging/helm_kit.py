"""Helm as a library, and what judges its manifests: wheels by their hashes, in a process of its own, skipped loudly.

`python tests/packaging/helm_kit.py` installs them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CHART = ROOT / "config" / "helm" / "ecli-gateway"
WANTED = ROOT / "requirements" / "helm.txt"
INSTALL_SECONDS = 300

# In the child: each set of values is rendered, or refused, and what came is judged.
_JUDGE = """
import json, sys, yaml, helm_python as helm, kubernetes_validate
chart, every = json.load(sys.stdin)
answers = [helm.lint(chart)["errors"]]
for values in every:
    with helm.Chart.load(chart) as loaded:
        try:
            files = loaded.render(values, name="gw", namespace="ai")
        except helm.HelmError as error:
            answers.append(str(error))
            continue
    found = [each for text in files.values() for each in yaml.safe_load_all(text) if each]
    for each in found:
        kubernetes_validate.validate(each, "1.30", strict=True)
    answers.append(found)
json.dump(answers, sys.stdout)
"""


@cache
def installed() -> Path:
    """The folder of the packages, of this very list."""
    name = hashlib.sha256(WANTED.read_bytes()).hexdigest()[:12]
    place = Path.home() / ".cache" / "ecli-gateway-helm"
    folder = place / f"{name}-{sys.version_info[0]}.{sys.version_info[1]}"
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            begun = folder.with_suffix(".begun")
            shutil.rmtree(begun, ignore_errors=True)
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--target", str(begun)]
            try:
                done = subprocess.run(
                    [*command, "-r", str(WANTED)], check=False, capture_output=True, text=True, timeout=INSTALL_SECONDS
                )
            except subprocess.TimeoutExpired:
                pytest.skip("HELM COULD NOT BE INSTALLED in time: the chart was NOT rendered")
            if done.returncode:
                pytest.skip(f"HELM COULD NOT BE INSTALLED, the chart was NOT rendered: {done.stderr[-300:]}")
            begun.rename(folder)
    return folder


def render(*every: dict[str, Any]) -> list[Any]:
    """For each set of values the manifests, all valid for Kubernetes, or the words with which Helm refused.

    The chart's own lint is part of each call.
    """
    faults, *answers = json.loads(run(_JUDGE, json.dumps([str(CHART), every])))
    assert faults == []
    return answers


def run(program: str, told: str) -> str:
    """A Python of its own that has the packages; `told` is its standard input. Raises where it fails."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(installed()), "HOME": str(Path.home())}
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        input=told,
        capture_output=True,
        text=True,
        timeout=100,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


if __name__ == "__main__":
    installed()
