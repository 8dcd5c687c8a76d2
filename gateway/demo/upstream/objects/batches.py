"""Batches: the lines of a file, each answered as its route answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from gateway.demo.upstream.bodies import answer, fields_of
from gateway.demo.upstream.chat import chat_completion, completion
from gateway.demo.upstream.desk import Desk, Json, Refused, desk_of, new_id, now, page
from gateway.demo.upstream.numbers import embeddings, moderations
from gateway.demo.upstream.objects.kept_files import keep_file
from gateway.demo.upstream.pictures import images
from gateway.demo.upstream.responses import respond

MOST_LINES, AT_ONCE, MOST_OUTPUT_BYTES = 50_000, 50, 32 * 2**20
DAY = 86_400
_ANSWERS: dict[str, Callable[[Desk, Json], Json]] = {
    "/v1/chat/completions": chat_completion,
    "/v1/completions": completion,
    "/v1/embeddings": embeddings,
    "/v1/moderations": moderations,
    "/v1/images/generations": images,
    "/v1/responses": respond,
}


async def create(request: web.Request) -> web.StreamResponse:
    desk, fields = desk_of(request), await fields_of(request, "input_file_id", "endpoint", "completion_window")
    if fields["endpoint"] not in _ANSWERS:
        raise Refused(f"Invalid value: '{fields['endpoint']}'.", param="endpoint")
    kept = desk.files.find(str(fields["input_file_id"]))
    if kept is None or kept["shown"]["purpose"] != "batch":
        message = f"Invalid 'input_file_id': no file of purpose 'batch' with id '{fields['input_file_id']}'."
        raise Refused(message, param="input_file_id")
    batch: Json = {
        "id": new_id("batch_"),
        "object": "batch",
        "endpoint": fields["endpoint"],
        "errors": None,
        "input_file_id": fields["input_file_id"],
        "completion_window": fields["completion_window"],
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": now(),
        "expires_at": now() + DAY,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": fields.get("metadata"),
    }
    desk.batches.put(batch["id"], batch)
    desk.begin(_run(desk, batch, kept["content"]))
    return answer(batch)


async def _run(desk: Desk, batch: Json, content: bytes) -> None:
    await asyncio.sleep(desk.pause_seconds)
    lines = [line for line in content.splitlines() if line.strip()][: MOST_LINES + 1]
    problems = ["too many lines"] if len(lines) > MOST_LINES else [] if lines else ["the file is empty"]
    if problems:
        errors = [{"code": "invalid_file", "line": None, "message": each, "param": None} for each in problems]
        batch |= {"status": "failed", "failed_at": now(), "errors": {"object": "list", "data": errors}}
        return
    counts = batch["request_counts"]
    if batch["status"] == "validating":  # and not cancelled meanwhile
        batch |= {"status": "in_progress", "in_progress_at": now()}
    counts["total"] = len(lines)
    outputs: dict[bool, list[bytes]] = {True: [], False: []}
    size, used = 0, [0, 0]
    for number, line in enumerate(lines):
        if number % AT_ONCE == 0:
            await asyncio.sleep(desk.pause_seconds)
        if batch["status"] == "cancelling":
            break
        is_good, written, usage = _answered(desk, batch["endpoint"], line)
        size += len(written)
        if size > MOST_OUTPUT_BYTES:
            break
        outputs[is_good].append(written)
        counts["completed" if is_good else "failed"] += 1
        used = [used[0] + usage[0], used[1] + usage[1]]
    _finish(desk, batch, outputs, used)


def _answered(desk: Desk, endpoint: str, line: bytes) -> tuple[bool, bytes, tuple[int, int]]:
    """Answer one line.

    Returns whether it went well, what is written for it, and its tokens in and out.
    """
    about: Json = {"id": new_id("batch_req_"), "custom_id": None, "response": None, "error": None}
    try:
        asked = orjson.loads(line)
        about["custom_id"] = asked.get("custom_id")
        if asked.get("url") != endpoint:
            raise Refused(f"The line's url is not '{endpoint}'.", param="url")
        body = _ANSWERS[endpoint](desk, asked.get("body") or {})
    except Refused as refused:
        about["response"] = _response(refused.status, {"error": refused.body})
        return False, orjson.dumps(about), (0, 0)
    except (orjson.JSONDecodeError, AttributeError, TypeError):
        about["error"] = {"code": "invalid_json", "message": "This line is not a request."}
        return False, orjson.dumps(about), (0, 0)
    about["response"] = _response(200, body)
    return True, orjson.dumps(about), _tokens(body.get("usage") or {})


def _response(status: int, body: Json) -> Json:
    return {"status_code": status, "request_id": new_id("req_"), "body": body}


def _tokens(usage: dict[str, Any]) -> tuple[int, int]:
    asked = usage.get("prompt_tokens", usage.get("input_tokens", 0))
    return asked, usage.get("completion_tokens", usage.get("output_tokens", 0))


def _finish(desk: Desk, batch: Json, outputs: dict[bool, list[bytes]], used: list[int]) -> None:
    for name, is_good in (("output_file_id", True), ("error_file_id", False)):
        if outputs[is_good]:
            made = keep_file(desk, b"\n".join(outputs[is_good]) + b"\n", f"{batch['id']}.jsonl", "batch_output")
            batch[name] = made["id"]
    status = "cancelled" if batch["status"] == "cancelling" else "completed"
    usage = {"input_tokens": used[0], "output_tokens": used[1], "total_tokens": sum(used)}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    batch |= {"status": status, f"{status}_at": now(), "usage": usage | details}


async def list_batches(request: web.Request) -> web.StreamResponse:
    return answer(page(desk_of(request).batches.all(), request.query))


async def show(request: web.Request) -> web.StreamResponse:
    return answer(desk_of(request).batches.get(request.match_info["id"]))


async def cancel(request: web.Request) -> web.StreamResponse:
    batch = desk_of(request).batches.get(request.match_info["id"])
    if batch["status"] in ("validating", "in_progress"):
        batch |= {"status": "cancelling", "cancelling_at": now()}
    elif batch["status"] not in ("cancelling", "cancelled"):
        raise Refused(f"Cannot cancel a batch with status '{batch['status']}'.", status=409)
    return answer(batch)


ROUTES = [
    web.post("/batches", create),
    web.get("/batches", list_batches),
    web.get("/batches/{id}", show),
    web.post("/batches/{id}/cancel", cancel),
]
