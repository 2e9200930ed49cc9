"""What a program has drawn on its terminal, and what keys mean to it. Pure.

pyte knows the control sequences of a VT100 and of Linux's console (console_codes(4)); here its cells become
lines of ours, and keys of Textual's become what that terminal sends.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import NamedTuple

import pyte
from pyte.modes import DECAWM
from pyte.screens import Char

TERM = "linux"  # what the program is told; the one pyte is
_BRACKETED, _APPLICATION = 2004 << 5, 1 << 5  # private modes, as pyte keeps them: bracketed paste, DECCKM
# console_codes(4) and terminfo's entry "linux"
_KEYS = {
    "enter": "\r", "backspace": "\x7f", "tab": "\t", "shift+tab": "\x1b[Z", "escape": "\x1b",
    "home": "\x1b[1~", "insert": "\x1b[2~", "delete": "\x1b[3~", "end": "\x1b[4~", "pageup": "\x1b[5~",
    "pagedown": "\x1b[6~", "f1": "\x1b[[A", "f2": "\x1b[[B", "f3": "\x1b[[C", "f4": "\x1b[[D",
    "f5": "\x1b[[E", "f6": "\x1b[17~", "f7": "\x1b[18~", "f8": "\x1b[19~", "f9": "\x1b[20~",
    "f10": "\x1b[21~", "f11": "\x1b[23~", "f12": "\x1b[24~", "ctrl+space": "\0", "ctrl+@": "\0",
    "ctrl+backslash": "\x1c", "ctrl+circumflex_accent": "\x1e", "ctrl+underscore": "\x1f",
}  # fmt: skip
_ARROWS = {"up": "A", "down": "B", "right": "C", "left": "D"}


class Cells(NamedTuple):
    """Cells beside each other that look alike; colours as pyte names them."""

    text: str
    fg: str = "default"
    bg: str = "default"
    bold: bool = False
    italics: bool = False
    underscore: bool = False
    reverse: bool = False


class _Screen(pyte.Screen):
    """pyte's screen; the program's questions about it are answered."""

    def __init__(self, columns: int, lines: int, answer: Callable[[str], None]) -> None:
        super().__init__(columns, lines)
        self._answer = answer
        for name in {*pyte.Stream.csi.values()}:
            setattr(self, name, _tolerant(getattr(self, name)))

    def write_process_input(self, data: str) -> None:
        """What the program asked for: where the cursor is, and what terminal this is."""
        self._answer(data)


def _tolerant(method: Callable[..., None]) -> Callable[..., None]:
    """A terminal ignores a sequence with parameters that it cannot have; pyte raises TypeError there."""

    def called(*parameters: int, **private: bool) -> None:
        with contextlib.suppress(TypeError):
            method(*parameters, **private)

    return called


class Emulator:
    """A terminal on paper."""

    def __init__(
        self, columns: int, lines: int, answer: Callable[[bytes], None] = lambda _data: None
    ) -> None:
        """An empty one.

        Args:
            columns: how wide.
            lines: how high.
            answer: is given what the terminal itself says to the program.
        """
        self._screen = _Screen(max(1, columns), max(1, lines), lambda text: answer(text.encode()))
        self._screen.set_mode(DECAWM)
        self._stream = pyte.ByteStream(self._screen)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        return self._screen.columns, self._screen.lines

    @property
    def cursor(self) -> tuple[int, int] | None:
        """Column and line of the cursor, None while the program hides it."""
        found = self._screen.cursor
        return None if found.hidden else (min(found.x, self._screen.columns - 1), found.y)

    def feed(self, data: bytes) -> set[int]:
        """The program wrote something; the lines that look different now."""
        before = self._screen.cursor.y
        self._stream.feed(data)
        changed = {*self._screen.dirty, before, self._screen.cursor.y}
        self._screen.dirty.clear()
        return changed

    def resize(self, columns: int, lines: int) -> None:
        """The window has another size."""
        self._screen.resize(max(1, lines), max(1, columns))

    def line(self, y: int) -> list[Cells]:
        """One line of it."""
        if not 0 <= y < self._screen.lines:
            return []
        row = self._screen.buffer[y]
        cells = [row[x] for x in range(self._screen.columns)]
        groups = itertools.groupby(cells, _look)
        return [Cells("".join(char.data for char in group), *look) for look, group in groups]

    def text(self) -> str:
        """All that is to be read."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip("\n")

    def key(self, key: str, character: str | None) -> bytes:
        """What the terminal sends for a key; nothing for those it does not have."""
        if key in _ARROWS:
            return f"\x1b{'O' if _APPLICATION in self._screen.mode else '['}{_ARROWS[key]}".encode()
        if key in _KEYS:
            return _KEYS[key].encode()
        name = key.removeprefix("ctrl+")
        if name != key and len(name) == 1 and "a" <= name <= "z":
            return bytes([ord(name) & 0x1F])
        rest = key.removeprefix("alt+")
        if rest != key:
            inner = self.key(rest, character or (rest if len(rest) == 1 else None))
            return b"\x1b" + inner if inner else b""
        return character.encode() if character and character.isprintable() else b""

    def paste(self, text: str) -> bytes:
        """What it sends for a text that is pasted; the text cannot pretend to be typed."""
        lines = text.replace("\r\n", "\r").replace("\n", "\r")
        plain = "".join(one for one in lines if one in "\r\t" or one.isprintable())
        return f"\x1b[200~{plain}\x1b[201~".encode() if _BRACKETED in self._screen.mode else plain.encode()


def _look(char: Char) -> tuple[str, str, bool, bool, bool, bool]:
    return char.fg, char.bg, char.bold, char.italics, char.underscore, char.reverse
