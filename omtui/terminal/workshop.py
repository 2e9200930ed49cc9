"""The workshop: the lesson beside omsh."""

from __future__ import annotations

import contextlib
import sys

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from omtools.errors import OmError
from omtools.i18n import _
from omtools.lab.settings import PACKAGE_HOME
from omtools.lab.state import lab_name
from omtools.shell import library
from omtools.shell.lesson import Lesson
from omtools.shell.markdown import Style
from omtools.shell.progress import Progress, Store
from omtui.terminal.lesson_pane import lesson_text
from omtui.terminal.lines import Line, Program
from omtui.terminal.screens import TerminalScreen

_LOOK = 1.0  # seconds between two looks at what omsh keeps
_NARROW = 100  # columns below which the lesson stands above the shell
_OMSH = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from omtools.commands.omsh import main; sys.exit(main())"
)


def omsh(*options: str) -> Program:
    """The workshop's shell on a terminal of its own."""
    return Program([sys.executable, "-c", _OMSH, str(PACKAGE_HOME), *options])


class WorkshopScreen(TerminalScreen):
    """The lesson beside omsh."""

    DEFAULT_CSS = """
    WorkshopScreen #lesson { width: 42%; height: 1fr; padding: 0 1; border-right: solid $primary; }
    WorkshopScreen.-narrow > Horizontal { layout: vertical; }
    WorkshopScreen.-narrow #lesson {
        width: 100%; height: 40%; border-right: none; border-bottom: solid $primary;
    }
    """

    def __init__(self, line: Line, store: Store, lessons: list[Lesson]) -> None:
        super().__init__(_("the workshop"), line, _("The workshop has ended; your progress is kept."))
        self._store = store
        self._lessons = lessons
        self._shown = ""

    def beside(self) -> ComposeResult:
        """The lesson."""
        with VerticalScroll(id="lesson", can_focus=False):
            yield Static(id="text")

    def on_mount(self) -> None:
        """Follow what omsh keeps."""
        super().on_mount()
        self.set_interval(_LOOK, self.draw_lesson)
        self.call_after_refresh(self.draw_lesson)

    def on_resize(self) -> None:
        """The lesson beside the shell, or above it."""
        self.set_class(self.size.width < _NARROW, "-narrow")
        self.call_after_refresh(self.draw_lesson)

    def draw_lesson(self) -> None:
        """The step that the learner is in, with what is solved."""
        pane = self.query_one("#lesson", VerticalScroll)
        progress = Progress()
        with contextlib.suppress(OSError):
            progress = self._store.read()
        style = Style(max(20, pane.scrollable_content_region.width), not self.app.no_color)
        text = lesson_text(self._lessons, progress, style)
        if text != self._shown:
            self._shown = text
            self.query_one("#text", Static).update(Text.from_ansi(text))


def workshop() -> WorkshopScreen:
    """The workshop of the user's lab. Raises OmError."""
    try:
        lessons = library.load(library.user_language())
    except OSError as error:
        raise OmError(detail=f"{error.filename}: {error.strerror}.") from None
    return WorkshopScreen(omsh(), Store(lab_name()), lessons)
