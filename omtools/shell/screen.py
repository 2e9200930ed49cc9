"""Writing to the learner's terminal, whatever it can do."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator

from omtools.shell.markdown import Style, render

_ALTERNATE = tuple(f"\x1b[?{n}".encode() for n in (1049, 1047, 47))


def has_unicode() -> bool:
    """Whether the locale has Unicode; Python's own stream may be UTF-8 where the terminal is not."""
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        if value := os.environ.get(name):
            return "utf" in value.casefold()
    return False


class Screen:
    """Standard output.

    Attributes:
        colour: use colours.
        plain: for screen readers.
    """

    def __init__(self, *, colour: bool | None = None, plain: bool = False) -> None:
        self.plain = plain
        asked_not = "NO_COLOR" in os.environ or os.environ.get("TERM", "dumb") == "dumb"
        self.colour = (sys.stdout.isatty() and not asked_not and not plain) if colour is None else colour
        self._unicode = has_unicode()
        self._raw = False
        self._alternate = False
        self._at_start = True
        self._held: list[str] = []

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns: the terminal's own word goes before COLUMNS, which may be old."""
        try:
            found = os.get_terminal_size(sys.stdout.fileno())
        except (OSError, ValueError):
            found = shutil.get_terminal_size((80, 24))
        if not found.lines or not found.columns:
            found = shutil.get_terminal_size((80, 24))
        return found.lines, found.columns

    @property
    def style(self) -> Style:
        """How to show texts now."""
        return Style(min(self.size[1], 100), self.colour, self._unicode, self.plain)

    def show(self, markdown: str) -> None:
        """Show a text of a lesson."""
        self.write(render(markdown, self.style))

    def say(self, text: str, code: str = "") -> None:
        """Show a line, in a colour if there are any."""
        shown = self.style.letters(text)
        self.write(f"{self.style.paint(shown, code) if code else shown}\n")

    def write(self, text: str) -> None:
        """Write lines of ours; while a full-screen program has the terminal they wait."""
        if self._alternate:
            self._held.append(text)
            return
        if not self._at_start:
            text = f"\n{text}"
        if self._raw:
            text = text.replace("\n", "\r\n")
        self._put(text.encode(errors="replace"))

    def pass_on(self, data: bytes) -> None:
        """Write what a program on a node printed, as it is."""
        last = max((data.rfind(sign), sign) for sign in _ALTERNATE)
        if last[0] >= 0:
            self._alternate = data[last[0] + len(last[1]) :].startswith(b"h")
        self._put(data)
        if not self._alternate and self._held:
            held, self._held = self._held, []
            for text in held:
                self.write(text)

    def _put(self, data: bytes) -> None:
        if data:
            self._at_start = data.endswith((b"\n", b"\r"))
        sys.stdout.flush()
        with contextlib.suppress(BlockingIOError):
            while data:
                data = data[os.write(sys.stdout.fileno(), data) :]

    def fresh_line(self) -> None:
        """Begin a new line unless one has just begun."""
        if not self._at_start:
            self._put(b"\r\n" if self._raw else b"\n")

    @contextlib.contextmanager
    def raw(self) -> Iterator[None]:
        """The terminal is in raw mode meanwhile."""
        self._raw = True
        try:
            yield
        finally:
            self._raw = self._alternate = False
            held, self._held = self._held, []
            for text in held:
                self.write(text)
