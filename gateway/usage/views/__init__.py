"""Render usage for people and panels, as documents and text.

Pure: reports and records in.

period   which days are asked for
answer   the JSON of the usage routes
export   records as CSV
table    what `gateway usage` prints
"""

from gateway.usage.views.export import CSV_HEADER, csv_line
from gateway.usage.views.json_shapes import UsageAnswer, UsageSummary, answer_of, summary_of
from gateway.usage.views.period import days_asked
from gateway.usage.views.terminal import summary_text

__all__ = [
    "CSV_HEADER",
    "UsageAnswer",
    "UsageSummary",
    "answer_of",
    "csv_line",
    "days_asked",
    "summary_of",
    "summary_text",
]
