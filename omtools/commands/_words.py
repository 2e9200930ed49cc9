"""Words for a terminal: what was probably meant, colours that obey NO_COLOR, tables, a screen drawn again."""

from __future__ import annotations

import os
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from omtools.errors import UsageError
from omtools.i18n import _

Colour = Literal["red", "green", "yellow", "grey"]
_SGR: dict[Colour, int] = {"red": 31, "green": 32, "yellow": 33, "grey": 90}  # ECMA-48 SGR parameters
_HOME_AND_CLEAR = "\x1b[H\x1b[J"
WATCH_SECONDS = 1.0


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question with the known word that is closest, with a space before it, "" if none is close."""
    from difflib import get_close_matches  # noqa: PLC0415 - only after a slip of the pen

    by_folded = {one.casefold(): one for one in known}
    close = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return " " + _("Did you mean `{word}`?").format(word=by_folded[close[0]]) if close else ""


def coloured() -> bool:
    """Whether stdout should have colours (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: Colour) -> str:
    """The text in that colour, if there are to be colours."""
    return f"\x1b[{_SGR[colour]}m{text}\x1b[0m" if coloured() else text


def terminal_columns() -> int:
    """How wide the terminal on stdout is, 0 if there is none."""
    return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0


def width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], left: frozenset[int], room: int = 0
) -> list[str]:
    """Lines of columns, two blanks apart.

    Args:
        titles: of the columns.
        rows: of plain text, one cell per title.
        left: numbers of the columns that stand on the left; the others stand on the right.
        room: columns of the terminal; what does not fit is left out from the right. 0: there is no end.
    """
    widths = [max(width(cell) for cell in column) for column in zip(titles, *rows, strict=True)]
    while room and len(widths) > 1 and sum(widths) + 2 * (len(widths) - 1) > room:
        widths.pop()
    lines = []
    for row in (titles, *rows):
        cells = [
            cell + " " * (widths[at] - width(cell)) if at in left else " " * (widths[at] - width(cell)) + cell
            for at, cell in enumerate(row[: len(widths)])
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def as_seconds(word: str) -> float:
    """The argument of --watch.

    Raises:
        UsageError: it is no number of seconds, or too small a one.
    """
    try:
        seconds = float(word)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86400:
        raise UsageError(detail=_("--watch needs seconds, 0.1 or more, not “{word}”.").format(word=word))
    return seconds


def watch(show: Callable[[], int], seconds: float | None) -> int:
    """Show something once, or again and again until Ctrl-C.

    Args:
        show: prints it; returns an exit status.
        seconds: between two times; None: only once.
    """
    if seconds is None:
        return show()
    while True:
        if sys.stdout.isatty():
            sys.stdout.write(_HOME_AND_CLEAR)
        show()
        sys.stdout.flush()
        time.sleep(seconds)
