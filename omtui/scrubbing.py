"""Going back in time by the mouse: a click or a drag shows that moment, the wheel more time or less."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.events import MouseDown, MouseMove, MouseScrollDown, MouseScrollUp, MouseUp

from omtui.paint import Canvas

if TYPE_CHECKING:
    from omtui.app import Omtui


class Scrubbing(Canvas):
    """Subclasses say where their time is."""

    _held = False

    @property
    def omtui(self) -> Omtui:
        """The application."""
        return cast("Omtui", self.app)

    def moment_under(self, x: int) -> int:
        """The moment at a cell, which may lie outside; milliseconds since the epoch."""
        raise NotImplementedError

    def take_hold(self, x: int, y: int) -> bool:  # noqa: ARG002 - subclasses need them
        """The button went down there; whether that is a place of the time."""
        return True

    def on_mouse_down(self, event: MouseDown) -> None:
        """Go there."""
        if self.take_hold(int(event.x), int(event.y)):
            self._held = True
            self.capture_mouse()
            self._go(int(event.x))

    def on_mouse_move(self, event: MouseMove) -> None:
        """And further, while the button is held."""
        if self._held:
            self._go(int(event.x))

    def on_mouse_up(self, _event: MouseUp) -> None:
        """Stay there."""
        self.release_mouse()
        self._held = False

    def on_mouse_scroll_up(self, _event: MouseScrollUp) -> None:
        """Look closer."""
        self.omtui.feed.zoom(-1)

    def on_mouse_scroll_down(self, _event: MouseScrollDown) -> None:
        """See more."""
        self.omtui.feed.zoom(1)

    def _go(self, x: int) -> None:
        at = self.moment_under(x)
        self.omtui.travel(lambda: self.omtui.feed.scrub(at))
