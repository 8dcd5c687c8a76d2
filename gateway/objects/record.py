"""The values of the index: objects, pages, unsettled work."""

from __future__ import annotations

import msgspec

MOST_BODY_BYTES = 16 * 1024  # longer ones are not kept: a list asks for them again
MOST_ID_CHARACTERS = 512
SHORT_LIVED = frozenset(("response", "chat.completion"))
SHORT_DAYS = 35  # that these are remembered after their last use


class ObjectRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An object that an upstream keeps.

    Times are seconds since 1970. How long it is remembered after its last use follows from `kind`.
    """

    id: str  # as the upstream made it
    kind: str  # OpenAI's word for it: file, response, batch, vector_store, conversation, chat.completion …
    owner: str  # the user's id as text; under act:as, whom the key acts for
    account: str  # `Accounts.label` of the endpoint that made it
    model: str | None = None  # id (as text) of the model with which it was made; None where it needs none
    created: int = 0  # as the upstream says; 0: the index sets the present
    body: bytes | None = None  # as last seen, for lists; `find` leaves it out
    final: bool = False  # it will not change any more, so a list need not ask for it
    in_lists: bool = True  # False: it has no list of top level (responses, items), so no body is kept
    about: dict[str, str] = {}  # short texts that filters and routes need: purpose, status …; at most 16 of 512

    def without_body(self) -> ObjectRecord:
        return self if self.body is None else msgspec.structs.replace(self, body=None)


class Place(msgspec.Struct, frozen=True):
    """The account that some `encrypted_content` was made at."""

    account: str
    owner: str


class Listing(msgspec.Struct, frozen=True):
    """A page of a list, in the order asked for, bodies included."""

    records: tuple[ObjectRecord, ...] = ()
    has_more: bool = False  # beyond this page, in the direction of paging


class Unsettled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A batch or background response whose usage is not booked yet.

    `reservation` is its user's own: what is needed to settle it, in any process.
    """

    id: str
    kind: str
    owner: str
    account: str
    model: str | None = None
    since: int = 0  # seconds since 1970; 0: the index sets the present
    reservation: bytes = b""


def kept_seconds(kind: str, object_days: int) -> int:
    """Return how long an object is remembered after its last use."""
    return 86_400 * (SHORT_DAYS if kind in SHORT_LIVED else object_days)


def merged(before: ObjectRecord | None, new: ObjectRecord) -> ObjectRecord:
    """Merge what was seen of an owner's object into what is known.

    What is final stays as it is; another account's object of the same id is another object.
    """
    if before is None or before.account != new.account:
        return new
    if before.final and not new.final:
        return before
    return msgspec.structs.replace(
        new,
        created=new.created or before.created,
        model=new.model if new.model is not None else before.model,
        body=new.body if new.body is not None else before.body,
    )
