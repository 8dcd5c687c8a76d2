"""Prices, and what a usage costs by them, to the billionth.

kinds   what a request used, by kind
price   prices as gateway.yaml writes them
lookup  prices of genai-prices, read in a child process
rates   the same, layered and compiled to whole numbers: the cost of a request, the dearest that it may get
"""

from gateway.pricing.kinds import Besides, Usage, UsageDetails
from gateway.pricing.price import COMPONENTS, Components, Price, PriceStep, TierPrice, ToolPrices
from gateway.pricing.rates import RateCard, Rates, rate_card, rates_of_record

__all__ = [
    "COMPONENTS",
    "Besides",
    "Components",
    "Price",
    "PriceStep",
    "RateCard",
    "Rates",
    "TierPrice",
    "ToolPrices",
    "Usage",
    "UsageDetails",
    "rate_card",
    "rates_of_record",
]
