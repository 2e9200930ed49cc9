"""A list with columns that shows ten thousand rows as fast as ten: only what is on the screen is drawn."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar, Generic, TypeVar

from textual.binding import Binding, BindingType
from textual.events import Blur, Focus, MouseDown, MouseMove, MouseUp, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from omtools.i18n import _
from omtui.columns import Cell, Column, column_at, fitting, head_line, row_line
from omtui.paint import Canvas
from omtui.spans import Line, Span

R = TypeVar("R")
_READABLE = 20  # columns that a sentence is put into at least


class Sheet(Canvas, Generic[R]):
    """Rows under a head line, with a cursor and marks.

    Attributes:
        rows: what is shown, in order.
        cursor: index of the row it stands on.
        marked: identities of marked rows.
        columns: those that fit, with their widths.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False, id="list.up"),
        Binding("down,j", "move(1)", show=False, id="list.down"),
        Binding("pageup,ctrl+b", "page(-1)", show=False, id="list.page-up"),
        Binding("pagedown,ctrl+f", "page(1)", show=False, id="list.page-down"),
        Binding("home,g", "move(-1000000000)", show=False, id="list.first"),
        Binding("end,G", "move(1000000000)", show=False, id="list.last"),
        Binding("enter", "select", show=False, id="list.open"),
        Binding("space", "mark", show=False, id="list.mark"),
    ]

    class Moved(Message):
        """The cursor stands on another row."""

    class Selected(Message):
        """Enter, or a double click."""

    class HeadClicked(Message):
        """A title was clicked."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    class CellClicked(Message):
        """A cell of the row under the cursor was clicked, or dragged along.

        Attributes:
            key: of the column.
            place: the cell's within the column.
            width: the column's.
        """

        def __init__(self, key: str, place: int, width: int) -> None:
            super().__init__()
            self.key = key
            self.place = place
            self.width = width

    class Dropped(Message):
        """A row was dragged to another place of the screen."""

        def __init__(self, x: int, y: int) -> None:
            super().__init__()
            self.x = x
            self.y = y

    def __init__(
        self,
        columns: Sequence[Column],
        cell: Cell[R],
        identify: Callable[[R], Hashable],
        id: str | None = None,  # noqa: A002 - Textual's own name for it
        empty: str = "",
    ) -> None:
        """No rows yet.

        Args:
            columns: all there may be.
            cell: tells what stands in a cell.
            identify: what stays the same of a row from one picture to the next.
            id: for Textual.
            empty: what stands there while there is no row, not translated yet.
        """
        super().__init__(id=id)
        self._empty = empty
        self.rows: Sequence[R] = []
        self.cursor = 0
        self.marked: set[Hashable] = set()
        self.columns: list[tuple[Column, int]] = []
        self.sort_key, self.backwards = "", False
        self._all_columns = columns
        self._cell = cell
        self._identify = identify
        self._drawn: list[tuple[Line, bool, bool]] = []
        self._lines: dict[int, Line] = {}  # of the rows that are on the screen
        self._fitted = -1  # the width that `columns` fit
        self._held: tuple[int, int] | None = None
        self._tall = 0
        self._dragging = False

    @property
    def current(self) -> R | None:
        """The row under the cursor."""
        return self.rows[self.cursor] if 0 <= self.cursor < len(self.rows) else None

    @property
    def chosen(self) -> list[R]:
        """The marked rows, else the one under the cursor."""
        marked = [row for row in self.rows if self._identify(row) in self.marked] if self.marked else []
        if marked:
            return marked
        return [] if self.current is None else [self.current]

    def show(self, rows: Sequence[R]) -> None:
        """Show other rows; the cursor stays on the one it is on."""
        before = self.current
        self.rows = rows
        if before is not None:
            self._stay_on(self._identify(before))
        self._be_as_high_as(Size(0, len(rows) + 1))
        self.draw_again()

    def _be_as_high_as(self, size: Size) -> None:
        """For another size Textual lays the whole screen out anew: not where a scroll bar stays."""
        if self.show_vertical_scrollbar and size.height > self.container_size.height:
            self.set_reactive(ScrollView.virtual_size, size)
            self.vertical_scrollbar.window_virtual_size = size.height
            self.scroll_y = min(self.scroll_y, self.max_scroll_y)
        elif self.virtual_size != size:
            self.virtual_size = size

    def _stay_on(self, identity: Hashable) -> None:
        if self.current is None or self._identify(self.current) != identity:
            where = next((i for i, row in enumerate(self.rows) if self._identify(row) == identity), None)
            self.cursor = max(0, min(self.cursor, len(self.rows) - 1)) if where is None else where

    def go_to(self, identity: Hashable) -> bool:
        """Put the cursor on that row, if there is one."""
        for index, row in enumerate(self.rows):
            if self._identify(row) == identity:
                self._put_cursor(index)
                return True
        return False

    # ---------------------------------------------------------------------------------- drawing

    def draw_again(self, same: bool = False) -> None:
        """Draw what is on the screen; only lines that have changed go to the terminal.

        Args:
            same: only the place has changed, no row has.
        """
        width, height = self.scrollable_content_region.size
        if not same or width != self._fitted:
            self._lines.clear()
            self._fitted = width
            self.columns = fitting(self._all_columns, width)
        known, self._lines = self._lines, {}
        top = round(self.scroll_y)
        lines = [(head_line(self.columns, _, self.sort_key, self.backwards), False, False)]
        for index in range(top, min(top + height - 1, len(self.rows))):
            row = self.rows[index]
            marked = bool(self.marked) and self._identify(row) in self.marked
            line = self._lines[index] = known.get(index) or row_line(row, self.columns, self._cell)
            lines.append((line, index == self.cursor, marked))
        if not self.rows and self._empty:
            said = textwrap.wrap(_(self._empty), max(_READABLE, width))
            lines += [((Span(line, "dim"),), False, False) for line in said]
        before, self._drawn = self._drawn, lines
        for y in range(max(len(lines), len(before))):
            if y >= len(before) or y >= len(lines) or before[y] != lines[y]:
                self.refresh(Region(0, y, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        """One line of what was drawn."""
        width = self.scrollable_content_region.width
        if y >= len(self._drawn):
            return Strip.blank(width, self.style_of("plain"))
        line, current, marked = self._drawn[y]
        if current:
            look = "om--cursor" if self.has_focus else "om--blurred"
            over = self.get_component_rich_style(look, partial=True)
            return self.strip_of(line, width, over)
        return self.strip_of(
            line, width, self.get_component_rich_style("om--marked", partial=True) if marked else None
        )

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Other rows are on the screen."""
        super().watch_scroll_y(old_value, new_value)
        if self.is_mounted:
            self.draw_again(same=True)

    def on_resize(self, _event: Resize) -> None:
        """More rows fit, or fewer; a cursor that was in sight stays there."""
        before, self._tall = self._tall, max(1, self.scrollable_content_region.height - 1)
        seen = 0 <= self.cursor - round(self.scroll_y) < before
        self.draw_again()
        if seen:
            self._put_cursor(self.cursor)

    def on_focus(self, _event: Focus) -> None:
        """The cursor looks different."""
        self.refresh()

    def on_blur(self, _event: Blur) -> None:
        """The cursor looks different."""
        self.refresh()

    # ----------------------------------------------------------------------------------- cursor

    def _put_cursor(self, index: int) -> None:
        index = max(0, min(index, len(self.rows) - 1))
        moved = index != self.cursor
        self.cursor = index
        height, top = max(1, self.scrollable_content_region.height - 1), round(self.scroll_y)
        if index < top:
            self.scroll_to(y=index, animate=False, force=True)
        elif index >= top + height:
            self.scroll_to(y=index - height + 1, animate=False, force=True)
        self.draw_again(same=True)
        if moved:
            self.post_message(self.Moved())

    def action_move(self, steps: int) -> None:
        """Up or down."""
        self._put_cursor(self.cursor + steps)

    def action_page(self, steps: int) -> None:
        """By a screen."""
        self._put_cursor(self.cursor + steps * max(1, self.scrollable_content_region.height - 2))

    def action_select(self) -> None:
        """Open the row."""
        if self.current is not None:
            self.post_message(self.Selected())

    def action_mark(self) -> None:
        """Mark the row, or not any more, and go on to the next."""
        if self.current is not None:
            self.marked ^= {self._identify(self.current)}
            self._put_cursor(self.cursor + 1)

    def unmark(self) -> None:
        """No row is marked any more."""
        self.marked.clear()
        self.draw_again()

    # ------------------------------------------------------------------------------------ mouse

    def row_at(self, screen_x: int, screen_y: int) -> R | None:
        """The row at a place of the screen."""
        region = self.content_region
        if not region.contains(screen_x, screen_y):
            return None
        index = screen_y - region.y - 1 + round(self.scroll_y)
        return self.rows[index] if screen_y > region.y and index < len(self.rows) else None

    def on_mouse_down(self, event: MouseDown) -> None:
        """Take hold of a row."""
        x, y = int(event.x), int(event.y)
        if y == 0:
            found = column_at(self.columns, x)
            if found is not None:
                self.post_message(self.HeadClicked(found[0].key))
            return
        index = y - 1 + round(self.scroll_y)
        if index < len(self.rows):
            self._put_cursor(index)
            self._held = (int(event.screen_x), int(event.screen_y))
            self._dragging = False
            self.capture_mouse()
            self._click_cell(x)

    def _click_cell(self, x: int) -> None:
        found = column_at(self.columns, x)
        if found is not None:
            column, place = found
            self.post_message(self.CellClicked(column.key, place, dict(self.columns)[column]))

    def on_mouse_move(self, event: MouseMove) -> None:
        """It moves along."""
        if self._held is None:
            return
        x, y = int(event.screen_x), int(event.screen_y)
        if y == self._held[1] and self.region.contains(x, y):
            self._click_cell(int(event.x))
        else:
            self._dragging = True

    def on_mouse_up(self, event: MouseUp) -> None:
        """And lies where it was let go."""
        self.release_mouse()
        held, self._held = self._held, None
        if held is not None and self._dragging:
            self.post_message(self.Dropped(int(event.screen_x), int(event.screen_y)))

    def on_click(self, event: object) -> None:
        """A double click opens."""
        if getattr(event, "chain", 1) == 2 and int(getattr(event, "y", 0)) > 0:
            self.action_select()
