"""Vector stores, with their files, file batches and search."""

from __future__ import annotations

from gateway.dialects.base import ListRules
from gateway.dialects.openai.operations.parts import kept, makes, positions

# Its counts change with its files, and it may expire: none of them is ever final.
_STORES = ListRules(kind="vector_store", most=100, usual=20, newest_first=True, filters=(), unfinished=None)
_STORE = makes("vector_store")
_FILE = {"file_id": "file-abc"}
_BATCH = makes("vector_store.file_batch")

VECTOR_STORE_ROWS = (
    kept("GET", "/vector_stores", "The caller's vector stores", lists=_STORES),
    kept(
        "POST",
        "/vector_stores",
        "Make a vector store",
        example={"name": "notes"},
        pins=positions(file=("file_ids[]",)),
        learns=_STORE,
    ),
    kept("GET", "/vector_stores/{vector_store_id}", "A vector store", learns=_STORE),
    kept("POST", "/vector_stores/{vector_store_id}", "Change a vector store", example={"name": "notes"}, learns=_STORE),
    kept("DELETE", "/vector_stores/{vector_store_id}", "Delete a vector store", deletes=True),
    kept("POST", "/vector_stores/{vector_store_id}/search", "Search a vector store", example={"query": "lighthouse"}),
    kept("GET", "/vector_stores/{vector_store_id}/files", "The files of a vector store"),
    kept(
        "POST",
        "/vector_stores/{vector_store_id}/files",
        "Add a file to a vector store",
        example=_FILE,
        pins=positions(file=("file_id",)),
    ),
    kept("GET", "/vector_stores/{vector_store_id}/files/{file_id}", "A file of a vector store"),
    kept(
        "POST",
        "/vector_stores/{vector_store_id}/files/{file_id}",
        "Change a file's attributes in a vector store",
        example={"attributes": {"topic": "demo"}},
    ),
    kept("DELETE", "/vector_stores/{vector_store_id}/files/{file_id}", "Take a file out of a vector store"),
    kept("GET", "/vector_stores/{vector_store_id}/files/{file_id}/content", "A file's text in a vector store"),
    kept(
        "POST",
        "/vector_stores/{vector_store_id}/file_batches",
        "Add files to a vector store",
        example={"file_ids": ["file-abc"]},
        pins=positions(file=("file_ids[]", "files[].file_id")),
        learns=_BATCH,
    ),
    kept("GET", "/vector_stores/{vector_store_id}/file_batches/{batch_id}", "Files being added"),
    kept("POST", "/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel", "Stop adding files"),
    kept("GET", "/vector_stores/{vector_store_id}/file_batches/{batch_id}/files", "The files of such a batch"),
)
