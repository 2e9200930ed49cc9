"""The picture of openMosixmigmon, in cells. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from omtools.cluster.load import FULL
from omtools.i18n import _
from omtui.cells import bar, size_of
from omtui.migmon.circle import BOX_HEIGHT, BOX_WIDTH, Place
from omtui.model import Node, Process
from omtui.moving import Flight, Move, flight_words
from omtui.spans import Line, Role, Span

LASTS = 1.5  # seconds that a move is drawn
_SQUARE, _LOCKED, _DOT = "■", "▣", "·"
_ROW = BOX_WIDTH // 2  # squares beside each other
_ROWS = 2
SQUARES = _ROW * _ROWS  # of a node, at most


class Look(NamedTuple):
    """What is chosen.

    Attributes:
        process: pid of the process the keys are for, 0: none.
        target: number of the node it would go to, 0: none.
        dragged: where the mouse holds it.
    """

    process: int = 0
    target: int = 0
    dragged: tuple[int, int] | None = None


@dataclass
class Scene:
    """A drawn picture.

    Attributes:
        lines: exactly as many and as wide as was asked.
        squares: pids by their cells.
        places: the nodes that are on it.
    """

    lines: list[Line] = field(default_factory=list)
    squares: dict[tuple[int, int], int] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)

    def node_at(self, x: int, y: int) -> int:
        """The node at a cell, 0 if there is none."""
        return next((place.number for place in self.places if place.contains(x, y)), 0)

    def process_at(self, x: int, y: int) -> int:
        """The pid at a cell, 0 if there is none."""
        return self.squares.get((x, y), 0)


class Travelling(NamedTuple):
    """A square between two nodes.

    Attributes:
        source: number of the node it leaves.
        target: of the node it goes to.
        progress: 0 to 1.
        said: its figures.
    """

    source: int
    target: int
    progress: float
    said: str


class _Cells:
    """Cells that are written one over the other."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._letters = [[" "] * width for _row in range(height)]
        self._roles: list[list[Role]] = [["plain"] * width for _row in range(height)]

    def put(self, x: int, y: int, text: str, role: Role) -> None:
        if 0 <= y < self.height:
            letters, roles = self._letters[y], self._roles[y]
            for column, letter in enumerate(text, x):
                if 0 <= column < self.width:
                    letters[column] = letter
                    roles[column] = role

    def lines(self) -> list[Line]:
        return [_line(letters, roles) for letters, roles in zip(self._letters, self._roles, strict=True)]


def _line(letters: list[str], roles: list[Role]) -> Line:
    spans, start = [], 0
    for role, group in itertools.groupby(roles):
        end = start + len(list(group))
        spans.append(Span("".join(letters[start:end]), role))
        start = end
    return tuple(spans)


def by_node(processes: Sequence[Process], own: int) -> dict[int, list[Process]]:
    """Processes, given by pid, by the node that executes them; what the agent knows of comes first."""
    found: dict[int, list[Process]] = {}
    known: list[Process] = []
    rest: list[Process] = []
    for process in reversed(processes):
        if process.guest or process.node:
            found.setdefault(own if process.guest else process.node, []).append(process)
        elif process.known:
            known.append(process)
        else:
            rest.append(process)
    if known or rest:
        found.setdefault(own, []).extend(known + rest)
    return found


def in_order(groups: Mapping[int, Sequence[Process]], places: Sequence[Place]) -> list[Process]:
    """The processes that have a square, node by node: how the keys go through them."""
    return [process for place in places for process in groups.get(place.number, [])[:SQUARES]]


