"""Asking for lines without a line editor: from a pipe, a dumb terminal, or for a screen reader."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Watched:
    """A descriptor that is looked at while the learner thinks.

    Attributes:
        fd: becomes readable when there is news.
        drain: reads what is there without writing to the screen; returns what then writes it, or None.
    """

    fd: int
    drain: Callable[[], Callable[[], None] | None]


class Reader(Protocol):
    """Where lines come from."""

    def ask(self, prompt: str, watched: Sequence[Watched]) -> str:
        """Ask for a line; EOFError at the end, KeyboardInterrupt for Ctrl-C."""

    def stop(self, line: str) -> None:
        """End an `ask` that stands, as if the line had been typed."""


class PlainReader:
    """Lines as the terminal's own line discipline, or a pipe, delivers them."""

    def __init__(self) -> None:
        self._buffer = b""
        self._stopped = ""

    def ask(self, prompt: str, watched: Sequence[Watched]) -> str:
        """Ask for a line."""
        fd, here = sys.stdin.fileno(), {one.fd: one for one in watched}
        self._prompt(prompt)
        while b"\n" not in self._buffer:
            ready, _w, _x = select.select([fd, *here], [], [])
            for found in ready:
                if found in here:
                    self._news(here, found, prompt)
            if self._stopped:
                line, self._stopped = self._stopped, ""
                return line
            if fd in ready:
                data = os.read(fd, 65536)
                if not data and not self._buffer:
                    raise EOFError
                self._buffer += data or b"\n"
        text, _newline, self._buffer = self._buffer.partition(b"\n")
        return text.decode(errors="surrogateescape")

    def _prompt(self, prompt: str) -> None:
        if sys.stdin.isatty():
            sys.stdout.write(prompt)
            sys.stdout.flush()

    def _news(self, here: dict[int, Watched], fd: int, prompt: str) -> None:
        try:
            write = here[fd].drain()
        except OSError:
            del here[fd]
            return
        if write is not None:
            if sys.stdin.isatty():
                sys.stdout.write("\n")
                sys.stdout.flush()
            write()
            self._prompt(prompt)

    def stop(self, line: str) -> None:
        """End an `ask` that stands."""
        self._stopped = line
