"""The shapes of the OpenAI wire: read and rewrite a request's body, build answers, recognise errors and usage."""

from gateway.openai.answer_scan import JsonScan
from gateway.openai.body import LARGE_BYTES, RequestBody, read_body, size_of
from gateway.openai.choosing import Mention, allowed_fields
from gateway.openai.contents import Contents, contents_of
from gateway.openai.refusal import error_words, refusal_body, refusal_event
from gateway.openai.scan import Size
from gateway.openai.shapes import (
    error_body,
    error_event,
    flat_error_body,
    is_error_payload,
    is_usage_only,
    model_entry,
    models_list,
    printable,
)
from gateway.openai.usage import Usage, last_usage, may_bear_usage, usage_of

__all__ = [
    "LARGE_BYTES",
    "Contents",
    "JsonScan",
    "Mention",
    "RequestBody",
    "Size",
    "Usage",
    "allowed_fields",
    "contents_of",
    "error_body",
    "error_event",
    "error_words",
    "flat_error_body",
    "is_error_payload",
    "is_usage_only",
    "last_usage",
    "may_bear_usage",
    "model_entry",
    "models_list",
    "printable",
    "read_body",
    "refusal_body",
    "refusal_event",
    "size_of",
    "usage_of",
]
