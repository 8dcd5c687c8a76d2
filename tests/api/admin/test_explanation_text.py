"""What `gateway explain` prints."""

from __future__ import annotations

import msgspec
from admin_kit import Admin

from gateway.admin_records.explain import Explanation, explanation_text


async def test_people_can_read_it(admin: Admin) -> None:
    """Every source, the limits and the pool with the turn of each endpoint; what refuses is said first."""
    reply = await admin.call("GET", "explain?user=42&model=open")
    told = explanation_text(msgspec.json.decode(reply.body, type=Explanation)).splitlines()
    assert told[0] == "user 42 (tier paid), model open"
    assert told[1] == "  served by open: granted by being open to everyone"
    assert "  > global: the model `open` is open to everyone" in told
    assert "  - user 42: no link to the model `open`" in told
    assert "limits: none" in told
    assert [line.split()[:2] for line in told if "open." in line] == [["1.", "open.a"], ["2.", "open.b"]]
    refused = await admin.call("GET", "explain?user=nobody&model=free")
    text = explanation_text(msgspec.json.decode(refused.body, type=Explanation))
    assert "refused: model_not_accessible" in text
