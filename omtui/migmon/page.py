"""openMosixmigmon on the screen: drag a process to a node, or do the same with keys."""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click, MouseDown, MouseMove, MouseUp, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from omtools.i18n import N_, _
from omtui import actions
from omtui.migmon.circle import around, chosen_nodes, most_that_fit
from omtui.migmon.scene import Look, Scene, by_node, draw_scene, in_order, under_way
from omtui.model import Process, State, matching_processes
from omtui.page import Page
from omtui.paint import Canvas
from omtui.processes.rows import about

_FRAMES = 10  # per second, while something moves


class Circle(Canvas):
    """The picture.

    Attributes:
        look: what is chosen.
        scene: what is drawn.
        processes: those that may be on it.
        groups: the same by the node that executes them.
    """

    class Chosen(Message):
        """Another process or node is chosen."""

    class Wanted(Message):
        """A process shall go to a node, 0: home."""

        def __init__(self, pid: int, node: int) -> None:
            super().__init__()
            self.pid = pid
            self.node = node

    def __init__(self) -> None:
        super().__init__()
        self.look = Look()
        self.scene = Scene()
        self.processes: list[Process] = []
        self.groups: dict[int, list[Process]] = {}
        self._numbers: list[int] = []
        self._known: tuple[int, int, Size, list[int]] | None = None  # what `_numbers` was chosen from
        self.turned = 0
        self._state = State()
        self._held = 0
        self._timer: Timer | None = None

    def show(self, state: State, processes: list[Process]) -> None:
        """Show these."""
        self._state = state
        known = (state.own, self.turned, self.size, list(state.nodes))
        if processes is not self.processes:
            self.processes = processes
            self.groups = by_node(processes, state.own)
            self._known = None
        if known != self._known:
            self._known = known
            room = most_that_fit(*self.size)
            self._numbers = chosen_nodes(state.nodes.values(), processes, state.own, room, self.turned)
        self.draw_again()

    def draw_again(self) -> None:
        """Draw; only lines that have changed go to the terminal."""
        width, height = self.size
        state, before = self._state, self.scene.lines
        known = [number for number in self._numbers if number in state.nodes]
        places = around(known, width, height)
        shown = {place.number for place in places}
        moving = under_way(state.moves, state.travelling(), state.now(), shown)
        self.scene = draw_scene(
            places, state.nodes, self.groups, state.own, (width, height), self.look, moving
        )
        for y, line in enumerate(self.scene.lines):
            if y >= len(before) or before[y] != line:
                self.refresh(Region(0, y, width, 1))
        if moving and self._timer is None and state.when is None:  # in the past they stand where they stood
            self._timer = self.set_interval(1 / _FRAMES, self.draw_again)
        elif self._timer is not None and (not moving or state.when is not None):
            self._timer.stop()
            self._timer = None

    def render_line(self, y: int) -> Strip:
        """One line of it."""
        line = self.scene.lines[y] if y < len(self.scene.lines) else ()
        return self.strip_of(line, self.size.width)

    def on_resize(self, _event: Resize) -> None:
        """Another size, another circle."""
        self.show(self._state, self.processes)

    @property
    def current(self) -> Process | None:
        """The chosen process."""
        return self.process(self.look.process)

    def process(self, pid: int) -> Process | None:
        """One of those that may be on it."""
        at = bisect_left(self.processes, pid, key=attrgetter("pid"))
        found = self.processes[at : at + 1]
        return found[0] if found and found[0].pid == pid else None

    def choose(self, look: Look) -> None:
        """Choose something else."""
        if look != self.look:
            self.look = look
            self.draw_again()
            self.post_message(self.Chosen())

    def step_process(self, steps: int) -> None:
        """To the next process."""
        found = [one.pid for one in in_order(self.groups, self.scene.places)]
        if found:
            index = found.index(self.look.process) + steps if self.look.process in found else 0
            self.choose(self.look._replace(process=found[index % len(found)]))

    def step_target(self, steps: int) -> None:
        """To the next node."""
        found = [place.number for place in self.scene.places]
        here = self._where(self.look.process)
        others = [number for number in found if number != here] if self.look.process else found
        if others:
            index = others.index(self.look.target) + steps if self.look.target in others else 0
            self.choose(self.look._replace(target=others[index % len(others)]))

    # ------------------------------------------------------------------------------------ mouse

    def on_mouse_down(self, event: MouseDown) -> None:
        """Take hold of a square."""
        self._held = self.scene.process_at(int(event.x), int(event.y))
        if self._held:
            self.capture_mouse()
            self.choose(self.look._replace(process=self._held))
        elif node := self.scene.node_at(int(event.x), int(event.y)):
            self.choose(self.look._replace(target=node))

    def on_mouse_move(self, event: MouseMove) -> None:
        """It moves along; without a button, whatever is under the mouse is told about."""
        x, y = int(event.x), int(event.y)
        if self._held:
            node = self.scene.node_at(x, y)
            self.choose(self.look._replace(dragged=(x, y), target=node or self.look.target))
        elif pid := self.scene.process_at(x, y):
            self.choose(self.look._replace(process=pid))

    def on_mouse_up(self, event: MouseUp) -> None:
        """Let go."""
        self.release_mouse()
        held, self._held = self._held, 0
        dragged = self.look.dragged is not None
        self.choose(self.look._replace(dragged=None))
        node = self.scene.node_at(int(event.x), int(event.y))
        if held and dragged and node and node != self._where(held):
            self.post_message(self.Wanted(held, node))

    def _where(self, pid: int) -> int:
        process = self.process(pid)
        return process.node if process is not None and process.node else self._state.own

    def on_click(self, event: Click) -> None:
        """A double click on a process that is away sends it home."""
        pid = self.scene.process_at(int(event.x), int(event.y))
        process = self.process(pid)
        if event.chain == 2 and process is not None and process.migrated:
            self.post_message(self.Wanted(pid, 0))


