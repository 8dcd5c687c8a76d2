"""Files, uploads in parts, batches."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.dialects.base import Learnt, ListRules
from gateway.dialects.openai.operations.parts import ANYTHING, BINARY, FORM, kept, makes, positions
from gateway.dialects.references import Position, Positions

_FILES = ListRules(
    kind="file", most=10_000, usual=10_000, newest_first=True, filters=("purpose",), unfinished=("uploaded",)
)
_BATCHES = ListRules(
    kind="batch",
    most=100,
    usual=20,
    newest_first=True,
    filters=(),
    unfinished=("validating", "in_progress", "finalizing", "cancelling"),
)
_UPLOAD = (Learnt(Positions((Position("id", "upload"), Position("file.id", "file")))),)
_BATCH = makes("batch", Position("output_file_id", "file"), Position("error_file_id", "file"))
_NEW_UPLOAD = {"filename": "notes.txt", "purpose": "user_data", "bytes": 5, "mime_type": "text/plain"}
_NEW_BATCH = {"input_file_id": "file-abc", "endpoint": "/v1/chat/completions", "completion_window": "24h"}

# It runs the model of its file's lines, and is paid for when it is over.
BATCHES = replace(
    kept(
        "POST",
        "/batches",
        "Begin a batch",
        example=_NEW_BATCH,
        pins=positions(file=("input_file_id",)),
        learns=_BATCH,
    ),
    model="runs",
)

FILE_ROWS = (
    kept("GET", "/files", "The caller's files", lists=_FILES),
    kept("POST", "/files", "Keep a file", body=FORM, example={"purpose": "user_data"}, learns=makes("file")),
    kept("GET", "/files/{file_id}", "A file", learns=makes("file")),
    kept("DELETE", "/files/{file_id}", "Delete a file", deletes=True),
    kept("GET", "/files/{file_id}/content", "What a file holds", media=(BINARY, ANYTHING)),
    kept("POST", "/uploads", "Begin an upload in parts", example=_NEW_UPLOAD, learns=_UPLOAD),
    kept("POST", "/uploads/{upload_id}/parts", "Add a part to an upload", body=FORM),
    kept("POST", "/uploads/{upload_id}/complete", "End an upload", example={"part_ids": ["part_abc"]}, learns=_UPLOAD),
    kept("POST", "/uploads/{upload_id}/cancel", "Cancel an upload", learns=_UPLOAD),
    kept("GET", "/batches", "The caller's batches", lists=_BATCHES),
    BATCHES,
    kept("GET", "/batches/{batch_id}", "A batch", learns=_BATCH),
    kept("POST", "/batches/{batch_id}/cancel", "Cancel a batch", learns=_BATCH),
)
