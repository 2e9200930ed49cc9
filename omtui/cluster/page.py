"""The cluster on the screen: a row per node; switches, expel, bring and speed of the one under the cursor."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from omtools.i18n import N_, _
from omtui import actions
from omtui.cells import speed_at, two_digits
from omtui.clickable import clickable
from omtui.cluster.rows import COLUMNS, cell_of, sort_key_of, sums_line, switches_of
from omtui.columns import put
from omtui.dialogs import AskText
from omtui.model import NODE_KEYS, Node, matching_nodes, sorted_nodes
from omtui.page import Page
from omtui.sheet import Sheet
from omtui.spans import text_of

_STEP = 1.1  # of the speed, per key
_SHORTEST = 4  # cells of a node's name in front of its switches
_RESTS = 0.15  # seconds without a key after which the cursor rests


class ClusterPage(Page):
    """Nodes."""

    NAME = "cluster"
    WORDS: ClassVar[tuple[tuple[str, str], ...]] = (
        (N_("IN"), N_("guests here")),
        (N_("OUT"), N_("own processes away")),
        (N_("LOAD"), N_("1.00 is one process that computes on a standard processor")),
        (N_("SPEED"), N_("10000 is a standard processor")),
        (N_("balance"), N_("the mean load in percent of the highest: 100 % where all nodes have the same")),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(
                row.key,
                f"switch('{row.name}')",
                row.name,
                show=False,
                tooltip=row.what,
                id=f"cluster.{row.name}",
            )
            for row in actions.SWITCHES
        ),
        Binding("E", "clear('expel')", N_("expel"), tooltip=N_("send all guests home"), id="cluster.expel"),
        Binding(
            "B", "clear('bring')", N_("bring"), tooltip=N_("call all own processes home"), id="cluster.bring"
        ),
        Binding(
            "plus", "faster(1)", N_("faster"), tooltip=N_("tell others a higher speed"), id="cluster.faster"
        ),
        Binding(
            "minus", "faster(-1)", N_("slower"), tooltip=N_("tell others a lower speed"), id="cluster.slower"
        ),
        Binding(
            "equals_sign", "speed", N_("speed"), tooltip=N_("tell others this speed"), id="cluster.speed"
        ),
        Binding("i", "details", N_("details"), tooltip=N_("all about the node"), id="cluster.details"),
        Binding(
            "less_than_sign", "sort(-1)", N_("sort by the column before"), show=False, id="cluster.sort-left"
        ),
        Binding(
            "greater_than_sign", "sort(1)", N_("sort by the next column"), show=False, id="cluster.sort-right"
        ),
        Binding("r", "reverse", N_("reverse"), show=False, id="cluster.reverse"),
    ]
    DEFAULT_CSS = """
    ClusterPage > #switches { height: auto; max-height: 3; text-wrap: wrap; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._resting: Timer | None = None
        # what was drawn: the nodes, and what is wanted of them
        self._drawn: tuple[dict[int, Node], tuple[str, str, bool]] = ({}, ("", "", False))

    def body(self) -> ComposeResult:
        """Sums, rows, switches."""
        yield Static(id="sums")
        yield Sheet[Node](COLUMNS, cell_of(lambda: self.state.own), lambda node: node.view.number)
        yield Static(id="switches")

    @property
    def sheet(self) -> Sheet[Node]:
        """The rows."""
        return self.query_one(Sheet)

    def first_focus(self) -> Widget | None:
        """The rows."""
        return self.sheet

    @property
    def word(self) -> str:
        """The node under the cursor, for requests; "" is the one whose agent is asked."""
        node = self.sheet.current
        return "" if node is None or node.view.number == self.state.own else str(node.view.number)

    def draw_body(self) -> None:
        """Rows and what stands around them."""
        sheet = self.sheet
        wanted = (self.wanted, sheet.sort_key or "number", sheet.backwards)
        if self._drawn[0] is not self.state.nodes or self._drawn[1] != wanted:
            self._drawn = (self.state.nodes, wanted)
            self._put("#sums", Content(text_of(sums_line(self.state))))
            text, key, backwards = wanted
            sheet.show(sorted_nodes(matching_nodes(self.state.nodes.values(), text), key, backwards))
        self.omtui.feed.want_report = self.word
        self._put("#switches", self._switches())

    def on_sheet_moved(self, _event: Sheet.Moved) -> None:
        """The switches are another node's: it is asked when the cursor rests."""
        self.omtui.feed.want_report = self.word
        if self._resting is not None:
            self._resting.stop()
        self._resting = self.set_timer(_RESTS, self.omtui.feed.nudge)
        self._put("#switches", self._switches())

    def _switches(self) -> Content:
        node = self.sheet.current
        if node is None:
            return Content("")
        parts: list[Content] = []
        for name, on in switches_of(node, self.state.report):
            binding = next(b for b in self.BINDINGS if isinstance(b, Binding) and b.id == f"cluster.{name}")
            key = (self.omtui.key_of(binding), "bold")
            state = (f" {_('on')} ", "reverse") if on else (f" {_('off')} ", "")
            parts += [clickable(f"screen.switch('{name}')", key, (f" {name}", ""), state), Content(" ")]
        row = Content.assemble(*parts)
        room = max(_SHORTEST, self.size.width - row.cell_length - 2)
        name = node.view.name
        return Content.assemble(put(name, room) if len(name) > room else name, ": ", row)

    # -------------------------------------------------------------------------------------- keys

    def action_switch(self, name: str) -> None:
        """Set one of the node's switches the other way."""
        node = self.sheet.current
        if node is None:
            return
        on = dict(switches_of(node, self.state.report))
        for row in actions.known_switches():
            if row.name == name:
                self.omtui.perform([actions.switch(row, not on[name], self.word)])

    def action_clear(self, what: str) -> None:
        """Expel or bring."""
        make = actions.expel if what == "expel" else actions.bring
        self.omtui.perform([make(self.word)])

    def action_faster(self, steps: int) -> None:
        """Move the slider of the node by a tenth."""
        node = self.sheet.current
        if node is not None:
            speed = max(1, node.view.speed)
            self._set_speed(max(two_digits(speed * _STEP**steps), 1) if speed > 10 else speed + steps)

    def _set_speed(self, speed: int) -> None:
        self.omtui.perform([actions.set_speed(max(1, min(10_000_000, speed)), self.word)])

    def action_speed(self) -> None:
        """Ask for a speed."""

        def answered(text: str | None) -> None:
            if text:
                self.omtui.obey(f"mosctl setspeed {text}" + (f" --on {word}" if word else ""))

        node, word = self.sheet.current, self.word
        given = str(node.view.speed) if node is not None else ""
        self.app.push_screen(
            AskText(_("Speed that other nodes are told (10000 is standard, 0 measured):"), given), answered
        )

    def action_details(self) -> None:
        """All about the node under the cursor."""
        node = self.sheet.current
        if node is not None:
            self.omtui.look_at(str(node.view.number))

    def on_sheet_selected(self, _event: Sheet.Selected) -> None:
        """Enter, or a double click."""
        self.action_details()

    def on_sheet_cell_clicked(self, event: Sheet.CellClicked) -> None:
        """The slider follows the mouse."""
        if event.key == "slider":
            self._set_speed(speed_at(event.place, event.width))

    def on_sheet_head_clicked(self, event: Sheet.HeadClicked) -> None:
        """Sort by it, or the other way round."""
        self._sort_by(sort_key_of(event.key))

    def _sort_by(self, key: str) -> None:
        sheet = self.sheet
        sheet.backwards = not sheet.backwards if sheet.sort_key == key else key in ("load", "memory", "speed")
        sheet.sort_key = key
        self.draw_body()

    def action_sort(self, steps: int) -> None:
        """By another column."""
        now = NODE_KEYS.index(self.sheet.sort_key or "number")
        self._sort_by(NODE_KEYS[(now + steps) % len(NODE_KEYS)])

    def action_reverse(self) -> None:
        """The other way round."""
        self._sort_by(self.sheet.sort_key or "number")
