"""How far a command is, for whoever sits at the terminal: one line on stderr, overwritten, then gone."""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType

_SILENT = 0.4  # seconds; what is done by then needs no line
_SECOND = 1.0
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
        _draw(f"{figures} {self._what}")
        self._shown = True


class Waiting:
    """A line on stderr with the seconds that one thing has taken, from the first on. Use it with ``with``."""

    def __init__(self, what: str) -> None:
        """`what` is what is waited for."""
        self._what = what
        self._begun = time.monotonic()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Waiting:
        """A thread draws: whoever waits does nothing else."""
        if sys.stderr.isatty():
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave no line behind."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        shown = False
        while not self._over.wait(_SECOND):
            _draw(f"{self._what} ({time.monotonic() - self._begun:.0f} s)")
            shown = True
        if shown:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()


def _draw(line: str) -> None:
    width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
    sys.stderr.write(_CLEAR + line[: max(width - 1, 1)])
    sys.stderr.flush()
