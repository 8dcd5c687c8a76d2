"""`price: auto`: looked up in a child process, said by `check`, and never free in silence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config import load_settings
from gateway.errors import ConfigError
from gateway.pricing import Price, PriceStep

FILE = """\
models:
  - id: 1
    name: gpt
    price: auto
    endpoints:
      - {id: a, url: https://api.openai.com/v1}
      - {id: b, url: https://api.openai.com/v1, price: {input: 7}}
  - id: 2
    name: claude
    provider_model: MODEL
    endpoints:
      - {id: c, url: https://api.anthropic.com/v1, price: auto}
"""
# As much of genai-prices as is asked for.
STAND_IN = """
from decimal import Decimal as D
from types import SimpleNamespace as Some

class Info(Some):
    def get_prices(self, at):
        return self.prices

class Snapshot:
    def find_provider_model(self, ref, provider, provider_id, url):
        if ref == "gpt" and url == "https://api.openai.com/v1":
            tiered = Some(base=D("1.25"), tiers=[Some(start=200000, price=D("2.5"))])
            prices = Some(input_mtok=tiered, output_mtok=D("10"), web_searches_kcount=D("10"), output_video_mtok=D("9"))
            flex = Some(constraint=None, when={"service_tier": "flex"}, prices=Some(input_mtok=D("0.6")))
            batch = Some(constraint=None, when={"processing": "batch"}, prices=Some(output_mtok=D("5")))
            return Some(id="openai"), Info(id="gpt", prices=prices, price_variants=[flex, batch])
        if ref == "claude-x":
            prices = Some(input_mtok=D("3"), cache_write_1h_mtok=D("6"))
            return Some(id="anthropic"), Info(id="x", prices=prices, price_variants=None)
        raise LookupError(ref)

def get_snapshot():
    return Snapshot()
"""


@pytest.fixture
def prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of that name, for the child alone."""
    package = tmp_path / "site" / "genai_prices"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "data_snapshot.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    return package


def write(tmp_path: Path, model: str = "claude-x") -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(FILE.replace("MODEL", model))
    return path


def test_each_endpoint_gets_the_price_of_its_host_and_model(prices: Path, tmp_path: Path) -> None:
    before = set(sys.modules)
    settings = load_settings(write(tmp_path), {})
    gpt, claude = settings.models
    found = gpt.endpoints[0].price
    assert found is not None
    assert (found.input, found.output, found.batch) == (1.25, 10, 0.5)
    assert found.above == (PriceStep(input_tokens=200000, input=2.5),)
    assert found.tools is not None
    assert found.tools.web_search == 0.01
    assert list(found.service_tiers) == ["flex"]
    assert gpt.endpoints[1].price == Price(input=7)
    assert claude.endpoints[0].price == Price(input=3, cache_write_1h=6)
    assert not [name for name in set(sys.modules) - before if name.startswith("genai_prices")]


def test_check_prints_what_was_found_and_what_has_no_slot(prices: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gateway", "check", "-c", str(write(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "price: auto, line 4: 'gpt' at api.openai.com is openai gpt: input 1.25" in done.stdout
    assert "without a slot here: output_video_mtok" in done.stdout
    assert "price: auto, line 12: 'claude-x' at api.anthropic.com is anthropic x: input 3" in done.stdout


def test_what_is_not_found_is_an_error_with_its_line(prices: Path, tmp_path: Path) -> None:
    path = write(tmp_path, "nobody-has-it")
    with pytest.raises(ConfigError) as raised:
        load_settings(path, {})
    (problem,) = raised.value.problems
    assert problem.startswith(f"{path}:12: models[1].endpoints[0].price: 'nobody-has-it' at api.anthropic.com: ")


def test_a_missing_extra_is_an_error_with_each_line(prices: Path, tmp_path: Path) -> None:
    (prices / "data_snapshot.py").write_text("raise ImportError")
    path = write(tmp_path)
    with pytest.raises(ConfigError) as raised:
        load_settings(path, {})
    assert [problem.rpartition(": ")[0].partition(": ")[0] for problem in raised.value.problems] == [
        f"{path}:4",
        f"{path}:12",
    ]
    assert "ecli-gateway[prices]" in raised.value.problems[0]


def test_the_true_package_knows_the_models_of_today(tmp_path: Path) -> None:
    pytest.importorskip("genai_prices", reason="the extra `prices` is not installed")
    path = tmp_path / "gateway.yaml"
    path.write_text(
        "models: [{id: 1, name: gpt-4o, price: auto, endpoints: [{id: a, url: https://api.openai.com/v1}]}]"
    )
    found = load_settings(path, {}).models[0].endpoints[0].price
    assert found is not None
    assert found.input
    assert found.output