def cells_between(start: tuple[int, int], end: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The cells of a straight line, by even steps."""
    (x1, y1), (x2, y2) = start, end
    steps = max(abs(x2 - x1) // 2, abs(y2 - y1), 1)
    for step in range(1, steps):
        yield x1 + round((x2 - x1) * step / steps), y1 + round((y2 - y1) * step / steps)


def draw_scene(  # noqa: PLR0917 - all of them are what is drawn
    places: Sequence[Place],
    nodes: Mapping[int, Node],
    groups: Mapping[int, Sequence[Process]],
    own: int,
    size: tuple[int, int],
    look: Look,
    moves: Iterable[Travelling] = (),
) -> Scene:
    """Draw it.

    Args:
        places: of the nodes.
        nodes: by number.
        groups: processes that this node knows, by the node that executes them.
        own: number of this node.
        size: columns and lines.
        look: what is chosen.
        moves: those that are going on.
    """
    cells = _Cells(*size)
    scene = Scene(places=list(places))
    where = {place.number: place for place in places}
    _draw_lines(cells, where, groups, look)
    for place in places:
        _draw_node(cells, place, nodes[place.number], own, look)
        _draw_squares(cells, scene, place, groups.get(place.number, []), look)
    for move in moves:
        _draw_move(cells, where, move)
    if look.dragged is not None:
        cells.put(*look.dragged, _SQUARE, "key")
    scene.lines = cells.lines()
    return scene


def _draw_lines(
    cells: _Cells, where: Mapping[int, Place], groups: Mapping[int, Sequence[Process]], look: Look
) -> None:
    """From each process that is away to its home; that of the chosen one is drawn last, over the others."""
    ends: dict[tuple[int, int], Role] = {}
    for at in where:
        for process in groups.get(at, ()):
            if not process.migrated:
                break  # those that are away, and guests, come first
            if process.home in where:
                pair = (process.home, at)
                chosen = process.pid == look.process or ends.get(pair) == "key"
                ends[pair] = "key" if chosen else "line"
    for (home, at), role in sorted(ends.items(), key=lambda item: item[1] == "key"):
        for x, y in cells_between(where[home].centre, where[at].centre):
            cells.put(x, y, _DOT, role)


def _draw_node(cells: _Cells, place: Place, node: Node, own: int, look: Look) -> None:
    number, name = node.view.number, node.view.name
    role: Role = "own" if number == own else "number" if node.up else "dead"
    title = f"{number} {name}"[: BOX_WIDTH - 2]
    left, right = ("[", "]") if number == look.target else (" ", " ")
    for row in range(BOX_HEIGHT):
        cells.put(place.x, place.y + row, " " * BOX_WIDTH, "plain")
    cells.put(
        place.x, place.y, f"{left}{title}{right}".center(BOX_WIDTH), "key" if number == look.target else role
    )
    if node.up:
        share = node.view.load / (2 * FULL)
        drawn = bar(share, BOX_WIDTH - 8)
        cells.put(place.x + 1, place.y + 1, f"{node.view.load / FULL:5.2f} ", "axis")
        cells.put(place.x + 7, place.y + 1, drawn, "high" if share > 0.75 else "bar")
    else:
        cells.put(place.x, place.y + 1, _(node.words).center(BOX_WIDTH)[:BOX_WIDTH], "dead")


def _draw_squares(
    cells: _Cells, scene: Scene, place: Place, processes: Sequence[Process], look: Look
) -> None:
    for index, process in enumerate(processes[:SQUARES]):
        x, y = place.x + 2 * (index % _ROW), place.y + 2 + index // _ROW
        role: Role = "guest" if process.guest else "away" if process.node else "plain"
        chosen = process.pid == look.process
        square = _LOCKED if process.locked else _SQUARE
        cells.put(x, y, square, "key" if chosen else role)
        if chosen:
            cells.put(x + 1, y, "◄", "key")
        scene.squares[x, y] = process.pid
    more = len(processes) - SQUARES
    if more > 0:
        text = f"+{more}"
        cells.put(place.x + BOX_WIDTH - len(text), place.y + BOX_HEIGHT - 1, text, "dim")
        for x in range(place.x + BOX_WIDTH - len(text), place.x + BOX_WIDTH):
            scene.squares.pop((x, place.y + BOX_HEIGHT - 1), None)


def _draw_move(cells: _Cells, where: Mapping[int, Place], move: Travelling) -> None:
    """A square on its way, with its figures beside it."""
    if move.source not in where or move.target not in where:
        return
    (x1, y1), (x2, y2) = where[move.source].centre, where[move.target].centre
    share = min(1.0, max(0.0, move.progress))
    x, y = x1 + round((x2 - x1) * share), y1 + round((y2 - y1) * share)
    start = x + 2 if x + 2 + len(move.said) <= cells.width else x - 1 - len(move.said)
    cells.put(x, y, _SQUARE, "key")
    cells.put(start, y, move.said, "title")


def under_way(
    moves: Iterable[Move], flights: Iterable[Flight], now: float, shown: Container[int]
) -> list[Travelling]:
    """What is on its way between nodes that are shown, at this moment.

    Args:
        moves: that were seen to be over; they are drawn for a moment.
        flights: those whose pages travel, which are drawn where their pages are.
        now: seconds since the epoch.
        shown: numbers of nodes.
    """
    over = [
        Travelling(move.source, move.target, (now - move.when) / LASTS,
                   f"{move.pid}: {size_of(move.bytes)}, {move.frozen_ms:.0f} ms")
        for move in moves
        if 0 <= now - move.when < LASTS
    ]  # fmt: skip
    going = [
        Travelling(flight.source, flight.target, flight.share, f"{flight.pid}: {flight_words(flight)}")
        for flight in flights
    ]
    return [one for one in over + going if one.source in shown and one.target in shown]
