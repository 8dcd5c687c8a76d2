"""Remember the objects that a batch's lines have made."""

from __future__ import annotations

import orjson

from gateway.dialects.base import Operation
from gateway.objects.index import ObjectIndex
from gateway.objects.record import ObjectRecord, Unsettled
from gateway.proxy.keeping.answer_objects import records_in
from gateway.proxy.keeping.object_keeper import learnt_by

_AT_ONCE = 500


class KeptAnswers:
    """Gather the responses among a batch's answers.

    Those whose answer says that it was not stored are left out.
    """

    def __init__(self, operation: Operation, work: Unsettled) -> None:
        self._operation = operation
        self._work = work
        self._records: list[ObjectRecord] = []

    def __bool__(self) -> bool:
        return bool(learnt_by(self._operation, {}))

    def note(self, body: bytes) -> None:
        """Take a good answer's body."""
        fields, work = orjson.loads(body), self._work
        ids = learnt_by(self._operation, {"store": fields.get("store")})
        found = records_in(fields, None, ids, owner=work.owner, account=work.account, model=work.model)
        self._records += [each for each in found if not each.in_lists]

    async def remember(self, index: ObjectIndex) -> None:
        """Raise StoreUnavailable or LedgerUnavailable."""
        for start in range(0, len(self._records), _AT_ONCE):
            await index.remember(self._records[start : start + _AT_ONCE])

    def __repr__(self) -> str:
        return f"<KeptAnswers, {len(self._records)} objects>"
