"""What happens, in sentences and figures. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import NamedTuple

from omtools.agent import api
from omtools.errors import OmError
from omtools.i18n import N_, _
from omtui.cells import bar, curve, rate_of, size_of
from omtui.columns import Cell, Column
from omtui.model import Process, State, status_for_people
from omtui.moving import Move
from omtui.reasons import reason_for_people
from omtui.spans import Line, Role, Span

AWAY_COLUMNS = (
    Column("pid", N_("PID"), 7, right=True),
    Column("node", N_("NODE"), 5, right=True),
    Column("phase", N_("PHASE"), 8, rank=3),
    Column("rate", N_("CALLS/S"), 7, right=True),
    Column("history", N_("last calls"), 14, rank=2),
    Column("calls", N_("CALLS"), 7, right=True, rank=4),
    Column("command", N_("COMMAND"), 0),
)
EVENT_COLUMNS = (Column("when", N_("TIME"), 8), Column("what", N_("WHAT HAPPENED"), 0))

_RATE = attrgetter("rate")
# Upper ends of the classes of freezing times, milliseconds; the last class has none
_CLASSES = (10, 20, 50, 100, 200, 500)

_PHASES = {
    "linking": N_("{process} is being linked to {node}"),
    "freezing": N_("{process} is stopped, its image is being taken"),
    "sending": N_("{process}: its image travels"),
    "away": N_("{process} runs on {node}: {size}, frozen {ms:.0f} ms"),
    "coming": N_("{process} is on its way"),
    "home": N_("{process} runs at home again: {size}, frozen {ms:.0f} ms"),
    "ended": N_("{process} ended"),
    "failed": N_("{process} could not be moved"),
}


class Happening(NamedTuple):
    """An event as a row."""

    when: float
    text: str
    role: Role


class Happenings:
    """All that is remembered as rows; each is worded once."""

    def __init__(self) -> None:
        self._worded: dict[int, tuple[tuple[float, int, api.Told], Happening]] = {}

    def rows(self, state: State, wanted: str = "", *, everything: bool = True) -> list[Happening]:
        """Oldest first, those with the wanted text in them; why others stay only if `everything`."""
        before, self._worded = self._worded, {}
        for item in state.happened:
            if not everything and _stays_elsewhere(item):
                continue
            known = before.get(id(item))  # they are kept, so nothing else can have that place in memory
            if known is None:
                known = item, _happening(item, state)
            self._worded[id(item)] = known
        text = wanted.strip().lower()
        found = [row for _item, row in self._worded.values()]
        return [row for row in found if text in row.text.lower()] if text else found


def _stays_elsewhere(item: tuple[float, int, api.Told]) -> bool:
    """A decision of another node to leave a process where it is: one that is asked each second."""
    _when, node, event = item
    return bool(node) and isinstance(event, api.Decided) and event.what == "stay"


def _happening(item: tuple[float, int, api.Told], state: State) -> Happening:
    when, node, event = item
    said, role = sentence_of(event, state, node)
    about_process = isinstance(event, api.ProcessChanged) or (isinstance(event, api.Decided) and event.pid)
    names = node and about_process
    return Happening(when, f"{state.name_of(node)}: {said}" if names else said, role)


def sentence_of(event: api.Told, state: State, node: int = 0) -> tuple[str, Role]:
    """An event for people, of the own node (0) or another."""
    if isinstance(event, api.SwitchChanged):
        words = status_for_people(event.status)
        return _("{node}: {words}").format(node=state.name_of(event.node), words=words), "locked"
    if isinstance(event, api.Decided):
        return _decided(event, state, node), "dim"
    if isinstance(event, api.MapChanged):
        return _("The map of the cluster has changed: {n} nodes").format(n=event.nodes), "dim"
    if isinstance(event, api.Clearing):
        return _("{done} of {total} processes are sent home").format(
            done=event.done, total=event.total
        ), "dim"
    if isinstance(event, api.Followed):
        return _followed(event, state), "trouble" if event.error else "dim"
    return _changed(event, state)


def _followed(event: api.Followed, state: State) -> str:
    if event.on:
        return _("What happens on {node} is heard from now on").format(node=state.name_of(event.node))
    why = f": {OmError.from_wire(event.error)}" if event.error else ""
    return _("What happens on {node} is not heard any more").format(node=state.name_of(event.node)) + why


def _changed(event: api.ProcessChanged, state: State) -> tuple[str, Role]:
    info = event.process
    template = _PHASES.get(info.phase, "{process}: {phase}")
    said = _(template).format(
        process=_("Process {pid}").format(pid=info.local_pid),
        node=state.name_of(info.target or info.where),
        size=size_of(info.bytes),
        ms=info.frozen_ms,
        phase=info.phase,
    )
    if info.reason:
        said += f" ({info.reason})"
    role: Role = "trouble" if info.phase == "failed" else "guest" if info.role == "guest" else "away"
    return said + ".", role


def _decided(event: api.Decided, state: State, node: int) -> str:
    about = state.name_of(node) if node else _("This node")
    if event.pid:
        about = _("Process {pid}").format(pid=event.pid)
    target = f" → {state.name_of(event.target)}" if event.target else ""
    why = f" ({reason_for_people(event.reason)})" if event.reason else ""
    return f"{about}: {_(event.what)}{target}{why}"


def event_cell(row: Happening, column: Column, _width: int) -> Span:
    """A cell of the list of events."""
    if column.key == "when":
        return Span(time.strftime("%H:%M:%S", time.localtime(row.when)), "dim")
    return Span(row.text, row.role)


def busiest(state: State, wanted: str = "") -> list[Process]:
    """What is away or a guest here, the one with the most calls first."""
    text = wanted.strip().lower()
    found = [process for process in state.processes if process.guest or process.node]
    if text:
        found = [one for one in found if text in one.command.lower() or text == str(one.pid)]
    return sorted(found, key=_RATE, reverse=True)  # they come by pid, and stay so where rates are equal


def away_cell(state: Callable[[], State]) -> Cell[Process]:
    """What stands in a cell of the list of processes that are away; `state` tells what is shown now."""

    def found(process: Process, column: Column, width: int) -> Span:
        role: Role = "guest" if process.guest else "away"
        if column.key == "history":
            flight = state().flights.get((state().own, "guest" if process.guest else "deputy", process.pid))
            if flight is not None and flight.sent:
                return Span(bar(flight.share, width), "high")
            pace = state().paces.get(("guest" if process.guest else "deputy", process.pid))
            rates = pace.history if pace is not None else ()
            return Span(curve(list(rates), width, max(1.0, *rates, 1.0)), "bar")
        texts = {
            "pid": str(process.pid),
            "node": str(process.home if process.guest else process.node),
            "phase": _(process.phase),
            "rate": rate_of(process.rate),
            "calls": str(process.calls),
            "command": process.command,
        }
        return Span(texts[column.key], role if column.key in ("pid", "node") else "plain")

    return found


def freezing_lines(moves: Iterable[Move], width: int) -> list[Line]:
    """How long processes stood still when they moved: a class per line, with a bar."""
    times = [move.frozen_ms for move in moves if move.frozen_ms > 0]
    counts = [0] * (len(_CLASSES) + 1)
    for ms in times:
        counts[next((i for i, end in enumerate(_CLASSES) if ms < end), len(_CLASSES))] += 1
    names = [f"< {end} ms" for end in _CLASSES] + [f"≥ {_CLASSES[-1]} ms"]
    most = max(counts, default=0)
    lines: list[Line] = [(Span(_("{n} moves, frozen for").format(n=len(times)), "title"),)]
    room = max(1, width - 16)
    for name, count in zip(names, counts, strict=True):
        drawn = bar(count / most if most else 0.0, room)
        lines.append((Span(f"{name:>9} ", "axis"), Span(f"{count:>4} "), Span(drawn, "bar")))
    return lines
