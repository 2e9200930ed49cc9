"""Small windows in front of a screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.events import Click, Key
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from omtools.i18n import _
from omtui.clickable import clickable
from omtui.cluster.rows import CHOICE_COLUMNS, cell_of
from omtui.model import Node
from omtui.sheet import Sheet


def reading_width(width: int) -> int:
    """Columns that a text in a small window has, of so many: all but frame, margin and scroll bar."""
    return width * 96 // 100 - 6


_CSS = """
    {name} {{ align: center middle; background: $background 50%; }}
    {name} > VerticalScroll {{
        width: auto; min-width: 30; max-width: 96%; height: auto; max-height: 96%;
        border: round $primary; padding: 0 1; background: $surface;
    }}
    {name} Static {{ width: auto; max-width: 100%; }}
"""


class Show(ModalScreen[None]):
    """Something to read, with the keys of a pager."""

    DEFAULT_CSS = _CSS.format(name="Show")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,Q,enter,question_mark,f1", "close", show=False),
        Binding("j", "scroll(1)", show=False),
        Binding("k", "scroll(-1)", show=False),
        Binding("space,ctrl+f", "scroll(0, 1)", show=False),
        Binding("ctrl+b", "scroll(0, -1)", show=False),
        Binding("g", "scroll(-1000000)", show=False),
        Binding("G", "scroll(1000000)", show=False),
    ]

    def __init__(self, title: str, text: str | Content) -> None:
        super().__init__()
        self._title = title
        self._text = Content(text) if isinstance(text, str) else text

    def compose(self) -> ComposeResult:
        """A frame with the text in it."""
        with VerticalScroll() as frame:
            frame.border_title = Content(self._title)
            frame.border_subtitle = Content(_("Esc closes this"))
            yield Static(self._text)

    def action_scroll(self, lines: int, pages: int = 0) -> None:
        """As in a pager; where all is seen already there is nothing more to read."""
        frame = self.query_one(VerticalScroll)
        if pages > 0 and frame.scroll_y >= frame.max_scroll_y:
            self.dismiss(None)
            return
        height = frame.scrollable_content_region.height
        frame.scroll_relative(y=lines + pages * max(1, height - 1), animate=False)

    def action_close(self) -> None:
        """Away with it."""
        self.dismiss(None)

    def on_click(self, event: Click) -> None:
        """Beside the frame too."""
        if self.get_widget_at(event.screen_x, event.screen_y)[0] is self:
            self.dismiss(None)


class Ask(ModalScreen[bool]):
    """A question that is answered with yes or no."""

    DEFAULT_CSS = _CSS.format(name="Ask")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "answer(True)", show=False),
        Binding("n,escape,q", "answer(False)", show=False),
    ]

    def __init__(self, question: str, command: str) -> None:
        super().__init__()
        self._question = question
        self._command = command

    def compose(self) -> ComposeResult:
        """The question, the command line that does the same, and two answers to click on."""
        with VerticalScroll() as frame:
            frame.border_subtitle = Content(_("Enter: yes   Esc: no"))
            yield Static(Content(self._question))
            if self._command:
                yield Static(Content(f"$ {self._command}"))
            yes = clickable("screen.answer(True)", (_("[y] yes"), "bold"))
            no = clickable("screen.answer(False)", (_("[n] no"), "bold"))
            yield Static(Content.assemble(yes, "   ", no))

    def on_key(self, event: Key) -> None:
        """The letter for yes in the user's language; in another one it may be a slip."""
        if event.key == _("y"):
            event.stop()
            self.dismiss(True)

    def action_answer(self, yes: bool) -> None:
        """It is decided."""
        self.dismiss(yes)


class AskText(ModalScreen[str]):
    """A question that is answered with a word; "" for none."""

    DEFAULT_CSS = _CSS.format(name="AskText")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", show=False)]

    def __init__(self, question: str, given: str = "") -> None:
        super().__init__()
        self._question = question
        self._given = given

    def compose(self) -> ComposeResult:
        """The question and a line for the answer."""
        with VerticalScroll() as frame:
            frame.border_subtitle = Content(_("Enter does it   Esc gives up"))
            yield Static(Content(self._question))
            yield Input(self._given, compact=True)

    def on_mount(self) -> None:
        """Type at once; what stands there is replaced by that."""
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter."""
        self.dismiss(event.value.strip())

    def action_leave(self) -> None:
        """Escape."""
        self.dismiss("")


class Choose(ModalScreen[str]):
    """A node to choose, or home, or the best place: openMosixview's migrator window; "" for none."""

    DEFAULT_CSS = (
        _CSS.format(name="Choose")
        + """
    Choose > VerticalScroll { width: 50; }
    Choose Sheet { height: 12; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("h", "choose('home')", show=False),
        Binding("b", "choose('balance')", show=False),
        Binding("escape,q", "choose('')", show=False),
    ]

    def __init__(self, question: str, nodes: Sequence[Node], own: int, now: int = 0) -> None:
        """Nothing is chosen yet.

        Args:
            question: to be answered.
            nodes: to choose from.
            own: number of the node from which the cluster is seen.
            now: of the one where the process is; the cursor stands on another one.
        """
        super().__init__()
        self._question = question
        self._shown = nodes
        self._own = own
        self._now = now
        self._typed = ""

    def compose(self) -> ComposeResult:
        """The nodes that are up."""
        with VerticalScroll() as frame:
            frame.border_subtitle = Content(_("Enter does it   Esc gives up"))
            yield Static(Content(self._question))
            yield Sheet[Node](CHOICE_COLUMNS, cell_of(lambda: self._own), lambda node: node.view.number)
            home = clickable("screen.choose('home')", (_("[h] home"), "bold"))
            best = clickable("screen.choose('balance')", (_("[b] where it runs best"), "bold"))
            yield Static(Content.assemble(home, "   ", best))

    def on_mount(self) -> None:
        """Fill the list."""
        sheet = self.query_one(Sheet)
        sheet.show(self._shown)
        other = next((node for node in self._shown if node.view.number != self._now), None)
        if other is not None:
            sheet.go_to(other.view.number)
        self.set_focus(sheet)

    def on_key(self, event: Key) -> None:
        """A node's number, digit by digit."""
        digit = event.character or ""
        if not (digit.isascii() and digit.isdigit()):
            self._typed = ""
            return
        event.stop()
        numbers = {str(node.view.number) for node in self._shown}
        for typed in (self._typed + digit, digit):
            if any(number.startswith(typed) for number in numbers):
                self._typed = typed
                self.query_one(Sheet).go_to(int(typed))
                return

    def on_sheet_selected(self, event: Sheet.Selected) -> None:
        """A node it is."""
        event.stop()
        node: Node | None = self.query_one(Sheet).current
        self.dismiss(str(node.view.number) if node is not None else "")

    def action_choose(self, what: str) -> None:
        """Something else than a node."""
        self.dismiss(what)
