"""Derive the ids of grants that the file gives none."""

from __future__ import annotations

import hashlib

from gateway.types import Grant, Id

_GRANT_ID_CHARACTERS = 16


def id_of_grant(grant: Grant, kind: str, owner: Id) -> Id:
    """Return a grant's own id, or the derived one.

    `kind` and `owner`: whose grant it is.
    """
    return grant.id if grant.id is not None else grant_id(kind, owner, grant.model)


def grant_id(kind: str, owner: Id, model: str) -> str:
    """Derive a grant's id from its owner and model.

    For one that was given none: the same in every file and process.
    """
    digest = hashlib.sha256(f"{kind}:{owner}:{model}".encode()).hexdigest()
    return digest[:_GRANT_ID_CHARACTERS]
