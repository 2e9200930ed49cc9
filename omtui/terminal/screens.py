"""A screen with a terminal; the console of a machine."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from omtools.i18n import N_, _
from omtui.terminal.lines import Line
from omtui.terminal.view import LEAVE, TerminalView


class TerminalScreen(Screen[str]):
    """A terminal that has all keys but one; its result says why it ended, "" if it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(LEAVE, "leave_terminal", N_("back"), priority=True, id="terminal.leave")
    ]
    DEFAULT_CSS = """
    TerminalScreen { layout: vertical; }
    TerminalScreen > #head { height: 1; background: $panel; }
    TerminalScreen > Horizontal { height: 1fr; }
    """

    def __init__(self, title: str, line: Line, ending: str) -> None:
        """Nothing happens yet.

        Args:
            title: what it is.
            line: to the program or machine.
            ending: what is said when the line ends by itself.
        """
        super().__init__(id="terminal")
        self._title = title
        self._line = line
        self._ending = ending

    def compose(self) -> ComposeResult:
        """A line that names it, and the terminal."""
        yield Static(Content(f" {self._title}   {_('Ctrl-] goes back')}"), id="head")
        with Horizontal():
            yield from self.beside()
            yield TerminalView(self._line)

    def beside(self) -> ComposeResult:
        """What else there is."""
        yield from ()

    def on_mount(self) -> None:
        """The keys are the terminal's."""
        self.query_one(TerminalView).focus()

    def action_leave_terminal(self) -> None:
        """Back to the cluster; the line is hung up."""
        self.dismiss("")

    def on_terminal_view_ended(self, _event: TerminalView.Ended) -> None:
        """By itself."""
        self.dismiss(self._ending)

    def on_terminal_view_failed(self, event: TerminalView.Failed) -> None:
        """It never began."""
        self.dismiss(event.why)


def console(word: str, *, watch: bool) -> TerminalScreen:
    """The console of a machine of the lab. Raises OmError.

    Args:
        word: its name or number; "" is the first.
        watch: what is typed goes nowhere.
    """
    from omtools.lab.metal.lab import MetalLab  # noqa: PLC0415 - machines are needed by few
    from omtui.terminal.console import Console  # noqa: PLC0415

    lab = MetalLab.find()
    name = str(lab.node(word)["name"] if word else lab.nodes()[0]["name"])
    title = _("the console of {node}").format(node=name)
    if watch:
        title += "  " + _("READ-ONLY")
    ended = _("The console of {node} has ended.").format(node=name)
    return TerminalScreen(title, Console(lab, name, watch=watch), ended)
