"""Pieces of lines that look alike: what drawings are made of, without any terminal. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

_READABLE = 20  # columns that a column of sentences has at least

Role = Literal[
    "plain",
    "title",
    "dim",
    "axis",
    "bar",
    "high",
    "free",
    "dead",
    "number",
    "own",
    "trouble",
    "away",
    "guest",
    "locked",
    "key",
    "line",
]
ROLES: tuple[Role, ...] = get_args(Role)


class Span(NamedTuple):
    """A piece of a line that looks alike."""

    text: str
    role: Role = "plain"


Line = tuple[Span, ...]


def cut(line: Iterable[Span], width: int) -> Line:
    """The line, not longer than that."""
    spans = []
    for span in line:
        text = span.text[: max(0, width)]
        width -= len(text)
        if text:
            spans.append(Span(text, span.role))
    return tuple(spans)


def text_of(line: Iterable[Span]) -> str:
    """Without looks."""
    return "".join(span.text for span in line)


def joined(cells: Iterable[Span], gap: str = "") -> list[Span]:
    """Cells beside each other; equal looks become one span, so that a thousand cells are few."""
    spans: list[Span] = []
    for cell in cells:
        text = cell.text + gap
        if spans and spans[-1].role == cell.role:
            spans[-1] = Span(spans[-1].text + text, cell.role)
        else:
            spans.append(Span(text, cell.role))
    return spans


def as_columns(rows: Sequence[tuple[str, str]], gap: str = "  ", width: int = 0) -> str:
    """Two columns of text.

    Args:
        rows: what stands in them.
        gap: between them.
        width: of both together: what is longer goes on in the right column; 0: as wide as they are.
    """
    widest = max((len(left) for left, _right in rows), default=0)
    if width:
        widest = min(widest, width // 3)
    lines = []
    for left, right in rows:
        room = max(_READABLE, width - widest - len(gap))
        first, *others = textwrap.wrap(right, room) if width and right else [right]
        if len(left) > widest:  # it has a line of its own
            lines.append(left)
            left = ""  # noqa: PLW2901 - the rest of the row stands below
        lines += [f"{left:<{widest}}{gap}{first}", *(" " * widest + gap + other for other in others)]
    return "\n".join(lines)
