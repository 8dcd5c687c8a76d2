"""Bars as SVG, written by hand: one for each target, with its value and how it stands to the gateway's."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH = 760  # at least, as are names
NAME_WIDTH = 170
BAR_WIDTH = 400
_CHARACTER, _TITLES = 6.8, 8.0  # about as wide as they are on average
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
    names = max(NAME_WIDTH, *(round(len(row.name) * _CHARACTER) + 16 for row in rows))
    lines = [_bar(TOP + place * ROW, names, row, scale, reference, row.name == own) for place, row in enumerate(rows)]
    height = TOP + len(rows) * ROW + 12
    heading = f"{title} ({unit})"
    width = max(WIDTH + names - NAME_WIDTH, round(len(heading) * _TITLES) + 24)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            'role="img" font-family="system-ui, sans-serif" font-size="13">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            f'<text x="12" y="24" font-weight="600" fill="#1f2328">{escape(heading)}</text>',
            *lines,
            "</svg>\n",
        ]
    )


def _bar(top: float, left: int, row: Bar, scale: float, reference: float | None, is_own: bool) -> str:
    """`left`: where bars begin, behind their names."""
    is_cut = row.value > scale
    width = BAR_WIDTH * min(1.0, row.value / scale)
    colour, weight = ("#1a7f37", "600") if is_own else ("#8c959f", "400")
    middle = top + 14
    parts = [
        f'<text x="{left - 8}" y="{middle}" text-anchor="end" font-weight="{weight}" fill="#1f2328">'
        f"{escape(row.name)}</text>",
        f'<rect x="{left}" y="{top + 1}" width="{max(1.0, width):.1f}" height="{ROW - 8}" fill="{colour}"/>',
    ]
    if is_cut:
        x = left + width - 26
        parts.append(f'<path d="M{x:.1f} {top + ROW - 4} l8 -24 h7 l-8 24 z" fill="#ffffff"/>')
    ratio = f"  ({row.value / reference:.3g} ×)" if reference and not is_own else ""
    parts.append(
        f'<text x="{left + width + 8:.1f}" y="{middle}" font-weight="{weight}" fill="#1f2328">'
        f"{escape(row.label + ratio)}</text>"
    )
    return "\n".join(parts)
