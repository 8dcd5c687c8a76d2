"""Models that are made, replaced and taken away at run time."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.admin_records.credentials import endpoint_documents, one_of, refuse_private, refuse_unfit_ca_files
from gateway.admin_records.editor import Desk, as_id, checked, encoded, id_for, refuse_long_id, stored
from gateway.admin_records.record_bodies import ModelBody
from gateway.admin_records.redaction import ModelShown, model_shown
from gateway.errors import AlreadyThere, RecordNotFound
from gateway.store.base import Catalogue
from gateway.types import Endpoint, Id, Model, id_text


async def listed(desk: Desk) -> list[ModelShown]:
    """All models: the file's, then those made at run time."""
    catalogue = await desk.catalogue()
    return [_shown(catalogue, model) for model in catalogue.models]


async def shown(desk: Desk, model_id: str) -> ModelShown:
    catalogue = await desk.catalogue()
    return _shown(catalogue, known_model(catalogue, model_id))


async def create(desk: Desk, body: ModelBody) -> ModelShown:
    """Create a model, with a fresh id where none is given.

    Text that no deleted model has had.
    """
    made = f"model-{secrets.token_hex(6)}" if isinstance(body.id, msgspec.UnsetType) else body.id
    desk.refuse_if_in_file("model", made)
    document = _document(made, body, ())
    model = _model(made, document)
    _refuse_unfit_names(await desk.catalogue(), model)
    await refuse_private(model.endpoints, desk.file.server.private_endpoints)
    await refuse_unfit_ca_files(model.endpoints)

    def change(before: bytes | None) -> bytes:
        if before is not None:
            raise AlreadyThere(f"There is a model with the id `{id_text(made)}` already.")
        return encoded(document)

    await desk.records.update("model", id_text(made), change)
    after = model_shown(model, "store")
    await desk.written_down("create", "model", made, before=None, after=after)
    return after


async def replace(desk: Desk, path_id: str, body: ModelBody) -> ModelShown:
    """Replace a model; keep credentials that the body leaves out.

    As long as they go where they went before.
    """
    desk.refuse_if_in_file("model", path_id)
    standing = await desk.records.get("model", path_id)
    known = _stored(path_id, standing)
    model_id = id_for(path_id, body.id, known.id if known is not None else None)
    model = _model(model_id, _replacement(model_id, body, standing))
    _refuse_unfit_names(await desk.catalogue(), model)
    await refuse_private(model.endpoints, desk.file.server.private_endpoints)
    await refuse_unfit_ca_files(model.endpoints)
    replaced: list[bytes | None] = []

    def change(before: bytes | None) -> bytes:
        replaced.append(before)
        return encoded(_replacement(model_id, body, before))

    written = await desk.records.update("model", path_id, change)
    after = _stored(path_id, written)
    await desk.written_down("replace", "model", model_id, before=_stored(path_id, replaced[-1]), after=after)
    return after or model_shown(model, "store")


async def delete(desk: Desk, model_id: str) -> None:
    """Delete a model; links to it stay, without effect."""
    desk.refuse_if_in_file("model", model_id)
    before = await desk.records.delete("model", model_id)
    if before is None:
        raise _not_found(model_id)
    gone = _stored(model_id, before)
    await desk.written_down("delete", "model", gone.id if gone else as_id(model_id), before=gone, after=None)


def known_model(catalogue: Catalogue, model_id: str) -> Model:
    """The model with this id. Raises RecordNotFound."""
    model = catalogue.by_id(model_id)
    if model is None:
        raise _not_found(model_id)
    return model


def _not_found(model_id: str) -> RecordNotFound:
    return RecordNotFound(f"No model has the id `{model_id}`.")


def _shown(catalogue: Catalogue, model: Model) -> ModelShown:
    return model_shown(model, "file" if catalogue.is_in_file(model) else "store")


def _stored(model_id: str, document: bytes | None) -> ModelShown | None:
    model = stored("model", model_id, document)
    return model_shown(model, "store") if isinstance(model, Model) else None


def _replacement(model_id: Id, body: ModelBody, before: bytes | None) -> dict[str, Any]:
    """Return the new document, checked with its kept credentials.

    They may have changed since they were looked at.
    """
    if before is None:
        raise _not_found(id_text(model_id))
    known = stored("model", id_text(model_id), before)
    document = _document(model_id, body, known.endpoints if isinstance(known, Model) else ())
    checked("model", model_id, document)
    return document


def _document(model_id: Id, body: ModelBody, known: tuple[Endpoint, ...]) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(body)
    document.pop("source", None)
    config = document.pop("config", {})
    if config.get("modelId") is not None:
        document["config.modelId"] = config["modelId"]
    if document.get("provider_model") is None:
        document.pop("provider_model", None)
    document["provider_model"] = one_of(document, "(top level)", "provider_model", "config.modelId")
    return document | {"id": model_id, "endpoints": endpoint_documents(body.endpoints, known)}


def _model(model_id: Id, document: dict[str, Any]) -> Model:
    model = checked("model", model_id, document)
    assert isinstance(model, Model)  # noqa: S101 - narrows the type; the kind decides it
    return model


def _refuse_unfit_names(catalogue: Catalogue, model: Model) -> None:
    for field, text in _claims(model):
        refuse_long_id(text, field)
        holder = catalogue.find(text)
        if holder is not None and id_text(holder.id) != id_text(model.id):
            raise AlreadyThere(f"{field}: `{text}` stands for the model with the id `{id_text(holder.id)}` already.")


def _claims(model: Model) -> Iterator[tuple[str, str]]:
    yield "id", id_text(model.id)
    yield "name", model.name
    for index, alias in enumerate(model.aliases):
        yield f"aliases[{index}]", alias
