"""Pin and remember the objects of a socket's messages."""

from __future__ import annotations

from collections.abc import Container

import msgspec

from gateway.api.kept.object_asks import with_objects
from gateway.api.router import Hit
from gateway.dialects import openai
from gateway.proxy.ask import Ask
from gateway.types import Endpoint, Model, id_text

_PREVIOUS = "previous_response_id"


async def pinned(hit: Hit, ask: Ask, own: Container[object] = ()) -> Ask:
    """Pin a request to its objects' account; note new ones.

    `own`: ids of responses that are known on this socket alone; they need not be stored. Raises as `with_objects`.
    """
    body = ask.body
    if not isinstance(body, openai.RequestBody) or not body.may_concern_objects(ask.operation):
        return ask
    if body.fields.get(_PREVIOUS) not in own:
        return await with_objects(hit, ask)
    fields = {name: value for name, value in body.fields.items() if name != _PREVIOUS}
    found = await with_objects(hit, msgspec.structs.replace(ask, body=openai.RequestBody(body.raw, fields)))
    return msgspec.structs.replace(ask, pin=found.pin, keeper=found.keeper)


async def is_stored(hit: Hit, response_id: object) -> bool:
    """Whether the caller has stored this response. Raises StoreUnavailable."""
    if not isinstance(response_id, str):
        return False
    found = (await hit.runtime.objects.find((response_id,))).get(response_id)
    return found is not None and found.owner == id_text(hit.caller.user.id)


async def remember(ask: Ask, content: bytes, model: Model, endpoint: Endpoint) -> None:
    """Remember what an event brings, before its client has it.

    Raises StoreUnavailable or LedgerUnavailable.
    """
    if ask.keeper is not None:
        # Line ends can only stand between JSON's tokens.
        event = b"data: " + b" ".join(content.splitlines()) + b"\n\n"
        news = ask.keeper.news_in(event, model, endpoint)
        if news:
            await ask.keeper.remember(news)
