"""A keeper's log: one line per event, each with its context."""

from __future__ import annotations

import sys
import time


class Log:
    """Writes to standard error, which the template has opened as the keepers' log."""

    def __init__(self, context: str, debug: bool) -> None:
        self._context = context
        self._debug = debug

    def _line(self, level: str, message: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        sys.stderr.write(f"{stamp} {level} {self._context} {message}\n")
        sys.stderr.flush()

    def info(self, message: str) -> None:
        """Something that is worth a line."""
        self._line("info", message)

    def warning(self, message: str) -> None:
        """Something that should not be."""
        self._line("warning", message)

    def debug(self, message: str) -> None:
        """Something that only helps to find a fault."""
        if self._debug:
            self._line("debug", message)
