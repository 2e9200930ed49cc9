"""How far a command is, for whoever sits at the terminal: one line on stderr, overwritten, then gone."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

_SILENT = 0.4  # seconds; what is done by then needs no line
_CLEAR = "\r\x1b[K"  # to the line's begin; erase to its end (ECMA-48 EL)


class Progress:
    """A counter on stderr; nothing at all where stderr is no terminal. Use it with ``with``."""

    def __init__(self, what: str, total: int = 0) -> None:
        """`what` follows the figures, as in "3 of 8 processes moved"; a `total` of 0 is not known."""
        self._what = what
        self._total = total
        self._done = 0
        self._shown = False
        self._begun = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        """Nothing is shown yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave no line behind."""
        if self._shown:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()

    def step(self, done: int | None = None, total: int | None = None) -> None:
        """One more, or so many of so many."""
        self._done = self._done + 1 if done is None else done
        self._total = self._total if total is None else total
        if not self._terminal or (not self._shown and time.monotonic() - self._begun < _SILENT):
            return
        figures = f"{self._done}/{self._total}" if self._total else str(self._done)
        line = f"{figures} {self._what}"
        width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        sys.stderr.write(_CLEAR + line[: max(width - 1, 1)])
        sys.stderr.flush()
        self._shown = True
