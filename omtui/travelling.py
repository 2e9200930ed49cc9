"""Keys and commands by which the whole application goes back in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from textual.binding import Binding, BindingType

from omtools.errors import OmError
from omtools.i18n import N_
from omtui.history import History
from omtui.host import Host


class Travelling(Host):
    """An application whose feed has a past."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("comma", "travel(-1)", N_("the picture before"), show=False, id="app.back"),
        Binding("full_stop", "travel(1)", N_("the next picture"), show=False, id="app.forth"),
        Binding("left_parenthesis", "skip(-1)", N_("further back in time"), show=False, id="app.skip-back"),
        Binding("right_parenthesis", "skip(1)", N_("further on in time"), show=False, id="app.skip-forth"),
        Binding(
            "left_curly_bracket", "mark(-1)", N_("the checkpoint before"), show=False, id="app.mark-back"
        ),
        Binding("right_curly_bracket", "mark(1)", N_("the next checkpoint"), show=False, id="app.mark-forth"),
        Binding("at", "moment", N_("a moment of the past"), show=False, id="app.moment"),
        Binding("z", "zoom(-1)", N_("less time, closer"), show=False, id="app.zoom-in"),
        Binding("Z", "zoom(1)", N_("more time"), show=False, id="app.zoom-out"),
        Binding("asterisk", "hurry", N_("play the past faster"), show=False, id="app.hurry"),
        Binding("0", "now", N_("back to the present"), show=False, id="app.now"),
    ]

    feed: History

    def __init__(self, feed: History, keys: Mapping[str, str] | None = None) -> None:
        super().__init__(feed, keys)

    def key_of(self, binding: Binding) -> str:
        """The key for people, the user's own if there is one."""
        raise NotImplementedError

    def say(self, command: str = "", sentence: str = "", bad: bool = False) -> None:
        """Show a sentence."""
        raise NotImplementedError

    def key_named(self, name: str) -> str:
        """The key of one of the application's actions, for people."""
        known = (b for owner in type(self).__mro__ for b in owner.__dict__.get("BINDINGS", ()))
        return self.key_of(next(b for b in known if isinstance(b, Binding) and b.id == name))

    def travel(self, how: Callable[[], None]) -> None:
        """Go through time; where there is nothing, say so."""
        try:
            how()
        except OmError as error:
            self.say("", str(error), True)

    def action_travel(self, steps: int) -> None:
        """To the picture before, or the next one."""
        self.travel(lambda: self.feed.step(steps))

    def action_skip(self, steps: int) -> None:
        """By a cell of the timeline."""
        self.travel(lambda: self.feed.skip(steps, self.size.width))

    def action_mark(self, steps: int) -> None:
        """To another checkpoint."""
        self.travel(lambda: self.feed.skip_to_mark(steps))

    def action_zoom(self, steps: int) -> None:
        """More time on the timeline and in plots, or less."""
        self.feed.zoom(steps)

    def action_hurry(self) -> None:
        """Play faster, and after the fastest slowly again."""
        self.feed.hurry()

    def action_now(self) -> None:
        """Back."""
        self.travel(self.feed.now)
