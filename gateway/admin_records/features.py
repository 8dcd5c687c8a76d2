"""Feature switches, which override the file's until set again."""

from __future__ import annotations

from gateway.admin_records.editor import Desk
from gateway.admin_records.redaction import FeatureShown
from gateway.config import checks
from gateway.config.documents import parse_feature
from gateway.config.problems import Refused
from gateway.errors import InvalidRequest
from gateway.store.base import DISABLED, ENABLED

_LONGEST_NAME = 128


async def shown(desk: Desk, name: str) -> FeatureShown:
    """Return the switch, on by default."""
    _check(name)
    return FeatureShown(name, await desk.store.feature(name))


async def switch(desk: Desk, name: str, enabled: bool) -> FeatureShown:
    _check(name)
    before = await desk.records.put("feature", name, ENABLED if enabled else DISABLED)
    after = FeatureShown(name, enabled)
    await desk.written_down("update", "feature", name, before=_before(desk, name, before), after=after)
    return after


def _before(desk: Desk, name: str, document: bytes | None) -> FeatureShown:
    by_file = desk.file.features.get(name, True)
    return FeatureShown(name, by_file if document is None else parse_feature(document).is_on)


def _check(name: str) -> None:
    try:
        checks.label(name)
    except Refused as refused:
        raise InvalidRequest(f"name: {refused}") from None
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise InvalidRequest(f"name: must be printable, and at most {_LONGEST_NAME} characters")
