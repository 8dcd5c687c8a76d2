"""What every test can count on: no proxy of the machine's in its way, one seed a run, no haste."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent
# Where several processes share a run, none shall be left alone with one of these when the others have finished.
LONGEST_FILES = (
    "upgrade/test_upgrade.py",
    "api/openapi/test_schemathesis.py",
    "bench/test_bench_smoke.py",
    "agents/test_agents.py",
    "packaging/test_image.py",
    "demo/test_tutorial.py",
    "dashboard/test_gallery.py",
    "promises/test_p2_kill.py",
    "redis/test_failover_under_load.py",
    "redis/test_redis_forms.py",
    "transfer/test_store_copy.py",
    "transfer/test_store_files.py",
    "redis/test_cluster.py",
    "completion/test_completion.py",
    "hostile/test_floods.py",
    "torture/test_torture.py",
    "e2e/test_usage.py",
    "attacks/test_bombs.py",
    "promises/test_p10_corpus.py",
    "promises/test_p6_limits.py",
    "promises/test_p5_revocation.py",
    "promises/test_p7_credentials.py",
    "faults/test_faults.py",
    "hostile/test_crowds.py",
    "agree/test_agree_gateways.py",
    "agree/test_agree_reload.py",
    "agree/test_agree_workers.py",
    "agree/test_agree_redis_away.py",
    "store/test_grants_redis.py",
    "usage/test_ledger_kill.py",
    "usage/test_ledger_flush.py",
    "dialects/test_openai_body.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, in the order of the list."""
    places = {HERE / name: place for place, name in enumerate(LONGEST_FILES)}
    assert [str(path) for path in places if not path.is_file()] == []
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_configure() -> None:
    """The seed is told at the head of a run; the processes that share the run inherit it.

    How long an example takes is the machine's affair, and what else it is doing.
    """
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")
    os.environ.setdefault("GATEWAY_SEED", str(random.SystemRandom().randrange(2**32)))


def pytest_report_header() -> str:
    return f"promises: GATEWAY_SEED={os.environ['GATEWAY_SEED']}"


@pytest.fixture(scope="session", autouse=True)
def no_proxies() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [each for each in os.environ if each.lower().endswith("_proxy")]:
            patch.delenv(name)
        yield
