"""Figures as a few cells of text: bars, curves, sliders, sizes. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

_EIGHTHS_ACROSS = " ▏▎▍▌▋▊▉█"
_EIGHTHS_UP = " ▁▂▃▄▅▆▇█"
SLOWEST, FASTEST = 100, 1_000_000  # ends of the speed slider; the API takes more


def bar(share: float, width: int, ascii_only: bool = False) -> str:
    """A bar of that share of the width, to an eighth of a cell."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    if ascii_only:
        return ("#" * round(eighths / 8)).ljust(width)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS_ACROSS[rest] if rest else "")).ljust(width)


def curve(values: Sequence[float], width: int, top: float, ascii_only: bool = False) -> str:
    """The last of the values as a curve, the newest at the right."""
    heights = "  ..::##*" if ascii_only else _EIGHTHS_UP
    shown = list(values)[-width:] if width > 0 else []
    levels = [min(8, max(0, round(value / top * 8))) if top > 0 else 0 for value in shown]
    return "".join(heights[level] for level in levels).rjust(width)


def paired(values: Sequence[float]) -> list[float]:
    """Half as many: the means of two each, the last ones together."""
    known = list(values)
    odd = len(known) % 2
    return known[:odd] + [sum(known[at : at + 2]) / 2 for at in range(odd, len(known), 2)]


def slider_place(speed: int, width: int) -> int:
    """The cell of the knob on a logarithmic slider."""
    share = math.log(min(FASTEST, max(SLOWEST, speed)) / SLOWEST) / math.log(FASTEST / SLOWEST)
    return min(width - 1, round(share * (width - 1)))


def slider(speed: int, width: int, ascii_only: bool = False) -> str:
    """A slider with its knob."""
    place = slider_place(speed, width)
    line, knob = ("-", "o") if ascii_only else ("─", "●")
    return line * place + knob + line * (width - 1 - place)


def speed_at(cell: int, width: int) -> int:
    """The speed that a knob at that cell means, to two digits."""
    share = min(1.0, max(0.0, cell / max(1, width - 1)))
    return two_digits(SLOWEST * (FASTEST / SLOWEST) ** share)


def two_digits(value: float) -> int:
    """Rounded to two significant digits."""
    power = 10 ** max(0, math.floor(math.log10(max(value, 1))) - 1)
    return int(round(value / power) * power)


def size_of(count: float) -> str:
    """Bytes in five cells at most: 13M, 1.2G."""
    for letter, unit in (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if count >= unit:
            amount = count / unit
            return f"{amount:.1f}{letter}" if amount < 10 else f"{amount:.0f}{letter}"
    return f"{count:.0f}"


def rate_of(per_s: float) -> str:
    """Something per second in five cells at most; nothing for what is not known (negative)."""
    if per_s < 0:
        return ""
    if per_s >= 10_000:
        return f"{per_s / 1000:.0f}k"
    return f"{per_s:.0f}" if per_s >= 10 or per_s == 0 else f"{per_s:.1f}"
