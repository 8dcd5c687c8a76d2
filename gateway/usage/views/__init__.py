"""Show people and panels what is in the ledger.

Pure: reports and records in, documents and text out.

period.py       which days are asked for
json_shapes.py  the JSON of the usage routes
amounts.py      what a request is paid for
export.py       records as CSV
receipt.py      single requests, with parts and attempts
terminal.py     what `gateway usage` prints
"""

from gateway.usage.views.export import CSV_HEADER, csv_line
from gateway.usage.views.json_shapes import UsageAnswer, UsageSummary, answer_of, summary_of
from gateway.usage.views.period import days_asked
from gateway.usage.views.receipt import Receipt, Receipts, receipt_of, receipts_of
from gateway.usage.views.terminal import progress_text, summary_text

__all__ = [
    "CSV_HEADER",
    "Receipt",
    "Receipts",
    "UsageAnswer",
    "UsageSummary",
    "answer_of",
    "csv_line",
    "days_asked",
    "progress_text",
    "receipt_of",
    "receipts_of",
    "summary_of",
    "summary_text",
]
