"""The processes on the screen: openMosixprocs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.css.query import NoMatches
from textual.widget import Widget
from textual.widgets import Static

from omtools.errors import NoAgent, OmError
from omtools.i18n import N_, _
from omtui import actions
from omtui.actions import Action
from omtui.cluster.rows import CHOICE_COLUMNS, cell_of as node_cell_of
from omtui.dialogs import AskText, Choose
from omtui.model import PROCESS_KEYS, Node, Process
from omtui.page import Page
from omtui.processes.rows import COLUMNS, KIND_NAMES, KINDS, Wanted, about, cell_of, known_reason, rows_of
from omtui.sheet import Sheet

_WIDE = 110  # columns from which on the nodes stand beside the processes
_BIGGEST_FIRST = ("moves", "rate", "bytes", "frozen_ms", "dfsa_bytes", "node")
_NODES_EVERY = 4  # pictures, if none of them comes or goes
_PATIENCE = 0.15  # seconds the cursor rests on a process before it is looked at
_AGAIN = 3.0  # seconds after which it is looked at again, while the cursor stays there


class ProcessesPage(Page):
    """Processes."""

    NAME = "processes"
    WORDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("M G L", N_("the process is away (migrated), is a guest, is locked")),
        ("S", N_("its state as in ps: R runs, S sleeps, D waits, T stands, t is a deputy, Z has ended")),
        (N_("MOVED"), N_("bytes of memory that its last move carried")),
        ("MS", N_("milliseconds that it stood still for that")),
        (N_("STAYS BECAUSE"), N_("why it does not move now")),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "migrate", N_("migrate"), tooltip=N_("move to another node"), id="processes.migrate"),
        Binding("h", "home", N_("home"), tooltip=N_("call home"), id="processes.home"),
        Binding("b", "best", N_("best"), tooltip=N_("let it run where it runs best"), id="processes.best"),
        Binding(
            "L",
            "lock",
            N_("lock"),
            tooltip=N_("lock or unlock: the balancer leaves it alone"),
            id="processes.lock",
        ),
        Binding("n", "renice", N_("renice"), tooltip=N_("another priority"), id="processes.renice"),
        Binding("s", "signal('STOP')", N_("stop"), tooltip=N_("SIGSTOP"), id="processes.stop"),
        Binding(
            "c", "signal('CONT')", N_("continue"), show=False, tooltip=N_("SIGCONT"), id="processes.cont"
        ),
        Binding("X", "signal('TERM')", N_("end"), tooltip=N_("SIGTERM"), id="processes.term"),
        Binding(
            "ctrl+x", "signal('KILL')", N_("kill"), show=False, tooltip=N_("SIGKILL"), id="processes.kill"
        ),
        Binding("t", "tree", N_("tree"), tooltip=N_("as a tree, or flat"), id="processes.tree"),
        Binding("v", "kind", N_("view"), tooltip=N_("all, away from home, guests here"), id="processes.kind"),
        Binding(
            "o",
            "nodes",
            N_("nodes"),
            show=False,
            tooltip=N_("nodes beside the list, to drag to"),
            id="processes.nodes",
        ),
        Binding("u", "unmark", N_("unmark all"), show=False, id="processes.unmark"),
        Binding(
            "less_than_sign",
            "sort(-1)",
            N_("sort by the column before"),
            show=False,
            id="processes.sort-left",
        ),
        Binding(
            "greater_than_sign",
            "sort(1)",
            N_("sort by the next column"),
            show=False,
            id="processes.sort-right",
        ),
        Binding("r", "reverse", N_("reverse"), show=False, id="processes.reverse"),
    ]
    DEFAULT_CSS = """
    ProcessesPage > Horizontal { height: 1fr; }
    ProcessesPage #list { width: 1fr; }
    ProcessesPage #nodes { width: 32; border-left: solid $primary; display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.as_tree = False
        self.kind = "all"
        self._wants_nodes: bool | None = None
        self._looking = 0
        self._listed: tuple[list[Process], Wanted] = ([], Wanted())  # what the list was made from
        self._nodes_due = 0  # with which picture
        self._why: dict[int, str] = {}

    def body(self) -> ComposeResult:
        """The list, nodes to drag to, and a line on the process under the cursor."""
        with Horizontal():
            yield Sheet[Process](
                COLUMNS,
                cell_of(self._reason),
                lambda process: process.pid,
                id="list",
                empty=N_("There is no such process; Esc and `v` show others."),
            )
            yield Sheet[Node](
                CHOICE_COLUMNS,
                node_cell_of(lambda: self.state.own),
                lambda node: node.view.number,
                id="nodes",
            )
        yield Static(id="about")

    def _reason(self, process: Process) -> str:
        return known_reason(process, self.state)

    @property
    def sheet(self) -> Sheet[Process]:
        """The list."""
        return self.query_one("#list", Sheet)

    @property
    def nodes(self) -> Sheet[Node]:
        """Where to drag to."""
        return self.query_one("#nodes", Sheet)

    @property
    def chosen(self) -> list[Process]:
        """What actions are for."""
        return self.sheet.chosen

    def first_focus(self) -> Widget | None:
        """The list."""
        return self.sheet

    def draw_body(self) -> None:
        """The list and what stands around it."""
        sheet = self.sheet
        wanted = Wanted(self.kind, self.wanted, self.as_tree, sheet.sort_key or "pid", sheet.backwards)
        if self._listed[0] is self.state.processes and self._listed[1] == wanted:
            sheet.draw_again()  # a reason may be known now
        else:
            self._listed = (self.state.processes, wanted)
            sheet.show(rows_of(self.state, wanted))
        wide = self.size.width >= _WIDE if self._wants_nodes is None else self._wants_nodes
        self.nodes.display = wide
        if wide:
            self._draw_nodes()
        self._draw_about()

    def _draw_nodes(self) -> None:
        """Where to drag to; the loads of so many need not be of this second."""
        found = [node for node in self.state.nodes.values() if node.up]
        if found != self.nodes.rows or self.state.heard >= self._nodes_due:
            self._nodes_due = self.state.heard + _NODES_EVERY
            self.nodes.show(found)

    def _draw_about(self) -> None:
        process = self.sheet.current
        parts = [_(KIND_NAMES[self.kind]) + f" ({len(self.sheet.rows)})"]
        if process is not None:
            now = self.omtui.feed.past is None  # why it could not have migrated then, nobody can tell
            parts.append(about(process, self.state, self._why.get(process.pid) if now else None))
            if now and process.pid != self._looking and not process.migrated:
                self._looking = process.pid
                self.omtui.work(partial(self._look, process.pid), "look", alone=True)
        self._put("#about", Content("  ".join(parts)))

    async def _look(self, pid: int) -> None:
        """Why it cannot migrate: asked for where the cursor rests, because the answer costs some reading."""
        await asyncio.sleep(_PATIENCE)
        while True:
            if self.omtui.feed.past is None:
                try:
                    self._why = {pid: await self.omtui.feed.cantmove(pid)}
                except NoAgent:  # that is said above; of the process nobody can tell
                    self._why = {}
                except OmError as error:  # it ended
                    self._why = {pid: str(error)}
                with contextlib.suppress(NoMatches):  # the screen may be taken down meanwhile
                    self._draw_about()
            await asyncio.sleep(_AGAIN)

    # ----------------------------------------------------------------------------------- actions

    def _for_chosen(self, make: Callable[[Process], Action]) -> None:
        self.omtui.perform([make(process) for process in self.chosen])
        self.sheet.unmark()

    def action_migrate(self) -> None:
        """Choose a node."""
        chosen = self.chosen
        if not chosen:
            return
        pids = [process.pid for process in chosen]

        def answered(to: str | None) -> None:
            if to:
                self.omtui.perform([actions.migrate(pid, to) for pid in pids])
                self.sheet.unmark()

        which = ", ".join(map(str, pids[:5])) + ("…" if len(pids) > 5 else "")
        up = [node for node in self.state.nodes.values() if node.up]
        question = _("Where to with process {pid}?").format(pid=which)
        now = chosen[0].node or self.state.own
        self.app.push_screen(Choose(question, up, self.state.own, now), answered)

    def on_sheet_selected(self, _event: Sheet.Selected) -> None:
        """Enter, or a double click: the migrator window, as in openMosixprocs."""
        self.action_migrate()

    def action_home(self) -> None:
        """Call home."""
        self._for_chosen(lambda process: actions.migrate(process.pid, "home"))

    def action_best(self) -> None:
        """Let it run where it runs best."""
        self._for_chosen(lambda process: actions.migrate(process.pid, "balance"))

    def action_lock(self) -> None:
        """Lock or unlock."""
        self._for_chosen(lambda process: actions.lock(process.pid, not process.locked))

    def action_signal(self, name: actions.SignalName) -> None:
        """Send a signal; a guest's are sent at its home."""
        if not self._guests_refused():
            self._for_chosen(lambda process: actions.signal(process.pid, name))

    def _guests_refused(self) -> bool:
        guest = next((process for process in self.chosen if process.guest), None)
        if guest is None:
            return False
        said = _("Process {pid} is a guest: that is done at its home, {node}.")
        self.omtui.say("", said.format(pid=guest.pid, node=self.state.name_of(guest.home)), True)
        return True

    def action_renice(self) -> None:
        """Ask for a nice value."""
        pids = [process.pid for process in self.chosen]
        if not pids or self._guests_refused():
            return

        def answered(text: str | None) -> None:
            for pid in pids if text else []:
                self.omtui.obey(f"renice -n {text} -p {pid}")

        self.app.push_screen(AskText(_("Nice value, from -20 (first) to 19 (last):"), "10"), answered)

    def on_sheet_dropped(self, event: Sheet.Dropped) -> None:
        """A process was dragged to a node."""
        target: Node | None = self.nodes.row_at(event.x, event.y) if self.nodes.display else None
        process = self.sheet.current
        if target is not None and process is not None:
            self.omtui.perform([actions.migrate(process.pid, str(target.view.number))])

    # -------------------------------------------------------------------------------------- view

    def on_sheet_moved(self, _event: Sheet.Moved) -> None:
        """Another process."""
        self._draw_about()

    def action_unmark(self) -> None:
        """No process is marked any more."""
        self.sheet.unmark()

    def action_tree(self) -> None:
        """As a tree, or flat."""
        self.as_tree = not self.as_tree
        self.draw_body()

    def action_kind(self) -> None:
        """All, those that are away, the guests."""
        self.kind = KINDS[(KINDS.index(self.kind) + 1) % len(KINDS)]
        self.draw_body()

    def action_nodes(self) -> None:
        """Show the nodes beside the list, or not."""
        self._wants_nodes = not self.nodes.display
        self.draw_body()

    def on_sheet_head_clicked(self, event: Sheet.HeadClicked) -> None:
        """Sort by it, or the other way round."""
        self._sort_by(event.key)

    def _sort_by(self, key: str) -> None:
        sheet = self.sheet
        sheet.backwards = not sheet.backwards if sheet.sort_key == key else key in _BIGGEST_FIRST
        sheet.sort_key = key
        self.as_tree = False
        self.draw_body()

    def action_sort(self, steps: int) -> None:
        """By another column."""
        now = PROCESS_KEYS.index(self.sheet.sort_key or "pid")
        self._sort_by(PROCESS_KEYS[(now + steps) % len(PROCESS_KEYS)])

    def action_reverse(self) -> None:
        """The other way round."""
        self._sort_by(self.sheet.sort_key or "pid")
