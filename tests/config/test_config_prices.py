"""Prices in gateway.yaml and in records: what is written is kept, and every slip is named with its line."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from gateway.config import parse_settings
from gateway.config.documents import InvalidDocument, parse_document
from gateway.errors import ConfigError
from gateway.pricing import Price, PriceStep, TierPrice, ToolPrices
from gateway.types import Model

FILE = """\
models:
  - id: 1
    name: m
    price:
      input: 2.5
      cached_input: 0
      tools: {web_search: 0.01}
      service_tiers:
        flex: 0.5
        priority: {input: 5, above: [{input_tokens: 200000, input: 10}]}
      above:
        - {input_tokens: 200000, output: 15}
    endpoints:
      - {id: a, url: http://127.0.0.1/v1}
      - {id: b, url: http://127.0.0.1/v1, price: {input: 9}}
"""
WRONG = """\
models:
  - id: 1
    name: m
    price:
      inputt: 3
      output: -1
      tools: {web_serch: 1}
      service_tiers: {flex: {}, x: abc, y: [1]}
      above:
        - {input: 1}
        - {input_tokens: 5}
        - {input_tokens: 5}
    endpoints: [{id: a, url: http://127.0.0.1/v1, price: atuo}]
"""
WRITTEN = Price(
    input=2.5,
    cached_input=0,
    tools=ToolPrices(web_search=0.01),
    service_tiers={"flex": 0.5, "priority": TierPrice(input=5, above=(PriceStep(input_tokens=200000, input=10),))},
    above=(PriceStep(input_tokens=200000, output=15),),
)


def loaded(text: str) -> Model:
    (model,) = parse_settings(text, "gw.yaml", {}, Path("/")).models
    return model


def test_a_price_is_kept_as_it_is_written() -> None:
    """Nothing written is not nothing to pay: 0 stays, and what is left out is not filled in here."""
    model = loaded(FILE)
    assert model.price == WRITTEN
    first, second = model.endpoints
    assert (first.price, second.price) == (None, Price(input=9))
    assert first.card is not None
    assert second.card is not None
    assert (first.card.usual.base.cached_input, second.card.usual.base.cached_input) == (0, 9_000)
    assert pickle.loads(pickle.dumps(model)) == model, "a large file is read by a process of its own"


def test_every_slip_is_named_with_its_line() -> None:
    with pytest.raises(ConfigError) as raised:
        loaded(WRONG)
    assert [problem.split(": ", 2)[:2] for problem in raised.value.problems] == [
        ["gw.yaml:5", "models[0].price.inputt"],
        ["gw.yaml:6", "models[0].price.output"],
        ["gw.yaml:7", "models[0].price.tools.web_serch"],
        ["gw.yaml:8", "models[0].price.service_tiers.x"],
        ["gw.yaml:8", "models[0].price.service_tiers.y"],
        ["gw.yaml:10", "models[0].price.above[0].input_tokens"],
        ["gw.yaml:12", "models[0].price.above[2].input_tokens"],
        ["gw.yaml:13", "models[0].endpoints[0].price"],
    ]


def test_a_record_has_the_same_prices() -> None:
    """Made by a route or written by a panel, whose language may know no whole numbers and no empty list."""
    price = {
        "input": 2.5,
        "cached_input": 0.0,
        "tools": {"web_search": 0.01},
        "service_tiers": {"flex": 0.5, "priority": {"input": 5.0, "above": [{"input_tokens": 200000.0, "input": 10}]}},
        "above": [{"input_tokens": 200000, "output": 15}],
    }
    document = {
        "name": "m",
        "price": price,
        "endpoints": [{"id": "a", "url": "https://x.example", "price": {"above": {}}}],
    }
    model = parse_document("model", "1", json.dumps(document).encode()).record
    assert isinstance(model, Model)
    assert model.price == WRITTEN
    assert model.endpoints[0].price == Price()
    with pytest.raises(InvalidDocument, match=r"^price: `auto` is looked up"):
        parse_document("model", "1", json.dumps(document | {"price": "auto"}).encode())
