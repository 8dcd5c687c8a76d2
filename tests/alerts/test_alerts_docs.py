"""The operator's path of docs/alerts.md, from prices to an alert, as it is written there."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import yaml
from alerts_kit import placed

PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(each) for each in found]


async def test_it_leads_to_the_alert_that_the_page_shows(tmp_path: Path) -> None:
    """The request that brings the organisation's cost to 250 causes it, to the billionth."""
    async with placed(tmp_path) as place:
        written: dict[str, Any] = {}
        for each in blocks("yaml"):
            written |= yaml.safe_load(each)
        settings = place.settings() | written
        settings["models"][0]["endpoints"][0] |= {"url": place.model.url, "api_key": "sk-upstream"}
        settings["alerts"][0] |= {"url": place.hook.url, "secret": place.hook.secret}
        settings["users"][0]["organisations"] = [10]
        place.written = settings
        async with place.gateway() as gateway:
            reply = await place.use(gateway, 100_005_240, model="gpt-4o")
            assert reply.status == 200, reply
            (event,) = await place.hook.sent(1)
    (shown,) = (json.loads(each) for each in blocks("json"))
    assert event.keys() - {"id"} == shown.keys()
    event["data"]["from"] = shown["data"]["from"]
    assert (event["type"], event["data"]) == (shown["type"], shown["data"])
