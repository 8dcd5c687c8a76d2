"""The Helm chart, rendered by Helm itself, valid for Kubernetes, and with a gateway.yaml that `gateway check` takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helm_kit import CHART, ROOT, render
from packaging_kit import DOCKERFILE, user_of_the_image

pytestmark = pytest.mark.timeout(400)  # the first one fetches Helm

OWN = {
    "models": [
        {"id": 1, "name": "gpt-4o", "endpoints": [{"id": "a", "url": "https://up.test", "api_key": "${PROVIDER_KEY}"}]}
    ]
}
SHARED = {"store": {"kind": "redis", "url": "redis://redis:6379/0"}, "usage": {"url": "postgresql://db/usage"}}
EVERYTHING = {
    "replicas": 3,
    "config": OWN | SHARED | {"server": {"workers": 4, "drain_seconds": 60}},
    "secrets": {"environment": ["providers"], "files": "provider-files"},
    "ingress": {"enabled": True, "host": "ai.test", "className": "nginx", "tlsSecret": "ai", "annotations": {"a": "b"}},
    "persistence": {"storageClass": "fast"},
    "imagePullSecrets": [{"name": "registry"}],
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "ai"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "ai", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "service": {"annotations": {"a": "b"}},
}


def of(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The only one of its kind."""
    (found,) = [each for each in manifests if each["kind"] == kind]
    return found


def judged(manifests: list[dict[str, Any]], folder: Path) -> subprocess.CompletedProcess[str]:
    """`gateway check` of the rendered file, laid out as a kubelet mounts it: by symbolic links."""
    (folder / "..then").mkdir()
    (folder / "..then" / "gateway.yaml").write_text(of(manifests, "ConfigMap")["data"]["gateway.yaml"])
    (folder / "..data").symlink_to("..then")
    (folder / "gateway.yaml").symlink_to("..data/gateway.yaml")
    command = [sys.executable, "-m", "gateway", "check", "-c", str(folder / "gateway.yaml")]
    environment = {"PYTHONPATH": str(ROOT), "PROVIDER_KEY": "sk-of-the-provider-0123456789"}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)


def test_with_all_that_it_offers_it_is_valid_and_is_bound_as_the_image_is(tmp_path: Path) -> None:
    (manifests,) = render(EVERYTHING)
    assert {each["kind"] for each in manifests} >= {
        "StatefulSet",
        "Service",
        "ConfigMap",
        "PodDisruptionBudget",
        "Ingress",
    }
    done = judged(manifests, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    pod = of(manifests, "StatefulSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    user = user_of_the_image(DOCKERFILE)
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsNonRoot"]) == (user, True)
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["envFrom"] == [{"secretRef": {"name": "providers"}}]
    assert pod["terminationGracePeriodSeconds"] > 60 + 5, "streams have `drain_seconds` to end, after `preStop`"


def test_as_it_comes_with_a_model_of_ones_own(tmp_path: Path) -> None:
    """Whatever values say of address and port: the probes and the service know one."""
    (manifests,) = render({"config": OWN | {"server": {"host": "127.0.0.1", "port": 1}}})
    done = judged(manifests, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    text = of(manifests, "ConfigMap")["data"]["gateway.yaml"]
    assert "host: 0.0.0.0" in text
    assert "port: 8080" in text
    assert {each["kind"] for each in manifests} == {"StatefulSet", "Service", "ConfigMap", "ServiceAccount"}


def test_what_could_not_serve_is_refused() -> None:
    """Two pods with a store of their own each, workers likewise, and what is misspelt."""
    lonely = {"replicas": 2, "config": SHARED | {"usage": {"url": "sqlite:///x.db"}}}
    workers = {"config": {"server": {"workers": 2}}}
    answers = render({"replicas": 2}, lonely, workers, {"replica": 2}, {"ingress": {"enabled": True}})
    words = ("replicas: more than one", "replicas: more than one", "config.server.workers", "replica", "ingress.host")
    for answer, word in zip(answers, words, strict=True):
        assert isinstance(answer, str), answer
        assert word in answer


def test_chart_and_package_have_one_version() -> None:
    version = subprocess.run(
        [sys.executable, "-m", "gateway", "--version"], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout.split()[-1]
    assert f'appVersion: "{version}"' in (CHART / "Chart.yaml").read_text()
