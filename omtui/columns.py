"""Columns of lists: which fit, and how a row becomes a line. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from omtui.spans import Line, Role, Span, joined

_R = TypeVar("_R")


class Column(NamedTuple):
    """A column.

    Attributes:
        key: by which it is sorted.
        title: above it, not translated yet.
        width: in cells; 0: what is left.
        right: its text stands at the right.
        rank: the highest are left out first where there is no room.
        most: cells that a column with what is left takes, 0: all.
        least: cells that it keeps before others are left out.
    """

    key: str
    title: str
    width: int
    right: bool = False
    rank: int = 0
    most: int = 0
    least: int = 8


Cell = Callable[[_R, Column, int], Span]


def fitting(columns: Sequence[Column], width: int) -> list[tuple[Column, int]]:
    """The columns that there is room for, with their widths."""
    kept = list(columns)
    while len(kept) > 1 and _needed(kept) > width:
        kept.remove(max(kept, key=lambda column: column.rank))
    rest = max(0, width - sum(column.width for column in kept) - len(kept) + 1)
    # Those that want least choose first, so that others have what these leave.
    flexible = sorted((c for c in kept if not c.width), key=lambda column: column.most or width)
    shares: dict[str, int] = {}
    for index, column in enumerate(flexible):
        share = max(column.least, rest // (len(flexible) - index))
        shares[column.key] = min(column.most or rest, share, rest)
        rest -= shares[column.key]
    return [(column, column.width or shares[column.key]) for column in kept]


def _needed(columns: Sequence[Column]) -> int:
    return sum(column.width or column.least for column in columns) + len(columns) - 1


def put(text: str, width: int, right: bool = False) -> str:
    """The text in exactly that many characters."""
    if len(text) > width:
        return text[: max(0, width - 1)] + "…" if width > 1 else text[:width]
    return text.rjust(width) if right else text.ljust(width)


def row_line(row: _R, columns: Sequence[tuple[Column, int]], cell: Cell[_R]) -> Line:
    """A row as a line."""
    spans: list[Span] = []
    texts: list[str] = []  # of cells that look alike; blanks look like whatever is before them
    look: Role = "plain"
    for column, width in columns:
        text, role = cell(row, column, width)
        if len(text) != width:
            text = put(text, width, column.right)
        if role != look and not text.isspace():
            if texts:
                spans.append(Span("".join(texts), look))
                texts = []
            look = role
        texts += (text, " ")
    spans.append(Span("".join(texts[:-1]), look))
    return tuple(spans)


def head_line(
    columns: Sequence[tuple[Column, int]], titles: Callable[[str], str], key: str, backwards: bool
) -> Line:
    """The titles; the one by which the rows are sorted has an arrow."""
    spans: list[Span] = []
    for index, (column, width) in enumerate(columns):
        if index:
            spans.append(Span(" "))
        title = titles(column.title)
        if column.key == key:
            title = put(title, max(0, width - 1)).rstrip() + ("▼" if backwards else "▲")
        role: Role = "key" if column.key == key else "title"
        spans.append(Span(put(title, width, column.right), role))
    return tuple(joined(spans))


def column_at(columns: Sequence[tuple[Column, int]], x: int) -> tuple[Column, int] | None:
    """The column under a cell, and the cell's place in it."""
    left = 0
    for column, width in columns:
        if left <= x < left + width:
            return column, x - left
        left += width + 1
    return None
