"""mosmon on the screen."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.events import MouseScrollDown, MouseScrollUp, Resize
from textual.geometry import Region
from textual.strip import Strip

from omtools.i18n import N_, _
from omtui.dialogs import Show
from omtui.feed import Feed
from omtui.host import Host
from omtui.mosmon.drawing import Picture, draw, first_after
from omtui.mosmon.settings import HELP, Settings, pressed
from omtui.paint import Canvas
from omtui.spans import as_columns

_MORE_HELP = (
    ("← →", N_("one node to the left, to the right")),
    ("PgUp PgDn", N_("a screen of nodes to the left, to the right")),
    ("Home End", N_("the first nodes, the last ones")),
    ("Enter", N_("draw everything anew")),
    ("h H ?", N_("this help")),
    ("q Q", N_("end")),
)


def help_text() -> str:
    """All keys and what they do."""
    return as_columns([(key, _(what)) for key, what in (*HELP, *_MORE_HELP)])


class Bars(Canvas):
    """The picture."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"press('{key}')", what, id=f"mosmon.{key}") for key, what in HELP),
        Binding("left", "scroll_nodes(-1)", id="mosmon.left"),
        Binding("right", "scroll_nodes(1)", id="mosmon.right"),
        Binding("pageup", "scroll_pages(-1)", id="mosmon.page-left"),
        Binding("pagedown", "scroll_pages(1)", id="mosmon.page-right"),
        Binding("home", "scroll_pages(-65536)", id="mosmon.first"),
        Binding("end", "scroll_pages(65536)", id="mosmon.last"),
    ]

    def __init__(self, feed: Feed, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.picture = Picture([], [], "auto")
        self._feed = feed

    def draw_again(self) -> None:
        """Draw; only the lines that have changed go to the terminal."""
        before, state = self.picture.lines, self._feed.state
        width, height = self.size
        views = [node.view for node in state.nodes.values()]
        self.picture = draw(views, self.settings, width, height, own=state.own, trouble=state.trouble)
        for row, line in enumerate(self.picture.lines):
            if row >= len(before) or before[row] != line:
                self.refresh(Region(0, row, width, 1))

    def render_line(self, y: int) -> Strip:
        """One line of the picture."""
        line = self.picture.lines[y] if y < len(self.picture.lines) else ()
        return self.strip_of(line, self.size.width)

    def on_resize(self, _event: Resize) -> None:
        """Another size, another picture."""
        self.draw_again()

    def action_press(self, key: str) -> None:
        """One of mosmon's letters."""
        self.settings = pressed(self.settings, key)
        self.draw_again()

    def action_scroll_nodes(self, steps: int) -> None:
        """To other nodes."""
        views = [node.view for node in self._feed.state.nodes.values()]
        first = first_after(views, self.settings, self.picture.shown, steps)
        self.settings = self.settings.beginning(first)
        self.draw_again()

    def action_scroll_pages(self, steps: int) -> None:
        """By as many as are on the screen."""
        self.action_scroll_nodes(steps * max(1, len(self.picture.shown)))

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """The wheel scrolls through the nodes."""
        event.stop()
        self.action_scroll_nodes(1)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """The wheel scrolls through the nodes."""
        event.stop()
        self.action_scroll_nodes(-1)


class Monitor(Host):
    """The whole program."""

    TITLE = "mosmon"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,Q", "leave", id="mosmon.quit"),
        Binding("h,H,question_mark,f1", "explain", id="mosmon.help"),
        Binding("enter", "redraw", id="mosmon.redraw"),
    ]

    def __init__(self, feed: Feed, settings: Settings, keys: Mapping[str, str] | None = None) -> None:
        """Nothing happens yet.

        Args:
            feed: the nodes.
            settings: what of them to show at first.
            keys: the user's own.
        """
        super().__init__(feed, keys)
        self._settings = settings

    def compose(self) -> ComposeResult:
        """Nothing but the picture."""
        yield Bars(self.feed, self._settings)

    @property
    def bars(self) -> Bars:
        """The picture."""
        return self.screen_stack[0].query_one(Bars)

    def hear(self) -> None:
        """There is news."""
        with contextlib.suppress(NoMatches):  # news may come while the screen is being taken down
            self.bars.draw_again()

    def action_explain(self) -> None:
        """The keys."""
        self.push_screen(Show("mosmon", help_text()))

    def action_redraw(self) -> None:
        """Something has written over the picture."""
        self.feed.nudge()
        self.refresh(repaint=True, layout=True)
