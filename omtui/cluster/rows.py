"""A row per node. Pure."""

from __future__ import annotations

from collections.abc import Callable

from omtools.agent import api
from omtools.cluster.load import FULL, QUIET
from omtools.errors import OmError
from omtools.i18n import N_, _
from omtui.actions import known_switches
from omtui.cells import bar, curve, paired, size_of, slider
from omtui.columns import Cell, Column
from omtui.model import HISTORY, Node, State, memory_share
from omtui.spans import Line, Role, Span, as_columns
from omtui.sums import efficiency, totals

COLUMNS = (
    Column("number", N_("#"), 5, right=True),
    Column("name", N_("NODE"), 0, most=24, least=12),
    Column("status", N_("STATUS"), 8, rank=1),
    Column("cpus", N_("CPUS"), 4, right=True, rank=4),
    Column("speed", N_("SPEED"), 6, right=True, rank=2),
    Column("slider", "", 11, rank=9),
    Column("load", N_("LOAD"), 5, right=True),
    Column("load-bar", "", 6, rank=5),
    Column("history", N_("last minute"), 0, rank=6, most=HISTORY),
    Column("memory", N_("MEMORY"), 6, rank=3),
    Column("memory-history", "", 10, rank=10),
    Column("guests", N_("IN"), 3, right=True, rank=7),
    Column("away", N_("OUT"), 3, right=True, rank=8),
)
CHOICE_COLUMNS = (
    Column("number", N_("#"), 5, right=True),
    Column("name", N_("NODE"), 0),
    Column("load", N_("LOAD"), 5, right=True),
    Column("load-bar", "", 6, rank=2),
    Column("memory", N_("MEMORY"), 6, rank=1),
)
_SORTED_BY = {"load-bar": "load", "history": "load", "slider": "speed", "memory-history": "memory"}
_FIGURES: dict[str, Callable[[api.NodeView], str]] = {
    "cpus": lambda view: str(view.cpus),
    "speed": lambda view: str(view.speed),
    "load": lambda view: f"{view.load / FULL:.2f}",
    "guests": lambda view: str(view.guests or ""),
    "away": lambda view: str(view.away or ""),
}
_HIGH = 0.75  # of a bar: drawn in another colour
_MOST = 2 * FULL  # load at the end of a bar


def sort_key_of(column: str) -> str:
    """By what the rows are sorted when that title is clicked."""
    return _SORTED_BY.get(column, column)


def cell_of(own: Callable[[], int]) -> Cell[Node]:
    """What stands in a cell; `own` tells the node from where the cluster is seen."""

    def found(node: Node, column: Column, width: int) -> Span:
        if not node.up and column.key not in ("number", "name", "status", "history"):
            return Span("")
        return _cell(node, column.key, width, own())

    return found


def _cell(node: Node, key: str, width: int, own: int) -> Span:
    view = node.view
    if (figure := _FIGURES.get(key)) is not None:
        return Span(figure(view))
    if key in ("number", "name"):
        text = str(view.number) if key == "number" else view.name
        return Span(text, "own" if view.number == own else "number" if node.up else "dead")
    if key == "status":
        return Span(_(node.words), _status_role(node))
    return _drawn(node, key, width)


def _status_role(node: Node) -> Role:
    if not node.up:
        return "dead"
    return "plain" if node.words == "UP" else "guest"


def _drawn(node: Node, key: str, width: int) -> Span:
    view = node.view
    if key == "slider":
        return Span(slider(view.speed, width), "axis")
    if key == "load-bar":
        share = view.load / _MOST
        return Span(bar(share, width), "high" if share > _HIGH else "bar")
    if key == "history":
        return Span(curve(node.loads, width, _MOST), "bar")
    if key == "memory":
        share = memory_share(view)
        return Span(bar(share, width), "high" if share > _HIGH else "bar")
    return Span(curve(node.memory, width, 1.0), "bar")


def sums_line(state: State) -> Line:
    """The whole cluster in one line."""
    sums = totals(node.view for node in state.nodes.values())
    even = efficiency(node.view.load for node in state.nodes.values() if node.up)
    said = _(
        "{up} of {nodes} nodes up, {cpus} CPUs, load {load:.2f}, memory {used} of {total}, balance {even} %"
    ).format(
        up=sums.up,
        nodes=sums.nodes,
        cpus=sums.cpus,
        load=sums.load / FULL,
        used=size_of(sums.mem_used),
        total=size_of(sums.mem_total),
        even=even,
    )
    return (Span(said, "title"),)


def switches_of(node: Node, report: api.NodeReport | None) -> list[tuple[str, bool]]:
    """Name and position of each switch of a node; its own report, if there is one, knows better."""
    own = report if report is not None and report.number == node.view.number else None
    status = own.status if own is not None and own.error is None else node.view.status
    return [(row.name, row.is_on(status, own)) for row in known_switches()]


def details(report: api.NodeReport, node: Node | None) -> str:
    """All that is known of a node, for people."""
    rows = [
        (_("number"), str(report.number)),
        (_("address"), report.address),
    ]
    if report.error is not None:
        rows.append((_("down"), str(OmError.from_wire(report.error))))
    else:
        rows += _figures(report, node)
    if node is not None and node.loads:
        loads, memory = paired(node.loads), paired(node.memory)
        rows.append((_("load, last minute"), curve(loads, len(loads), max(FULL, *loads))))
        rows.append((_("memory, last minute"), curve(memory, len(memory), 1.0)))
    return as_columns(rows)


def _figures(report: api.NodeReport, node: Node | None) -> list[tuple[str, str]]:
    used = max(0, report.mem_total - report.mem_available)
    return [
        (_("status"), f"{report.status} ({node.words if node else ''})"),
        (_("load"), f"{report.load / FULL:.2f}"),
        (_("speed"), _("{speed}, {cpus} CPUs").format(speed=report.speed, cpus=report.cpus)),
        (_("memory"), f"{size_of(used)} / {size_of(report.mem_total)}"),
        (_("utilizability"), f"{report.util} %"),
        (_("guests here"), str(report.guests)),
        (_("own processes away"), str(report.away)),
        (_("cluster's files"), report.mount or _("not mounted")),
        (_("tells others"), _("nothing") if report.status & QUIET else _("its load")),
        (_("kernel"), report.release),
        (_("version"), report.version),
    ]
