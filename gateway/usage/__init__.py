"""The ledger: the durable record of usage, one row a request (§8).

ledger     what the rest of the gateway sees; a request passes through `journal/journal` alone: two records written,
           and remembered until the writer takes them
writer     the thread that brings rows to the database: from memory (`handover`), or read back from the journal where
           memory could not hold them (`following`)
upkeep     what the same thread does besides: rows without sums, long steps of a migration, blocks, what is old
reports    what can be asked, and the shapes of the answers; `row_pages`: rows in an order, a page at a time
receipts   what is known of single requests
rebuild    makes the sums anew
views      the answers of the usage routes

journal/   records    the two records of a request: admitted, settled
           journal    appending them on the request's way, and what memory knows of them
           lines      records found in bytes again; damage never hides an intact record
           segments   the journal's files; a lock tells a living owner from a dead one
           own_segments   those of this process: begun, told to the disk, let go
           keeper     the thread that looks after the files: sync, rotation, warnings
           pairing    records become rows
           replay     the journals of dead processes

sql/       drivers    which driver a URL asks for
           database   the way to it; `deadline`: no server keeps us waiting
           rows       from records to columns; `long_ids`: ids that no column holds
           table      what is written, by `rows_store`; `migrations`: from older tables to these
           sums/      by day and hour, kept beside the rows; reports and limits read them
           pages/     a page of a report, ordered and cut; what is kept where that takes long
           queries    and `reader`: what is asked; `walks`: one user's rows, a few days at a time; `lanes`: threads
                      that do not wait for each other

Those from `database` on load SQLAlchemy; nothing here does so before it is needed.
"""

from gateway.usage.journal.records import NANO, Admission, FailedAttempt, Settlement, UsageSource
from gateway.usage.ledger import Ledger, LedgerStatus, WhenUnwritable
from gateway.usage.reports import (
    Cost,
    Group,
    Groups,
    LimitScope,
    Order,
    Totals,
    UsageQuery,
    UsageReport,
    UsageRow,
    cost_text,
    exact_cost,
)

__all__ = [
    "NANO",
    "Admission",
    "Cost",
    "FailedAttempt",
    "Group",
    "Groups",
    "Ledger",
    "LedgerStatus",
    "LimitScope",
    "Order",
    "Settlement",
    "Totals",
    "UsageQuery",
    "UsageReport",
    "UsageRow",
    "UsageSource",
    "WhenUnwritable",
    "cost_text",
    "exact_cost",
]
