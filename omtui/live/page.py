"""What happens at this moment: calls done at home, how long moves take, every event as it comes."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.strip import Strip
from textual.widget import Widget

from omtools.i18n import N_, _
from omtui import actions
from omtui.live.happenings import (
    AWAY_COLUMNS,
    EVENT_COLUMNS,
    Happening,
    Happenings,
    away_cell,
    busiest,
    event_cell,
    freezing_lines,
)
from omtui.live.latencies import flight_lines, latency_lines
from omtui.model import Process
from omtui.page import Page
from omtui.paint import Canvas
from omtui.sheet import Sheet
from omtui.spans import Line, Span


class Drawing(Canvas, can_focus=False):
    """Some lines."""

    def __init__(self, id: str) -> None:  # noqa: A002 - Textual's own name for it
        super().__init__(id=id)
        self._lines: list[Line] = []

    def show(self, lines: list[Line]) -> None:
        """Show others."""
        if lines != self._lines:
            self._lines = lines
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """One of them."""
        return self.strip_of(self._lines[y] if y < len(self._lines) else (), self.size.width)


class LivePage(Page):
    """Events."""

    NAME = "live"
    LIST_KEYS: ClassVar[tuple[tuple[str, str], ...]] = (
        *Page.LIST_KEYS[:2],
        ("tab", N_("to the other list: the processes, or what happened")),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("h", "home", N_("home"), tooltip=N_("call home"), id="live.home"),
        Binding(
            "t", "times", N_("times"), tooltip=N_("how long calls take, or moves"), id="live.times"
        ),
        Binding(
            "d",
            "decisions",
            N_("decisions"),
            tooltip=N_("also why processes of other nodes stay"),
            id="live.decisions",
        ),
        Binding(
            "F", "follow", N_("follow"), tooltip=N_("to the latest event, and stay there"), id="live.follow"
        ),
    ]
    DEFAULT_CSS = """
    LivePage > Horizontal { height: 9; }
    LivePage #away { width: 3fr; height: 100%; }
    LivePage #freezing { width: 2fr; height: 100%; padding-left: 1; }
    LivePage #events { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.follows = True
        self.shows_moves = False
        self.shows_decisions = False
        self._happenings = Happenings()
        self._away: tuple[list[Process], str] = ([], "")  # what `away` was made from

    def body(self) -> ComposeResult:
        """Processes and freezing times above, events below."""
        with Horizontal():
            yield Sheet[Process](
                AWAY_COLUMNS,
                away_cell(lambda: self.state),
                lambda one: one.pid,
                id="away",
                empty=N_("No process of this node is away, and no guest is here."),
            )
            yield Drawing("freezing")
        yield Sheet[Happening](
            EVENT_COLUMNS, event_cell, lambda row: row, id="events", empty=N_("Nothing has happened yet.")
        )

    @property
    def away(self) -> Sheet[Process]:
        """Processes that are not at home."""
        return self.query_one("#away", Sheet)

    @property
    def events(self) -> Sheet[Happening]:
        """What happened."""
        return self.query_one("#events", Sheet)

    @property
    def chosen(self) -> list[Process]:
        """What actions are for."""
        return self.away.chosen

    def first_focus(self) -> Widget | None:
        """The processes."""
        return self.away

    def draw_body(self) -> None:
        """All three parts."""
        found = self.state.processes
        if self._away[0] is found and self._away[1] == self.wanted:
            self.away.draw_again()
        else:
            self._away = (found, self.wanted)
            self.away.show(busiest(self.state, self.wanted))
        self._draw_times()
        events = self.events
        if events.has_focus:  # whoever looks at an older event is not taken away from it
            self.follows = events.cursor >= len(events.rows) - 1
        events.show(self._happenings.rows(self.state, self.wanted, everything=self.shows_decisions))
        if self.follows:
            events.action_move(len(events.rows))

    def _draw_times(self) -> None:
        """What travels now; how long the chosen process's calls take or, where that is unknown, moves."""
        chosen = self.away.current
        self.omtui.feed.want_calls = chosen.pid if chosen is not None and not self.shows_moves else 0
        drawing = self.query_one(Drawing)
        width, height = drawing.size
        lines = flight_lines(self.state.travelling(), self.state, width)
        pid, found = self.state.latencies or (0, "")
        if self.shows_moves or chosen is None or pid != chosen.pid or not found:
            lines += freezing_lines(self.state.moves, width)
        elif isinstance(found, str):
            lines += [(Span(found, "dim"),), *freezing_lines(self.state.moves, width)]
        elif found.calls:
            lines += latency_lines(pid, found, width, height - len(lines))
        else:
            none = _("process {pid}: no call was done at home").format(pid=pid)
            lines += [(Span(none[:width], "dim"),), *freezing_lines(self.state.moves, width)]
        drawing.show(lines)

    def on_sheet_moved(self, _event: Sheet.Moved) -> None:
        """Another process, other calls."""
        before = self.omtui.feed.want_calls
        self._draw_times()
        if self.omtui.feed.want_calls != before:
            self.omtui.feed.nudge()

    def choose(self, pid: int) -> None:
        """Show how long the calls of that process take."""
        self.shows_moves = False
        if not self.away.go_to(pid):
            self.omtui.say(f"mosctl calls {pid}", _("Process {pid} is not away.").format(pid=pid), True)
        self._draw_times()

    def action_times(self) -> None:
        """Of calls, or of moves."""
        self.shows_moves = not self.shows_moves
        self._draw_times()
        self.omtui.feed.nudge()

    def action_decisions(self) -> None:
        """All decisions of other nodes, or only those to do something."""
        self.shows_decisions = not self.shows_decisions
        said = (
            _("Every decision of other nodes is listed.")
            if self.shows_decisions
            else _("Of other nodes' decisions only those to do something are listed.")
        )
        self.omtui.say("", said)
        self.draw_body()

    def action_follow(self) -> None:
        """To the latest event."""
        self.follows = True
        self.events.action_move(len(self.events.rows))

    def action_home(self) -> None:
        """Call the process home."""
        self.omtui.perform([actions.migrate(process.pid, "home") for process in self.chosen])
