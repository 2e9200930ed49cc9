"""A terminal as a part of a screen."""

from __future__ import annotations

from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from textual.events import Blur, Focus, Key, Paste, Resize
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from omtools.errors import OmError
from omtui.terminal.emulator import Cells, Emulator
from omtui.terminal.lines import Line

LEAVE = "ctrl+right_square_bracket"  # as telnet has it; all other keys are the program's
# pyte's names of the eight colours of ECMA-48 that rich calls otherwise
_COLOURS = {"brown": "yellow", "default": "default"}


@lru_cache(maxsize=512)
def _style(look: tuple[object, ...], colours: bool) -> Style:
    cells = Cells("", *look)  # type: ignore[arg-type]  # the very fields of one
    return Style(
        color=_colour(cells.fg) if colours else None,
        bgcolor=_colour(cells.bg) if colours else None,
        bold=cells.bold,
        italic=cells.italics,
        underline=cells.underscore,
        reverse=cells.reverse,
    )


def _colour(name: str) -> str:
    if len(name) == 6 and all(letter in "0123456789abcdef" for letter in name):
        return f"#{name}"
    if name.startswith("bright"):
        rest = name.removeprefix("bright")
        return f"bright_{_COLOURS.get(rest, rest)}"
    return _COLOURS.get(name, name)


class TerminalView(Widget, can_focus=True):
    """Shows what comes over a line, and types on it.

    Attributes:
        emulator: what is shown.
        over: nothing will come any more.
    """

    DEFAULT_CSS = "TerminalView { width: 1fr; height: 1fr; background: black; color: #d0d0d0; }"

    class Ended(Message):
        """The line has ended."""

    class Failed(Message):
        """There is no line to be had; with the sentence that says why."""

        def __init__(self, why: str) -> None:
            super().__init__()
            self.why = why

    def __init__(self, line: Line) -> None:
        super().__init__()
        self.emulator = Emulator(80, 24, line.write)
        self.over = False
        self._end = line
        self._begun = False

    def on_resize(self, event: Resize) -> None:
        """The first time the line begins: now the size is known."""
        size = (event.size.width, event.size.height)
        self.emulator.resize(*size)
        if self._begun:
            self._end.resize(size)
            self.refresh()
            return
        self._begun = True
        try:
            self._end.open(size, self._heard, self._ended)
        except OmError as error:
            self.over = True
            self.post_message(self.Failed(str(error)))

    async def on_unmount(self) -> None:
        """Hang up."""
        await self._end.close()

    def _heard(self, data: bytes) -> None:
        for y in self.emulator.feed(data):
            self.refresh(Region(0, y, self.size.width, 1))

    def _ended(self) -> None:
        self.over = True
        self.post_message(self.Ended())

    def render_line(self, y: int) -> Strip:
        """One line of the terminal."""
        colours = not self.app.no_color
        base = self.rich_style
        drawn = self.emulator.line(y)
        segments = [Segment(cells.text, base + _style(cells[1:], colours)) for cells in drawn if cells.text]
        strip = Strip(segments).adjust_cell_length(self.size.width, base)
        cursor = self.emulator.cursor
        if cursor is None or cursor[1] != y or not self.has_focus:
            return strip
        x = cursor[0]
        parts = [strip.crop(0, x), strip.crop(x, x + 1).apply_style(Style(reverse=True)), strip.crop(x + 1)]
        return Strip.join(parts)

    def on_focus(self, _event: Focus) -> None:
        """The cursor is seen."""
        self.refresh()

    def on_blur(self, _event: Blur) -> None:
        """It is not."""
        self.refresh()

    def on_key(self, event: Key) -> None:
        """Type it."""
        event.stop()
        event.prevent_default()
        self._end.write(self.emulator.key(event.key, event.character))

    def on_paste(self, event: Paste) -> None:
        """Type all of it."""
        event.stop()
        self._end.write(self.emulator.paste(event.text))
