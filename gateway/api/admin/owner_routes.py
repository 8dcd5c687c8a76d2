"""Routes of users, organisations and plans, and their links."""

from __future__ import annotations

from gateway.admin_records import links, owners
from gateway.admin_records.editor import Desk
from gateway.admin_records.owners import ORGANISATION, PLAN, USER, OwnerKind
from gateway.admin_records.record_bodies import LinkChange, OwnerBody, UserBody
from gateway.admin_records.redaction import LinkMade, OwnerShown, UserShown
from gateway.api.admin.typed import answer, desk, done, manage, named_id, page, paging, raw_body, read, typed
from gateway.api.router import Hit, Route
from gateway.http.reply import Reply
from gateway.types import Id

NEW = "new"


class Owners:
    """The handlers of one kind of owner."""

    def __init__(self, of: OwnerKind, plural: str, body: type[OwnerBody], shown: type[OwnerShown]) -> None:
        self._of = of
        self._plural = plural
        self._body = body
        self._shown = shown

    async def list_all(self, hit: Hit) -> Reply:
        wanted = paging(hit)
        return page(await owners.listed(desk(hit), self._of, wanted.after, wanted.most))

    async def show(self, hit: Hit) -> Reply:
        return answer(await owners.shown(desk(hit), self._of, hit.params["id"]))

    async def put(self, hit: Hit) -> Reply:
        at, owner_id = desk(hit), hit.params["id"]
        at.refuse_if_in_file(self._of.word, owner_id)
        shown, is_new = await owners.put(at, self._of, owner_id, await read(hit, self._body))
        return answer(shown, 201 if is_new else 200)

    async def delete(self, hit: Hit) -> Reply:
        await owners.delete(desk(hit), self._of, hit.params["id"])
        return done()

    async def change_link(self, hit: Hit) -> Reply:
        at, raw = desk(hit), await raw_body(hit)
        await self._refuse_files(at, hit, raw)
        body = typed(raw, LinkChange)
        changed = await links.update(at, self._of, self._owner(at, hit), hit.params["link"], body)
        return answer(LinkMade(True, changed))

    async def post_link(self, hit: Hit) -> Reply:
        """Change a link as PUT does; `new` makes one."""
        if hit.params["link"] != NEW:
            return await self.change_link(hit)
        at, raw = desk(hit), await raw_body(hit)
        await self._refuse_files(at, hit, raw)
        body = typed(raw, LinkChange)
        model = links.required_model(await at.catalogue(), body)
        made, is_new = await links.link(at, self._of, self._owner(at, hit), model, body.limits)
        return answer(LinkMade(True, made), 201 if is_new else 200)

    async def delete_link(self, hit: Hit) -> Reply:
        at = desk(hit)
        await links.unlink(at, self._of, self._owner(at, hit), wanted=hit.params["link"])
        return done()

    async def _refuse_files(self, at: Desk, hit: Hit, raw: bytes) -> None:
        """Raise DefinedInFile for what the file links or grants."""
        owner = self._owner(at, hit)
        links.refuse_link_of_file(at, self._of, owner, hit.params["link"])
        given = named_id(raw, "modelId")
        model = None if given is None else (await at.catalogue()).by_id(given)
        if model is not None:
            links.refuse_granted_by_file(at, self._of, owner, model)

    def _owner(self, at: Desk, hit: Hit) -> Id:
        return owners.owner_id_of(at, self._of, hit.params["id"])

    def rows(self) -> list[Route]:
        word, one = self._of.word, f"{self._plural}/{{id}}"
        link = f"{one}/ai/{{link}}"
        shown, body = self._shown, self._body
        return [
            manage("GET", self._plural, self.list_all, f"Each {word}", answer=list[shown]),  # type: ignore[valid-type]  # a type made at run time, for the schema
            manage("GET", one, self.show, f"One {word}", answer=shown),
            manage("PUT", one, self.put, f"Make or replace one {word}", body=body, answer=shown, statuses=(200, 201)),
            manage("DELETE", one, self.delete, f"Take one {word} away"),
            manage(
                "POST",
                link,
                self.post_link,
                f"Change one {word}'s link; `{NEW}` makes one",
                body=LinkChange,
                answer=LinkMade,
                statuses=(200, 201),
            ),
            manage("PUT", link, self.change_link, f"Change one {word}'s link", body=LinkChange, answer=LinkMade),
            manage("DELETE", link, self.delete_link, f"Take one {word}'s link away"),
        ]


ROUTES = [
    *Owners(USER, "users", UserBody, UserShown).rows(),
    *Owners(ORGANISATION, "organisations", OwnerBody, OwnerShown).rows(),
    *Owners(PLAN, "plans", OwnerBody, OwnerShown).rows(),
]
