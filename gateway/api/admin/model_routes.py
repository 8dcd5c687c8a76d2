"""Models, and links to a model from its own side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gateway.admin_records import links, models
from gateway.admin_records.editor import refuse_long_id
from gateway.admin_records.owners import ORGANISATION, PLAN, USER, OwnerKind, owner_id_of
from gateway.admin_records.record_bodies import ModelBody, OrganisationLink, PlanLink, UserLink
from gateway.admin_records.redaction import LinkMade, ModelShown
from gateway.api.admin.typed import answer, desk, done, manage, named_id, raw_body, read, typed
from gateway.api.router import Hit, Route, RouteHandler
from gateway.http.reply import Reply
from gateway.types import Id, id_text


async def list_models(hit: Hit) -> Reply:
    return answer(await models.listed(desk(hit)))


async def create_model(hit: Hit) -> Reply:
    at, raw = desk(hit), await raw_body(hit)
    if (given := named_id(raw, "id")) is not None:
        at.refuse_if_in_file("model", given)
    return answer(await models.create(at, typed(raw, ModelBody)), 201)


async def show_model(hit: Hit) -> Reply:
    return answer(await models.shown(desk(hit), hit.params["id"]))


async def replace_model(hit: Hit) -> Reply:
    at, model_id = desk(hit), hit.params["id"]
    at.refuse_if_in_file("model", model_id)
    return answer(await models.replace(at, model_id, await read(hit, ModelBody)))


async def delete_model(hit: Hit) -> Reply:
    await models.delete(desk(hit), hit.params["id"])
    return done()


class LinkField(NamedTuple):
    """The wire names of a kind of owner's links.

    `link-WORD`, and a body with its id in `field`.
    """

    of: OwnerKind
    word: str
    field: str
    body: type[UserLink | OrganisationLink | PlanLink]


LINKS = (
    LinkField(USER, "user", "userId", UserLink),
    LinkField(ORGANISATION, "org", "orgId", OrganisationLink),
    LinkField(PLAN, "plan", "planId", PlanLink),
)


def link_handler(by: LinkField) -> RouteHandler:
    async def link(hit: Hit) -> Reply:
        at, raw = desk(hit), await raw_body(hit)
        model = models.known_model(await at.catalogue(), hit.params["id"])
        if (given := named_id(raw, by.field)) is not None:
            links.refuse_granted_by_file(at, by.of, given, model)
        body = typed(raw, by.body)
        owner: Id = getattr(body, by.field)
        refuse_long_id(id_text(owner), by.field)
        made, is_new = await links.link(at, by.of, owner, model, body.limits)
        return answer(LinkMade(True, made), 201 if is_new else 200)

    return link


def unlink_handler(of: OwnerKind) -> RouteHandler:
    async def unlink(hit: Hit) -> Reply:
        at = desk(hit)
        model = models.known_model(await at.catalogue(), hit.params["id"])
        await links.unlink(at, of, owner_id_of(at, of, hit.params["owner"]), model=model)
        return done()

    return unlink


def _link_rows() -> Iterator[Route]:
    for by in LINKS:
        yield manage(
            "POST",
            f"ai/models/{{id}}/link-{by.word}",
            link_handler(by),
            f"Link a model to one {by.of.word}; a link that stands already is updated",
            body=by.body,
            answer=LinkMade,
            statuses=(200, 201),
        )
        path = f"ai/models/{{id}}/unlink-{by.word}/{{owner}}"
        yield manage("DELETE", path, unlink_handler(by.of), f"Take one {by.of.word}'s link to a model away")


ROUTES = [
    manage("GET", "ai/models", list_models, "All models, credentials masked", answer=list[ModelShown]),
    manage("POST", "ai/models", create_model, "Make a model", body=ModelBody, answer=ModelShown, statuses=(201,)),
    manage("GET", "ai/models/{id}", show_model, "One model", answer=ModelShown),
    manage("PUT", "ai/models/{id}", replace_model, "Replace a model", body=ModelBody, answer=ModelShown),
    manage("DELETE", "ai/models/{id}", delete_model, "Take a model away"),
    *_link_rows(),
]
