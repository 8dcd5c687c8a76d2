"""The OpenAI protocol: request bodies, answers, errors, usage."""

from gateway.dialects.base import Contents, Usage
from gateway.dialects.openai.choosing import Mention, allowed_fields, form_fields, form_value
from gateway.dialects.openai.metering.answer_scan import JsonScan
from gateway.dialects.openai.metering.contents import USAGE_READER, contents_of
from gateway.dialects.openai.metering.usage_report import last_usage, may_bear_usage, usage_of
from gateway.dialects.openai.operations import (
    KEPT_OPERATIONS,
    LISTS,
    NOT_SERVED,
    OPERATIONS,
    PLAIN_EVENTS,
    RETRIEVALS,
    why_not_served,
)
from gateway.dialects.openai.refusal import error_words, refusal_body, refusal_event
from gateway.dialects.openai.request_body import LARGE_BYTES, RequestBody, read_body, size_of
from gateway.dialects.openai.scan import Size
from gateway.dialects.openai.shapes import error_body, error_event, flat_error_body, model_entry, models_list, printable
from gateway.dialects.openai.stream import (
    CHAT_END_SIGNS,
    END_SIGNS,
    Weight,
    begins_last,
    has_finish_reason,
    is_error_body,
    is_error_payload,
    is_last,
    is_usage_only,
    sequence_number,
    weight_of,
    whole_as_events,
)

__all__ = [
    "CHAT_END_SIGNS",
    "END_SIGNS",
    "KEPT_OPERATIONS",
    "LARGE_BYTES",
    "LISTS",
    "NOT_SERVED",
    "OPERATIONS",
    "PLAIN_EVENTS",
    "RETRIEVALS",
    "USAGE_READER",
    "Contents",
    "JsonScan",
    "Mention",
    "RequestBody",
    "Size",
    "Usage",
    "Weight",
    "allowed_fields",
    "begins_last",
    "contents_of",
    "error_body",
    "error_event",
    "error_words",
    "flat_error_body",
    "form_fields",
    "form_value",
    "has_finish_reason",
    "is_error_body",
    "is_error_payload",
    "is_last",
    "is_usage_only",
    "last_usage",
    "may_bear_usage",
    "model_entry",
    "models_list",
    "printable",
    "read_body",
    "refusal_body",
    "refusal_event",
    "sequence_number",
    "size_of",
    "usage_of",
    "weight_of",
    "whole_as_events",
    "why_not_served",
]
