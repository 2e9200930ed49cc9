"""A row per process. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from omtools.i18n import N_, _
from omtui.cells import rate_of, size_of
from omtui.columns import Cell, Column
from omtui.model import Process, State, matching_processes, sorted_processes
from omtui.reasons import reason_for_people
from omtui.spans import Role, Span
from omtui.tree import as_tree

COLUMNS = (
    Column("pid", N_("PID"), 7, right=True),
    Column("node", N_("NODE"), 5, right=True),
    Column("marks", "", 2),
    Column("state", N_("S"), 1, rank=7),
    Column("moves", N_("MOVES"), 5, right=True, rank=3),
    Column("rate", N_("CALLS/S"), 7, right=True, rank=4),
    Column("bytes", N_("MOVED"), 5, right=True, rank=6),
    Column("frozen_ms", N_("MS"), 5, right=True, rank=5),
    Column("dfsa_bytes", N_("DFSA"), 5, right=True, rank=9),
    Column("reason", N_("STAYS BECAUSE"), 30, rank=8),
    Column("command", N_("COMMAND"), 0, least=20),
)
_NOTHING = Span("")
_TEXTS: dict[str, Callable[[Process], str]] = {
    "pid": lambda process: str(process.pid),
    "node": lambda process: str(process.home if process.guest else process.node),
    "marks": lambda process: process.marks.replace("-", " "),
    "state": lambda process: process.state,
}
_FIGURES: dict[str, Callable[[Process], str]] = {  # of those that the agent knows
    "moves": lambda process: str(process.moves or ""),
    "rate": lambda process: rate_of(process.rate) if process.migrated else "",
    "bytes": lambda process: size_of(process.bytes) if process.bytes else "",
    "dfsa_bytes": lambda process: size_of(process.dfsa_bytes) if process.dfsa_bytes else "",
    "frozen_ms": lambda process: f"{process.frozen_ms:.0f}" if process.frozen_ms else "",
}
KINDS = ("all", "away", "guests")
KIND_NAMES = {"all": N_("all processes"), "away": N_("away from home"), "guests": N_("guests here")}


def of_kind(found: Iterable[Process], kind: str) -> list[Process]:
    """Those that belong to one of `KINDS`."""
    if kind == "away":
        return [process for process in found if process.migrated and not process.guest]
    if kind == "guests":
        return [process for process in found if process.guest]
    return list(found)


class Wanted(NamedTuple):
    """What the list is to show.

    Attributes:
        kind: one of `KINDS`.
        text: that a process has in it.
        tree: children behind their parents; else sorted.
        key: by which.
        backwards: the other way round.
    """

    kind: str = "all"
    text: str = ""
    tree: bool = False
    key: str = "pid"
    backwards: bool = False


def rows_of(state: State, wanted: Wanted) -> list[Process]:
    """The rows of the list, in order."""
    found = matching_processes(of_kind(state.processes, wanted.kind), wanted.text)
    return as_tree(found) if wanted.tree else sorted_processes(found, wanted.key, wanted.backwards)


def cell_of(reason: Callable[[Process], str]) -> Cell[Process]:
    """What stands in a cell; `reason` tells why a process stays."""

    def found(process: Process, column: Column, _width: int) -> Span:
        if column.key == "reason":
            return Span(reason(process), "dim")
        return _cell(process, column.key)

    return found


def _cell(process: Process, key: str) -> Span:
    if key == "command":
        indent = "" if not process.depth else "  " * (process.depth - 1) + "└ "
        return Span(indent + process.command, _role(process))
    if (text := _TEXTS.get(key)) is not None:
        return Span(text(process), _role(process))
    return Span(_FIGURES[key](process)) if process.known else _NOTHING


def _role(process: Process) -> Role:
    if process.guest:
        return "guest"
    if process.node:
        return "away"
    return "locked" if process.locked else "plain"


def known_reason(process: Process, state: State) -> str:
    """Why it stays, if somebody has said so already."""
    if process.reason:
        return process.reason
    decided = state.decisions.get(process.pid)
    if decided is None or decided.what not in ("stay", "failed"):
        return ""
    return reason_for_people(decided.reason)


def about(process: Process, state: State, cantmove: str | None) -> str:
    """One sentence on a process; `cantmove` is None while that is not known."""
    if process.guest:
        where = _("a guest from {home}").format(home=state.name_of(process.home))
    elif process.node:
        where = _("away on {node}").format(node=state.name_of(process.node))
    else:
        where = _("at home")
    parts = [f"{process.pid}", where]
    if process.locked:
        parts.append(_("locked"))
    if process.phase not in ("", "away", "home"):
        parts.append(_(process.phase))
    if not process.migrated and cantmove is not None:
        parts.append(_("it stays: {why}").format(why=cantmove) if cantmove else _("it can migrate"))
    if process.migrated and process.bytes:
        moved = _("{size} moved in {ms:.0f} ms, {calls} calls done at home")
        parts.append(moved.format(size=size_of(process.bytes), ms=process.frozen_ms, calls=process.calls))
    if process.dfsa_bytes:
        parts.append(_("{size} read and written by DFSA").format(size=size_of(process.dfsa_bytes)))
    return ", ".join(parts)
