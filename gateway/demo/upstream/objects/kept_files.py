"""Files, and uploads in parts that become files."""

from __future__ import annotations

import hashlib

from aiohttp import web

from gateway.demo.upstream.bodies import MAX_BODY_BYTES, answer, fields_of, file_of, form_of
from gateway.demo.upstream.desk import RECORD_BYTES, Desk, Json, Refused, deleted, desk_of, new_id, now, page

UPLOAD_SECONDS = 3_600
_KINDS = {"jsonl": "application/jsonl", "json": "application/json", "png": "image/png", "txt": "text/plain"}


def keep_file(desk: Desk, content: bytes, filename: str, purpose: str) -> Json:
    """Keep a file; the oldest make room for it."""
    shown: Json = {
        "id": new_id("file-"),
        "object": "file",
        "bytes": len(content),
        "created_at": now(),
        "expires_at": None,
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
    }
    record = {"id": shown["id"], "shown": shown, "content": content}
    desk.files.put(shown["id"], record, RECORD_BYTES + len(content))
    return shown


async def create(request: web.Request) -> web.StreamResponse:
    form = await form_of(request)
    sent, purpose = file_of(form, "file"), form.get("purpose")
    if not isinstance(purpose, str) or not purpose:
        raise Refused("Missing required parameter: 'purpose'.", param="purpose", code="missing_required_parameter")
    return answer(keep_file(desk_of(request), sent.file.read(), sent.filename or "file", purpose))


async def list_files(request: web.Request) -> web.StreamResponse:
    shown = [each["shown"] for each in desk_of(request).files.all()]
    purpose = request.query.get("purpose")
    return answer(page([each for each in shown if purpose in (None, each["purpose"])], request.query))


async def show(request: web.Request) -> web.StreamResponse:
    return answer(desk_of(request).files.get(request.match_info["id"])["shown"])


async def content(request: web.Request) -> web.StreamResponse:
    kept = desk_of(request).files.get(request.match_info["id"])
    name: str = kept["shown"]["filename"]
    kind = _KINDS.get(name.rpartition(".")[2].lower(), "application/octet-stream")
    plain = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name if letter.isascii())
    headers = {"content-disposition": f'attachment; filename="{plain}"'}
    return web.Response(body=kept["content"], content_type=kind, headers=headers)


async def delete(request: web.Request) -> web.StreamResponse:
    name = request.match_info["id"]
    desk_of(request).files.take(name)
    return answer(deleted(name, "file"))


# -- uploads


async def begin_upload(request: web.Request) -> web.StreamResponse:
    fields = await fields_of(request, "bytes", "filename", "mime_type", "purpose")
    about = {name: fields[name] for name in ("bytes", "filename", "purpose")}
    times = {"created_at": now(), "expires_at": now() + UPLOAD_SECONDS}
    shown = {"id": new_id("upload_"), "object": "upload", "status": "pending", "file": None} | about | times
    desk_of(request).uploads.put(shown["id"], {"shown": shown, "parts": {}})
    return answer(shown)


async def add_part(request: web.Request) -> web.StreamResponse:
    desk, name = desk_of(request), request.match_info["id"]
    kept = _pending(desk, name)
    sent = file_of(await form_of(request), "data").file.read()
    held = sum(len(part) for part in kept["parts"].values()) + len(sent)
    if held > MAX_BODY_BYTES:
        raise Refused("The demo's uploads end at 32 MB.", status=413)
    part = {"id": new_id("part_"), "object": "upload.part", "created_at": now(), "upload_id": name}
    kept["parts"][part["id"]] = sent
    desk.uploads.put(name, kept, RECORD_BYTES + held)
    return answer(part)


async def complete_upload(request: web.Request) -> web.StreamResponse:
    desk, name = desk_of(request), request.match_info["id"]
    kept, fields = _pending(desk, name), await fields_of(request, "part_ids")
    missing = [part for part in fields["part_ids"] if part not in kept["parts"]]
    if missing:
        raise Refused(f"No part found with id '{missing[0]}'.", param="part_ids")
    whole = b"".join(kept["parts"][part] for part in fields["part_ids"])
    if len(whole) != kept["shown"]["bytes"]:
        raise Refused(f"The parts have {len(whole)} bytes, and not {kept['shown']['bytes']}.", param="bytes")
    if fields.get("md5") not in (None, hashlib.md5(whole, usedforsecurity=False).hexdigest()):
        raise Refused("The checksum does not match.", param="md5")
    made = keep_file(desk, whole, kept["shown"]["filename"], kept["shown"]["purpose"])
    shown = kept["shown"] | {"status": "completed", "file": made}
    desk.uploads.put(name, {"shown": shown, "parts": {}})
    return answer(shown)


async def cancel_upload(request: web.Request) -> web.StreamResponse:
    desk, name = desk_of(request), request.match_info["id"]
    shown = _pending(desk, name)["shown"] | {"status": "cancelled"}
    desk.uploads.put(name, {"shown": shown, "parts": {}})
    return answer(shown)


def _pending(desk: Desk, name: str) -> Json:
    kept = desk.uploads.get(name)
    if kept["shown"]["status"] != "pending":
        raise Refused(f"Upload '{name}' is {kept['shown']['status']}.", param="upload_id")
    return kept


ROUTES = [
    web.post("/files", create),
    web.get("/files", list_files),
    web.get("/files/{id}", show),
    web.get("/files/{id}/content", content),
    web.delete("/files/{id}", delete),
    web.post("/uploads", begin_upload),
    web.post("/uploads/{id}/parts", add_part),
    web.post("/uploads/{id}/complete", complete_upload),
    web.post("/uploads/{id}/cancel", cancel_upload),
]
