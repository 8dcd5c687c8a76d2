"""Hold all models of a run-time store.

A request may name any, and lists show every one.
"""

from __future__ import annotations

import asyncio
import operator
from typing import NamedTuple

from gateway.config.documents import InvalidDocument, parse_document
from gateway.errors import StoreUnavailable
from gateway.single_flight import SingleFlight
from gateway.store.base import RecordStore
from gateway.store.freshness import AGEING_SHARE, Asked, Complaints, Freshness
from gateway.types import Model

_AT_A_TIME = 500
_PARSED_IN_A_TURN = 20  # of the event loop: some 3 ms


class ModelLayer(NamedTuple):
    """Run-time models in order of their ids.

    Their `fallbacks` are as written: ids, names or aliases.

    `is_complete` is False where the store could not be asked and nothing is remembered of it.
    """

    models: tuple[Model, ...]
    is_complete: bool


class _Entry(NamedTuple):
    document: bytes
    model: Model | None  # None: the document cannot be used


NOT_KNOWN = ModelLayer((), is_complete=False)


class RuntimeModels:
    """Load models when needed, changed, or stale.

    Stale after a while, in case a change was missed.
    """

    def __init__(self, source: RecordStore, freshness: Freshness, complaints: Complaints) -> None:
        self._source = source
        self._freshness = freshness
        self._complaints = complaints
        self._flights: SingleFlight[ModelLayer] = SingleFlight()
        self._entries: dict[str, _Entry] = {}
        self._layer = NOT_KNOWN
        self.asked: Asked | None = None
        self._is_outdated = False

    async def current(self) -> ModelLayer:
        """Return the models: the same object until one changes.

        Never raises: while the store is away, what was known last holds.
        """
        left = self._share_left()
        if left <= 0:
            return await self._flights.join("models", self._look_up) if self._source.available else self._last_known()
        if left < AGEING_SHARE and self._source.available:
            self._flights.begin("models", self._look_up)
        return self._layer

    def _share_left(self) -> float:
        return 0.0 if self.asked is None or self._is_outdated else self._freshness.share_left(self.asked)

    def changed(self) -> None:
        self._is_outdated = True
        self._flights.disown_all()

    def _last_known(self) -> ModelLayer:
        if self.asked is None or not self._freshness.may_stand_in(self.asked):
            return NOT_KNOWN
        return self._layer

    async def _look_up(self) -> ModelLayer:
        asked = self._freshness.now()
        try:
            documents = await self._documents()
        except StoreUnavailable:
            return self._last_known()
        entries = await self._parsed(documents)
        layer = self._layer_of(entries)
        if self._flights.is_current("models"):
            if layer is not self._layer:
                self._freshness.changed()
            self._entries, self._layer, self.asked, self._is_outdated = entries, layer, asked, False
        return layer

    async def _documents(self) -> dict[str, bytes]:
        ids = await self._source.ids("model")
        found: dict[str, bytes] = {}
        for start in range(0, len(ids), _AT_A_TIME):
            part = ids[start : start + _AT_A_TIME]
            documents = await self._source.get_many("model", part)
            found |= {each: document for each, document in zip(part, documents, strict=True) if document is not None}
        return found

    async def _parsed(self, documents: dict[str, bytes]) -> dict[str, _Entry]:
        entries: dict[str, _Entry] = {}
        parsed = 0
        for model_id, document in documents.items():
            known = self._entries.get(model_id)
            if known is not None and known.document == document:
                entries[model_id] = known
                continue
            entries[model_id] = self._parse(model_id, document)
            parsed += 1
            if parsed % _PARSED_IN_A_TURN == 0:
                await asyncio.sleep(0)
        return entries

    def _parse(self, model_id: str, document: bytes) -> _Entry:
        try:
            reading = parse_document("model", model_id, document)
        except InvalidDocument as invalid:
            self._complaints.invalid("model", model_id, invalid.reasons)
            return _Entry(document, None)
        if reading.ignored:
            self._complaints.ignored("model", model_id, reading.ignored)
        assert isinstance(reading.record, Model)  # noqa: S101 - narrows the type; the kind decides it
        return _Entry(document, reading.record)

    def _layer_of(self, entries: dict[str, _Entry]) -> ModelLayer:
        models = tuple(entry.model for entry in entries.values() if entry.model is not None)
        before = self._layer
        is_same = len(models) == len(before.models) and all(map(operator.is_, models, before.models))
        return before if before.is_complete and is_same else ModelLayer(models, is_complete=True)
