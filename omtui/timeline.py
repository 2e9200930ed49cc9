"""The line by which one goes back in time: on every screen, while the past is shown."""

from __future__ import annotations

from textual.strip import Strip

from omtools.errors import OmError
from omtools.i18n import _
from omtui.moments import clock_of, length_of, load_per_cell, moment_at, timeline
from omtui.scrubbing import Scrubbing
from omtui.spans import Line, Span


class Timeline(Scrubbing, can_focus=False):
    """Two lines: the load of the time around the moment, and what moment it is."""

    DEFAULT_CSS = """
    Timeline { height: 2; background: $warning-muted; display: none; }
    """

    def __init__(self) -> None:
        super().__init__(id="timeline")
        self._lines: list[Line] = []
        self._window = (0, 1)

    def draw_again(self) -> None:
        """Show it, or not."""
        history = self.omtui.feed
        shown = history.past is not None
        if self.display != shown:
            self.display = shown
        if not shown:
            return
        width = self.size.width
        try:
            self._window = history.window()
            loads = load_per_cell(history.loads(width), self._window, width)
            line = timeline(loads, self._window, history.moment, history.marks(), width)
        except OmError as error:
            line = (Span(str(error), "trouble"),)
        lines = [line, self._words()]
        if lines != self._lines:
            self._lines = lines
            self.refresh()

    def _words(self) -> Line:
        app = self.omtui
        history = app.feed
        keys = (
            (app.key_named("app.now"), _("the present")),
            (app.key_named("app.pause"), history.about()),
            (f"{app.key_named('app.back')} {app.key_named('app.forth')}", _("picture")),
            (f"{app.key_named('app.skip-back')} {app.key_named('app.skip-forth')}", _("further")),
            (f"{app.key_named('app.zoom-in')} {app.key_named('app.zoom-out')}", length_of(history.span)),
        )
        spans = [Span(f" {_('PAST')}  {clock_of(history.moment)}  ", "key")]
        for key, what in keys:
            spans += [Span(key, "key"), Span(f" {what}  ")]
        return tuple(spans)

    def render_line(self, y: int) -> Strip:
        """One of them."""
        return self.strip_of(self._lines[y] if y < len(self._lines) else (), self.size.width)

    def on_resize(self) -> None:
        """More time fits, or less."""
        self.draw_again()

    def take_hold(self, x: int, y: int) -> bool:  # noqa: ARG002 - the place says all
        """The first line is the time's."""
        return y == 0

    def moment_under(self, x: int) -> int:
        """See `Scrubbing`."""
        return moment_at(max(0, min(x, self.size.width - 1)), self._window, self.size.width)
