"""openMosixanalyzer on the screen: load, memory and guests of hours and days, a plot per node."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Resize
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from omtools.errors import OmError
from omtools.i18n import N_, _
from omtui.analyzer.plot import MARGIN, draw, lines_each
from omtui.analyzer.series import (
    WHAT_NAMES,
    WHATS,
    What,
    columns_of,
    series_of,
    top_of,
)
from omtui.history import History
from omtui.moments import cell_at, clock_of, length_of, moment_at
from omtui.page import Page
from omtui.scrubbing import Scrubbing
from omtui.spans import Line, Span

_LEAST = 3  # lines of a node's plot, with its title, where there are many


class Plots(Scrubbing):
    """The plots.

    Attributes:
        what: is drawn.
        chosen: number of the node that keys are for, 0: the first.
        alone: only that one is shown, with all its figures.
        nodes: those that fit a filter.
        window: from when to when.
    """

    def __init__(self) -> None:
        super().__init__()
        self.what: What = WHATS[0]
        self.chosen = 0
        self.alone = False
        self.nodes: list[int] = []
        self.window = (0, 1)
        self._lines: list[Line] = []

    @property
    def history(self) -> History:
        """What is plotted."""
        return self.omtui.feed

    @property
    def columns(self) -> int:
        """Values beside each other."""
        return max(1, self.size.width - MARGIN)

    def show(self, wanted: str) -> None:
        """Read what the window has, and draw it."""
        history, columns = self.history, self.columns
        text = wanted.lower()
        try:
            self.window = history.window()
            names, marks = history.recording.names(), history.marks()
            self.nodes = [node for node, name in names.items() if text in name.lower() or text == str(node)]
            if self.chosen not in self.nodes:
                self.chosen = self.nodes[0] if self.nodes else 0
            sums = history.sums(columns, self._in_sight())
        except OmError as error:
            self._put([(Span(line, "dim"),) for line in textwrap.wrap(str(error), max(20, self.size.width))])
            self.nodes = []
            return
        shown = cell_at(history.moment, self.window, columns) if history.past is not None else -1
        marked = columns_of(marks, self.window, columns)
        lines: list[Line] = []
        for what in WHATS if self.alone else (self.what,):
            series = series_of(sums, names, what, self.window, columns)
            height = self.size.height // (len(WHATS) if self.alone else 1)
            chosen = 0 if self.alone else self.chosen
            lines += draw(series, what, self.window, top_of(series, what), height, marked, shown, chosen)
        self._put(lines)

    def _in_sight(self) -> list[int]:
        """The chosen node and as many around it as there is room for."""
        if self.alone:
            return [self.chosen]
        room = max(1, (self.size.height - 1) // _LEAST)
        place = self.nodes.index(self.chosen) if self.chosen in self.nodes else 0
        first = max(0, min(place - room // 2, len(self.nodes) - room))
        return self.nodes[first : first + room]

    def _put(self, lines: list[Line]) -> None:
        if lines != self._lines:
            self._lines = lines
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line of it."""
        return self.strip_of(self._lines[y] if y < len(self._lines) else (), self.size.width)

    def on_resize(self, _event: Resize) -> None:
        """Other columns."""
        cast(AnalyzerPage, self.screen).draw_all()

    def take_hold(self, x: int, y: int) -> bool:  # noqa: ARG002 - all of it is time
        """The node whose plot was clicked is chosen too."""
        seen = [] if self.alone else self._in_sight()
        each = lines_each(len(seen), self.size.height) + 1
        if seen and y // each < len(seen):
            self.chosen = seen[y // each]
        return True

    def moment_under(self, x: int) -> int:
        """See `Scrubbing`."""
        return moment_at(max(0, min(x - MARGIN, self.columns - 1)), self.window, self.columns)


class AnalyzerPage(Page):
    """Load and memory of hours and days."""

    NAME = "analyzer"
    LIST_KEYS: ClassVar[tuple[tuple[str, str], ...]] = (
        (N_("mouse"), N_("a click on a plot goes to that moment; the wheel shows more or less time")),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "what", N_("what"), tooltip=N_("load, memory or guests"), id="analyzer.what"),
        Binding(
            "enter",
            "alone",
            N_("one"),
            tooltip=N_("all figures of the chosen node, or all nodes"),
            id="analyzer.alone",
        ),
        Binding("down,j", "choose(1)", N_("node"), tooltip=N_("the next node"), id="analyzer.next"),
        Binding("up,k", "choose(-1)", N_("the node before"), show=False, id="analyzer.previous"),
        Binding("right,l", "app.skip(1)", N_("further on in time"), show=False, id="analyzer.later"),
        Binding("left,h", "app.skip(-1)", N_("further back in time"), show=False, id="analyzer.earlier"),
        Binding("z", "app.zoom(-1)", N_("closer"), tooltip=N_("less time, closer"), id="analyzer.zoom-in"),
        Binding("Z", "app.zoom(1)", N_("more time"), id="analyzer.zoom-out"),
        Binding("e", "export", N_("export"), tooltip=N_("as .svg, .png or .csv"), id="analyzer.export"),
    ]

    def body(self) -> ComposeResult:
        """What is seen, and the plots."""
        yield Static(id="sums")
        yield Plots()

    @property
    def plots(self) -> Plots:
        """The plots."""
        return self.query_one(Plots)

    def first_focus(self) -> Widget | None:
        """The plots."""
        return self.plots

    def draw_body(self) -> None:
        """All of it."""
        plots = self.plots
        plots.show(self.wanted)
        if not plots.nodes:
            self._put("#sums", Content(""))
            return
        since, until = plots.window
        said = _("{what}: {length} from {since} to {until}").format(
            what=_(WHAT_NAMES[plots.what]),
            length=length_of(until - since),
            since=clock_of(since),
            until=clock_of(until),
        )
        self._put("#sums", Content(said))

    def action_what(self) -> None:
        """Load, memory, guests, and again."""
        self.plots.what = WHATS[(WHATS.index(self.plots.what) + 1) % len(WHATS)]
        self.draw_body()

    def action_alone(self) -> None:
        """One node, or all."""
        self.plots.alone = not self.plots.alone
        self.draw_body()

    def action_choose(self, steps: int) -> None:
        """Another node."""
        known = self.plots.nodes
        if known:
            place = known.index(self.plots.chosen) + steps
            self.plots.chosen = known[place % len(known)]
            self.draw_body()

    def action_export(self) -> None:
        """Let the name of a file be typed."""
        self.open_prompt(":", "export ")

    def export(self, path: str) -> None:
        """Write what is shown; CSV has all figures of it."""
        from omtui.analyzer.export import export  # noqa: PLC0415 - the first picture need not wait for it

        plots = self.plots
        node = plots.chosen if plots.alone else 0
        where = Path(path).expanduser()
        try:
            export(self.omtui.feed.recording, where, plots.what, plots.window, node)
        except OmError as error:
            self.omtui.say("", str(error), True)
            return
        chosen = f" --node {node}" if node else ""
        command = f"omanalyzer --what {plots.what}{chosen} --output {where}"
        self.omtui.say(command, _("{path} was written.").format(path=where))
