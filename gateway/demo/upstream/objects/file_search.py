"""Vector stores, their files and batches, a search by words."""

from __future__ import annotations

from aiohttp import web

from gateway.demo.upstream.bodies import answer, fields_of, whole_number
from gateway.demo.upstream.desk import Desk, Json, Refused, deleted, desk_of, new_id, now, page

MOST_FILES, SHOWN_CHARACTERS = 500, 800
_AUTO: Json = {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}


def _shown(store: Json) -> Json:
    count = len(store["files"])
    counts = {"in_progress": 0, "completed": count, "failed": 0, "cancelled": 0, "total": count}
    used = sum(each["usage_bytes"] for each in store["files"].values())
    hidden = ("files", "batches")
    return {name: value for name, value in store.items() if name not in hidden} | {
        "file_counts": counts,
        "usage_bytes": used,
    }


def _add(desk: Desk, store: Json, file_id: object, fields: Json) -> Json:
    """Put a file into a store. Raises Refused."""
    size = desk.files.get(str(file_id))["shown"]["bytes"]
    if len(store["files"]) >= MOST_FILES:
        raise Refused(f"The demo's vector stores hold {MOST_FILES} files.")
    strategy = fields.get("chunking_strategy") or {}
    added = {
        "id": str(file_id),
        "object": "vector_store.file",
        "usage_bytes": size,
        "created_at": now(),
        "vector_store_id": store["id"],
        "status": "completed",
        "last_error": None,
        "attributes": fields.get("attributes") or {},
        "chunking_strategy": strategy if strategy.get("type") == "static" else _AUTO,
    }
    store["files"][added["id"]] = added
    return added


def _store(request: web.Request) -> Json:
    return desk_of(request).stores.get(request.match_info["id"])


def _file(request: web.Request) -> Json:
    name = request.match_info["file"]
    found: Json | None = _store(request)["files"].get(name)
    if found is None:
        raise Refused(f"No file found with id '{name}' in this vector store.", status=404, param="file_id")
    return found


async def create(request: web.Request) -> web.StreamResponse:
    desk, fields = desk_of(request), await fields_of(request)
    store: Json = {
        "id": new_id("vs_"),
        "object": "vector_store",
        "created_at": now(),
        "name": fields.get("name") or "",
        "description": fields.get("description"),
        "status": "completed",
        "expires_after": fields.get("expires_after"),
        "expires_at": None,
        "last_active_at": now(),
        "metadata": fields.get("metadata") or {},
        "files": {},
        "batches": {},
    }
    for file_id in fields.get("file_ids") or ():
        _add(desk, store, file_id, fields)
    return answer(_shown(desk.stores.put(store["id"], store)))


async def list_stores(request: web.Request) -> web.StreamResponse:
    return answer(page([_shown(each) for each in desk_of(request).stores.all()], request.query))


async def show(request: web.Request) -> web.StreamResponse:
    return answer(_shown(_store(request)))


async def update(request: web.Request) -> web.StreamResponse:
    store, fields = _store(request), await fields_of(request)
    store |= {name: fields[name] for name in ("name", "expires_after", "metadata") if name in fields}
    return answer(_shown(store))


async def delete(request: web.Request) -> web.StreamResponse:
    name = request.match_info["id"]
    desk_of(request).stores.take(name)
    return answer(deleted(name, "vector_store.deleted"))


async def search(request: web.Request) -> web.StreamResponse:
    desk, store, fields = desk_of(request), _store(request), await fields_of(request, "query")
    query = fields["query"]
    wanted = {word for text in ([query] if isinstance(query, str) else query) for word in str(text).lower().split()}
    found = []
    for each in store["files"].values():
        kept = desk.files.find(each["id"])
        text = kept["content"][: 1 << 20].decode("utf-8", "replace") if kept else ""
        score = len(wanted & set(text.lower().split())) / max(1, len(wanted))
        about = {"file_id": each["id"], "filename": kept["shown"]["filename"] if kept else ""}
        content = [{"type": "text", "text": text[:SHOWN_CHARACTERS]}]
        found.append(about | {"score": score, "attributes": each["attributes"], "content": content})
    found.sort(key=lambda each: -each["score"])
    data = found[: whole_number(fields.get("max_num_results"), 10, 50)]
    about = {"object": "vector_store.search_results.page", "search_query": sorted(wanted)}
    return answer(about | {"data": data, "has_more": False, "next_page": None})


