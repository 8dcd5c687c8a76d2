"""Bars as SVG, written by hand: one for each target, with its value and how it stands to the gateway's."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH = 760
NAME_WIDTH = 170
BAR_WIDTH = 400
ROW = 26
TOP = 44
CUT_BEYOND = 8  # times the gateway's: a bar that would dwarf all others is cut, and shows it


class Bar(NamedTuple):
    name: str
    value: float
    label: str


def bars(title: str, unit: str, rows: Sequence[Bar], own: str) -> str:
    """`own`: the name of the bar that stands out, and that the others are compared with."""
    reference = next((row.value for row in rows if row.name == own), None)
    most = max(row.value for row in rows)
    shown = [row.value for row in rows if not reference or row.value <= CUT_BEYOND * reference]
    scale = (max(shown, default=0) or most or 1) * (1.15 if len(shown) < len(rows) else 1)
    lines = [_bar(TOP + number * ROW, row, scale, reference, row.name == own) for number, row in enumerate(rows)]
    height = TOP + len(rows) * ROW + 12
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
            'role="img" font-family="system-ui, sans-serif" font-size="13">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            f'<text x="12" y="24" font-weight="600" fill="#1f2328">{escape(title)} ({escape(unit)})</text>',
            *lines,
            "</svg>\n",
        ]
    )


def _bar(top: float, row: Bar, scale: float, reference: float | None, is_own: bool) -> str:
    is_cut = row.value > scale
    width = BAR_WIDTH * min(1.0, row.value / scale)
    colour, weight = ("#1a7f37", "600") if is_own else ("#8c959f", "400")
    middle = top + 14
    parts = [
        f'<text x="{NAME_WIDTH - 8}" y="{middle}" text-anchor="end" font-weight="{weight}" fill="#1f2328">'
        f"{escape(row.name)}</text>",
        f'<rect x="{NAME_WIDTH}" y="{top + 1}" width="{max(1.0, width):.1f}" height="{ROW - 8}" fill="{colour}"/>',
    ]
    if is_cut:
        x = NAME_WIDTH + width - 26
        parts.append(f'<path d="M{x:.1f} {top + ROW - 4} l8 -24 h7 l-8 24 z" fill="#ffffff"/>')
    ratio = f"  ({row.value / reference:.3g} ×)" if reference and not is_own else ""
    parts.append(
        f'<text x="{NAME_WIDTH + width + 8:.1f}" y="{middle}" font-weight="{weight}" fill="#1f2328">'
        f"{escape(row.label + ratio)}</text>"
    )
    return "\n".join(parts)
