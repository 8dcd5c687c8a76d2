"""Feature switches."""

from __future__ import annotations

from gateway.admin_records import features
from gateway.admin_records.record_bodies import FeatureBody
from gateway.admin_records.redaction import FeatureShown
from gateway.api.admin.typed import answer, desk, manage, read
from gateway.api.router import Hit
from gateway.http.reply import Reply


async def show_feature(hit: Hit) -> Reply:
    return answer(await features.shown(desk(hit), hit.params["name"]))


async def switch_feature(hit: Hit) -> Reply:
    body = await read(hit, FeatureBody)
    return answer(await features.switch(desk(hit), hit.params["name"], body.enabled))


ROUTES = [
    manage("GET", "features/{name}", show_feature, "Whether a feature is on", answer=FeatureShown),
    manage(
        "PUT",
        "features/{name}",
        switch_feature,
        "Switch a feature; this holds over gateway.yaml until it is set again",
        body=FeatureBody,
        answer=FeatureShown,
    ),
]