# -- files


async def add_file(request: web.Request) -> web.StreamResponse:
    fields = await fields_of(request, "file_id")
    return answer(_add(desk_of(request), _store(request), fields["file_id"], fields))


async def list_files(request: web.Request) -> web.StreamResponse:
    wanted = request.query.get("filter")
    files = [each for each in _store(request)["files"].values() if wanted in (None, each["status"])]
    return answer(page(files, request.query))


async def show_file(request: web.Request) -> web.StreamResponse:
    return answer(_file(request))


async def update_file(request: web.Request) -> web.StreamResponse:
    found = _file(request)
    found["attributes"] = (await fields_of(request)).get("attributes") or {}
    return answer(found)


async def delete_file(request: web.Request) -> web.StreamResponse:
    name = _file(request)["id"]
    del _store(request)["files"][name]
    return answer(deleted(name, "vector_store.file.deleted"))


async def show_content(request: web.Request) -> web.StreamResponse:
    kept = desk_of(request).files.get(_file(request)["id"])
    data = [{"type": "text", "text": kept["content"].decode("utf-8", "replace")}]
    about = {"object": "vector_store.file_content.page", "has_more": False, "next_page": None}
    return answer(about | {"data": data})


# -- batches of files


async def add_batch(request: web.Request) -> web.StreamResponse:
    desk, store, fields = desk_of(request), _store(request), await fields_of(request)
    named = fields.get("files") or [{"file_id": each} for each in fields.get("file_ids") or ()]
    if not named:
        raise Refused("Missing required parameter: 'file_ids'.", param="file_ids")
    files = [_add(desk, store, each.get("file_id"), fields | each)["id"] for each in named]
    counts = {"in_progress": 0, "completed": len(files), "failed": 0, "cancelled": 0, "total": len(files)}
    about = {"id": new_id("vsfb_"), "object": "vector_store.files_batch", "created_at": now(), "status": "completed"}
    shown = about | {"vector_store_id": store["id"], "file_counts": counts}
    store["batches"][shown["id"]] = {"shown": shown, "files": files}
    return answer(shown)


def _batch(request: web.Request) -> Json:
    name = request.match_info["batch"]
    found: Json | None = _store(request)["batches"].get(name)
    if found is None:
        raise Refused(f"No file batch found with id '{name}'.", status=404, param="batch_id")
    return found


async def show_batch(request: web.Request) -> web.StreamResponse:
    return answer(_batch(request)["shown"])


async def list_batch_files(request: web.Request) -> web.StreamResponse:
    files, store = _batch(request)["files"], _store(request)
    return answer(page([store["files"][each] for each in files if each in store["files"]], request.query))


ROUTES = [
    web.post("/vector_stores", create),
    web.get("/vector_stores", list_stores),
    web.get("/vector_stores/{id}", show),
    web.post("/vector_stores/{id}", update),
    web.delete("/vector_stores/{id}", delete),
    web.post("/vector_stores/{id}/search", search),
    web.post("/vector_stores/{id}/files", add_file),
    web.get("/vector_stores/{id}/files", list_files),
    web.get("/vector_stores/{id}/files/{file}", show_file),
    web.post("/vector_stores/{id}/files/{file}", update_file),
    web.delete("/vector_stores/{id}/files/{file}", delete_file),
    web.get("/vector_stores/{id}/files/{file}/content", show_content),
    web.post("/vector_stores/{id}/file_batches", add_batch),
    web.get("/vector_stores/{id}/file_batches/{batch}", show_batch),
    web.post("/vector_stores/{id}/file_batches/{batch}/cancel", show_batch),
    web.get("/vector_stores/{id}/file_batches/{batch}/files", list_batch_files),
]
