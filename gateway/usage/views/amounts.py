"""What a request is paid for: for receipts and exports alike."""

from __future__ import annotations

from gateway.pricing import Usage, rates_of_record
from gateway.pricing.rates import quantities
from gateway.usage.receipts import RequestRecord

Amount = int | float
BATCH_ROUTE = "batches"  # whose cost is by `price.batch`
_OTHERWISE = frozenset(("request", "audio_minute"))


def kinds_of(usage: Usage) -> dict[str, Amount]:
    """Return each token once, by the component of its price.

    Calls, images and the like besides.
    """
    found: dict[str, Amount] = {
        name: int(amount) for name, amount in quantities(usage, requests=0).items() if name not in _OTHERWISE
    }
    return found | {"audio_seconds": usage.details.audio_seconds if usage.details is not None else 0}


def requests_of(record: RequestRecord) -> int:
    """Count how often the price's `request` is in the cost."""
    if record.price is None:
        return 0
    paid = rates_of_record(record.price).requests_paid(record.usage, record.cost_nano, is_batch=is_batch(record))
    # A cost by lines, or by what was reserved, is more than the tokens' for other reasons too.
    return paid if record.lines is None else min(paid, record.lines)


def is_batch(record: RequestRecord) -> bool:
    return record.route == BATCH_ROUTE
