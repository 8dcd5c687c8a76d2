"""Feature switches."""

from __future__ import annotations

from gateway.registry import features
from gateway.registry.bodies import FeatureBody
from gateway.registry.shown import FeatureShown
from gateway.routes.admin.typed import answer, desk, manage, read
from gateway.routes.table import Hit
from gateway.server import Reply


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