class MigmonPage(Page):
    """Nodes in a circle."""

    NAME = "migmon"
    LIST_KEYS: ClassVar[tuple[tuple[str, str], ...]] = (
        (N_("mouse"), N_("drag a square to a node to migrate it, double click one to send it home")),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l,tab", "process(1)", N_("process"), tooltip=N_("the next process"), id="migmon.next"),
        Binding(
            "left,j,shift+tab", "process(-1)", N_("the process before"), show=False, id="migmon.previous"
        ),
        Binding("down", "target(1)", N_("node"), tooltip=N_("the next node"), id="migmon.node-next"),
        Binding("up", "target(-1)", N_("the node before"), show=False, id="migmon.node-previous"),
        Binding(
            "enter,m", "migrate", N_("migrate"), tooltip=N_("the process to the node"), id="migmon.migrate"
        ),
        Binding("h", "home", N_("home"), tooltip=N_("call the process home"), id="migmon.home"),
        Binding("b", "best", N_("best"), tooltip=N_("let it run where it runs best"), id="migmon.best"),
        Binding("right_square_bracket", "turn(1)", N_("turn"), tooltip=N_("other nodes"), id="migmon.turn"),
        Binding("left_square_bracket", "turn(-1)", N_("turn back"), show=False, id="migmon.turn-back"),
    ]

    def body(self) -> ComposeResult:
        """The picture, and a line on what is chosen."""
        yield Circle()
        yield Static(id="about")

    @property
    def circle(self) -> Circle:
        """The picture."""
        return self.query_one(Circle)

    @property
    def chosen(self) -> list[Process]:
        """What actions are for."""
        current = self.circle.current
        return [] if current is None else [current]

    def first_focus(self) -> Widget | None:
        """The picture."""
        return self.circle

    def draw_body(self) -> None:
        """The picture."""
        self.circle.show(self.state, matching_processes(self.state.processes, self.wanted))
        self._draw_about()

    def _draw_about(self) -> None:
        process = self.circle.current
        if process is None:
            text = _("■ at home   green: away, with a line to its home   yellow: a guest")
        else:
            target = self.circle.look.target
            to = f" → {self.state.name_of(target)}" if target else ""
            text = f"{about(process, self.state, None)}{to}  {process.command}"
        self._put("#about", Content(text))

    def on_circle_chosen(self, _event: Circle.Chosen) -> None:
        """Tell about it."""
        self._draw_about()

    def on_circle_wanted(self, event: Circle.Wanted) -> None:
        """The mouse asked for it."""
        self._send(event.pid, event.node)

    def _send(self, pid: int, node: int) -> None:
        process = self.circle.process(pid)
        home = process is not None and node == process.home
        self.omtui.perform([actions.migrate(pid, "home" if home or not node else str(node))])

    def action_process(self, steps: int) -> None:
        """Choose the next process."""
        self.circle.step_process(steps)

    def action_target(self, steps: int) -> None:
        """Choose the next node."""
        self.circle.step_target(steps)

    def action_migrate(self) -> None:
        """The chosen process to the chosen node."""
        look = self.circle.look
        if not self.chosen or not look.target:
            self.omtui.say("", _("Choose a process with ← → and a node with ↑ ↓ first."), True)
            return
        self._send(look.process, look.target)

    def action_home(self) -> None:
        """Call it home."""
        self.omtui.perform([actions.migrate(process.pid, "home") for process in self.chosen])

    def action_best(self) -> None:
        """Let it run where it runs best."""
        self.omtui.perform([actions.migrate(process.pid, "balance") for process in self.chosen])

    def action_turn(self, steps: int) -> None:
        """Other nodes, where not all fit."""
        self.circle.turned += steps
        self.draw_body()
