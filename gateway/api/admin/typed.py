"""Decode admin bodies and encode answers by their types."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec
import orjson

from gateway.admin_records.editor import Actor, Desk
from gateway.admin_records.redaction import Done
from gateway.api.router import Hit, Route, RouteHandler
from gateway.errors import InvalidRequest
from gateway.http.body_reader import read_body
from gateway.http.reply import Answer, Reply
from gateway.types import Id

_JSON = ("content-type", "application/json")
_LONGEST_PAGE = 1000

_Body = TypeVar("_Body", bound=msgspec.Struct)


def manage(
    method: str,
    path: str,
    handler: RouteHandler,
    summary: str,
    *,
    body: type | None = None,
    answer: Any = Done,
    statuses: tuple[int, ...] = (200,),
) -> Route:
    """A row of the table for those who may manage."""
    return Route(
        method,
        f"/api/admin/{path}",
        handler,
        "ai:manage",
        body=body,
        answer=answer,
        statuses=statuses,
        summary=summary,
    )


def desk(hit: Hit) -> Desk:
    runtime, caller = hit.runtime, hit.caller
    actor = Actor(caller.key.id, caller.user.id, hit.call.request_id)
    return Desk(actor, runtime.settings, runtime.store, runtime.records, runtime.clock, runtime.log)


async def raw_body(hit: Hit, *, most_bytes: int | None = None) -> bytes:
    """Read the body, of `server.max_body_mb` or `most_bytes`. Raises BodyTooLarge or ClientTooSlow."""
    server = hit.runtime.settings.server
    most = server.max_body_mb * 2**20 if most_bytes is None else most_bytes
    return bytes(await read_body(hit.request, max_bytes=most, seconds=server.timeouts.body))


async def read(hit: Hit, body: type[_Body]) -> _Body:
    """Read the request's body. Raises BodyTooLarge, ClientTooSlow, InvalidRequest.

    InvalidRequest's message names the field.
    """
    return typed(await raw_body(hit), body)


def named_id(raw: bytes, field: str) -> Id | None:
    """Return the id in a body's field, before it is judged.

    What the file defines is refused before.
    """
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    given = fields.get(field) if isinstance(fields, dict) else None
    return given if isinstance(given, int | str) and not isinstance(given, bool) else None


def typed(raw: bytes, body: type[_Body]) -> _Body:
    """Raise InvalidRequest with a message that names the field."""
    try:
        return msgspec.json.decode(raw, type=body)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_reason(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("The body is not valid JSON.") from None


def _reason(error: str) -> str:
    """msgspec's words with the field before them: `limits.rpm: Expected `int`, got `str``."""
    reason, _, path = error.partition(" - at `$.")
    return f"{path.removesuffix('`')}: {reason}" if path else reason


def answer(value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    return Answer(status, [_JSON, *headers], msgspec.json.encode(value))


def done() -> Reply:
    return answer(Done())


class Paging(NamedTuple):
    """Query parameters of a listing.

    `after`: `x-next-after` of the page before; None for the first.
    """

    after: str | None
    most: int


def paging(hit: Hit) -> Paging:
    """`?after=…&limit=…`. Raises InvalidRequest."""
    query = hit.request.query
    return Paging(query.get("after"), limit(hit, _LONGEST_PAGE))


def limit(hit: Hit, default: int) -> int:
    """`?limit=…`, from 1 to 1,000. Raises InvalidRequest."""
    given = hit.request.query.get("limit", str(default))
    most = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0
    if not 0 < most <= _LONGEST_PAGE:
        raise InvalidRequest(f"limit: must be a number from 1 to {_LONGEST_PAGE}")
    return most


def page(found: tuple[list[Any], str | None]) -> Reply:
    """Return a list, with `x-next-after` where it goes on.

    It is what goes behind `?after=` for the next, percent-encoded.
    """
    shown, following = found
    return answer(shown, headers=() if following is None else (("x-next-after", quote(following, safe="~")),))
