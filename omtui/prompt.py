"""The line in which a filter or a command is typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType
from textual.suggester import SuggestFromList
from textual.widgets import Input

from omtools.i18n import _
from omtui.commandline import suggestions

if TYPE_CHECKING:
    from omtui.page import Page

_REMEMBERED = 100  # command lines


class Prompt(Input):
    """The line for a filter ("/") or a command (":").

    Attributes:
        mode: which of them, "" while nothing is typed.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False),
        Binding("tab", "complete", show=False),
        Binding("up", "recall(-1)", show=False),
        Binding("down", "recall(1)", show=False),
    ]

    def __init__(self, typed: list[str]) -> None:
        """Not seen yet.

        Args:
            typed: commands so far, the latest last; new ones are added.
        """
        super().__init__(compact=True, id="prompt")
        self.mode = ""
        self._typed = typed
        self._recalled = 0  # how far back

    def ask(self, mode: str, given: str = "") -> None:
        """Let something be typed."""
        self.mode = mode
        self._recalled = 0
        self.suggester = SuggestFromList(suggestions()) if mode == ":" else None
        self.placeholder = (
            _("a command; Tab completes, ↑ recalls, Esc gives up")
            if mode == ":"
            else _("what rows must have in them")
        )
        self.select_on_focus = mode != ":"  # the beginning of a command is for going on with
        self.value = given
        self.cursor_position = len(given)
        self.display = True
        # At once, and not with the next message as `focus` does: keys that follow quickly are for this line.
        self.screen.set_focus(self)

    def leave(self, value: str) -> str:
        """Nothing more is typed; returns for what it was."""
        mode, self.mode = self.mode, ""
        self.display = False
        if mode == ":" and value and value not in self._typed[-1:]:
            self._typed.append(value)
            del self._typed[:-_REMEMBERED]
        return mode

    def action_leave(self) -> None:
        """Escape: as if nothing had been typed."""
        cast("Page", self.screen).leave_prompt("")

    def action_complete(self) -> None:
        """Take what is suggested, also if it is not seen yet."""
        found = [line for line in suggestions() if line.startswith(self.value)] if self.mode == ":" else []
        if found and self.value:
            self.value = found[0]
        self.cursor_position = len(self.value)

    def action_recall(self, steps: int) -> None:
        """An earlier command, or a later one."""
        back = self._recalled - steps
        if self.mode == ":" and 0 <= back <= len(self._typed):
            self._recalled = back
            self.value = self._typed[-back] if back else ""
            self.cursor_position = len(self.value)
