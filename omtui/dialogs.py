"""Small windows in front of a screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.events import Click
from textual.screen import ModalScreen
from textual.widgets import Static

from omtools.i18n import _

_CSS = """
    {name} {{ align: center middle; background: $background 50%; }}
    {name} > VerticalScroll {{
        width: auto; min-width: 30; max-width: 96%; height: auto; max-height: 96%;
        border: round $primary; padding: 0 1; background: $surface;
    }}
    {name} Static {{ width: auto; max-width: 100%; }}
"""


class Show(ModalScreen[None]):
    """Something to read; any key closes it."""

    DEFAULT_CSS = _CSS.format(name="Show")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,Q,enter,space,question_mark,f1", "close", show=False)
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title = title
        self._text = text

    def compose(self) -> ComposeResult:
        """A frame with the text in it."""
        with VerticalScroll() as frame:
            frame.border_title = Content(self._title)
            frame.border_subtitle = Content(_("Esc closes this"))
            yield Static(Content(self._text))

    def action_close(self) -> None:
        """Away with it."""
        self.dismiss(None)

    def on_click(self, event: Click) -> None:
        """Beside the frame too."""
        if self.get_widget_at(event.screen_x, event.screen_y)[0] is self:
            self.dismiss(None)


def as_columns(rows: Sequence[tuple[str, str]], gap: str = "  ") -> str:
    """Two columns of text."""
    widest = max((len(left) for left, _right in rows), default=0)
    return "\n".join(f"{left:<{widest}}{gap}{right}" for left, right in rows)
