"""What all screens of omtui have: the tabs above, the last action and the keys below, two prompts."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, ClassVar, cast

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content
from textual.css.query import NoMatches
from textual.events import Resize, ScreenResume
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input, Static

from omtools.i18n import N_, _
from omtui.clickable import clickable
from omtui.commandline import PAGES, SYNTAX
from omtui.dialogs import Show, reading_width
from omtui.model import Process, State
from omtui.prompt import Prompt
from omtui.spans import as_columns
from omtui.timeline import Timeline
from omtui.travelling import Travelling

if TYPE_CHECKING:
    from omtui.app import Omtui

TITLES = {
    "cluster": N_("Cluster"),
    "processes": N_("Processes"),
    "migmon": N_("Migmon"),
    "live": N_("Live"),
    "analyzer": N_("Analyzer"),
}


_ROOMY = 120  # columns from which on a sentence on a process fits a line


def _explained(binding: Binding) -> str:
    """What a key does: the word of the line below, and what it means."""
    said = _(binding.description)
    more = binding.tooltip not in ("", binding.description)
    return f"{said}: {_(binding.tooltip)}" if more else said


def _cells_of(found: tuple[str, Binding, str]) -> int:
    """That a key takes in the line below, with the gap behind it."""
    key, binding, _where = found
    return cell_len(f"{key} {_(binding.description)}  ")


class Page(Screen[None]):
    """A screen of omtui."""

    NAME: ClassVar[str] = ""
    LIST_KEYS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("↑ ↓ j k", N_("one row up, down")),
        ("PgUp PgDn g G", N_("a screen up, down; the first row, the last")),
        ("space", N_("mark a row: what follows is done to all marked ones")),
        ("enter", N_("open")),
    )
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (_ROOMY, "-roomy")]  # noqa: RUF012 - so Textual declares it
    WORDS: ClassVar[tuple[tuple[str, str], ...]] = ()  # on this screen, with what they mean
    DEFAULT_CSS = """
    Page { layout: vertical; background: $background; }
    Page > Static {
        height: 1; text-wrap: nowrap; text-overflow: ellipsis;
        link-style: none; link-background-hover: $block-hover-background; link-style-hover: none;
        link-color-hover: $foreground;
    }
    Page > #tabs { background: $panel; }
    Page.-past > #tabs { background: $warning-muted; }
    Page > #trouble {
        color: $error; text-style: bold; display: none; height: auto; max-height: 3; text-wrap: wrap;
    }
    Page > #about { text-wrap: wrap; }
    Page.-narrow > #about { height: 2; }
    Page > #said { height: auto; max-height: 3; text-wrap: wrap; display: none; }
    Page > #said.-bad { color: $error; }
    Page > #prompt { display: none; background: $surface; }
    Page > #keys { background: $panel; }
    """

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield Static(id="tabs")
        yield Static(id="trouble")
        yield from self.body()
        yield Timeline()
        yield Static(id="said")
        yield Prompt(self.omtui.typed)
        yield Static(id="keys")

    def body(self) -> ComposeResult:
        """What is this screen's own."""
        yield from ()

    @property
    def omtui(self) -> Omtui:
        """The application."""
        return cast("Omtui", self.app)

    @property
    def state(self) -> State:
        """What is known of the cluster."""
        return self.omtui.feed.state

    @property
    def wanted(self) -> str:
        """The text by which the lists are filtered."""
        return self.omtui.filters.get(self.NAME, "")

    @property
    def chosen(self) -> list[Process]:
        """The processes that actions are for."""
        return []

    # ---------------------------------------------------------------------------------- drawing

    def on_resize(self, event: Resize) -> None:
        """Another number of keys fits."""
        self.query_one("#keys", Static).update(self._keys_line(event.size.width))

    def on_screen_resume(self, _event: ScreenResume) -> None:
        """It is seen again."""
        self.omtui.page_changed()
        self.draw_all()
        self.call_after_refresh(self.draw_all)  # now with the sizes that everything has got meanwhile

    def draw_all(self) -> None:
        """Everything, after news or on being seen again."""
        if self.is_mounted:
            with contextlib.suppress(NoMatches):  # news may come while the screen is being taken down
                self._draw_parts()

    def _draw_parts(self) -> None:
        self._put("#tabs", self._tabs_line())
        trouble = self.query_one("#trouble", Static)
        if trouble.display != bool(self.state.trouble):
            trouble.display = bool(self.state.trouble)
        if self.state.trouble and trouble.content != Content(self.state.trouble):
            trouble.update(Content(self.state.trouble))
        self.query_one(Timeline).draw_again()
        self.set_class(self.omtui.feed.past is not None, "-past")
        self.draw_said()
        self.draw_body()

    def _put(self, where: str, content: Content) -> None:
        widget = self.query_one(where, Static)
        if widget.content != content:
            widget.update(content, layout=False)

    def draw_body(self) -> None:
        """What is this screen's own."""

    def draw_said(self) -> None:
        """The last action: its command line, and what came of it."""
        widget = self.query_one("#said", Static)
        shown = self.omtui.said.shown
        content = Content.assemble(
            (f"$ {shown.command}  " if shown.command else "", "bold"),
            shown.sentence,
        )
        if widget.content != content:
            widget.set_class(shown.bad, "-bad")
            widget.display = bool(shown.command or shown.sentence)
            widget.update(content)

    def _tabs_line(self) -> Content:
        parts: list[Content] = []
        for number, name in enumerate(PAGES, 1):
            look = "reverse" if name == self.NAME else ""
            parts.append(clickable(f"app.go('{name}')", (f" {number} {_(TITLES[name])} ", look)))
        words = [self.state.name_of(self.state.own)] if self.state.own else []
        if self.wanted:
            words.append(f"/{self.wanted}")
        words += [_("READ-ONLY")] * self.omtui.read_only + [_("PAUSED")] * self.omtui.paused
        past = self.omtui.feed.past is not None
        words += [_("PAST")] * past + [_("AGENT LOST")] * (bool(self.state.trouble) and not past)
        parts.append(Content("  " + "  ".join(words)))
        return Content.assemble(*parts)

    def shown_bindings(self) -> list[tuple[str, Binding, str]]:
        """Keys, what they do and in whose name a click does it: the screen's, then the application's."""
        found = []
        for owner, where in ((type(self), "screen"), (type(self.app), "app"), (Travelling, "app")):
            for given in owner.__dict__.get("BINDINGS", ()):
                if isinstance(given, Binding) and given.description:
                    found.append((self.omtui.key_of(given), given, where))
        return found

    def _keys_line(self, width: int) -> Content:
        """The keys that all screens have, and between them as many of this one's as there is room for."""
        shown = [found for found in self.shown_bindings() if found[1].show]
        always = [found for found in shown if found[2] == "app"]
        kept: list[tuple[str, Binding, str]] = []
        width -= sum(_cells_of(found) for found in always) - 2
        for found in shown:
            if found not in always and (width := width - _cells_of(found)) >= 0:
                kept.append(found)
        parts: list[Content] = []
        for key, binding, where in (*always[:1], *kept, *always[1:]):
            said = f" {_(binding.description)}"
            gap = [Content("  ")] if parts else []
            parts += [*gap, clickable(f"{where}.{binding.action}", (key, "bold"), (said, ""))]
        return Content.assemble(*parts)

    def help_text(self, width: int) -> Content:
        """All keys of this screen, what words on it mean, and all that can be typed, in that many columns."""
        found = self.shown_bindings()
        here = [(_(key), _(what)) for key, what in self.LIST_KEYS]
        here += [(key, _explained(binding)) for key, binding, where in found if where == "screen"]
        anywhere = [(key, _explained(binding)) for key, binding, where in found if where == "app"]
        words = [(_(word), _(meaning)) for word, meaning in self.WORDS]
        typed = [(f":{line}", _(what)) for line, what in SYNTAX]
        parts = [
            (_("On this screen"), here),
            (_("What is written there"), words),
            (_("On every screen"), anywhere),
            (_("What can be typed"), typed),
        ]
        blocks = [
            Content.assemble((title, "bold"), "\n", as_columns(rows, width=width))
            for title, rows in parts
            if rows
        ]
        return Content("\n\n").join(blocks)

    def explain(self) -> None:
        """Show them."""
        self.app.push_screen(Show(_(TITLES[self.NAME]), self.help_text(reading_width(self.app.size.width))))

    # --------------------------------------------------------------------------------- prompts

    def open_prompt(self, mode: str, given: str = "") -> None:
        """Let something be typed: "/" a filter, ":" a command."""
        self.query_one(Prompt).ask(mode, given)

    def leave_prompt(self, value: str) -> None:
        """Enter or escape."""
        mode = self.query_one(Prompt).leave(value)
        self.set_focus(self.first_focus())
        if mode == "/":
            self.filter_by(value)
        elif mode == ":" and value:
            self.omtui.obey(value)

    def first_focus(self) -> Widget | None:
        """Where the keys go."""
        return None

    def filter_by(self, text: str) -> None:
        """Show only rows with that text in them."""
        self.omtui.filters[self.NAME] = text.strip()
        self.draw_all()

    def on_input_changed(self, event: Input.Changed) -> None:
        """The list follows what is typed."""
        prompt = self.query_one(Prompt)
        if event.input is prompt and prompt.mode == "/":
            self.filter_by(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter."""
        if event.input is self.query_one(Prompt):
            self.leave_prompt(event.value)
