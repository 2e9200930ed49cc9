"""Where the nodes stand: on a circle that fills the terminal. Pure."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from omtui.model import Node, Process

BOX_WIDTH, BOX_HEIGHT = 16, 4  # cells of a node: name, load, two rows of processes


class Place(NamedTuple):
    """A node on the screen.

    Attributes:
        number: the node's.
        x: leftmost column of its box.
        y: topmost line of its box.
    """

    number: int
    x: int
    y: int

    @property
    def centre(self) -> tuple[int, int]:
        """Where lines to it end."""
        return self.x + BOX_WIDTH // 2, self.y + 1

    def contains(self, x: int, y: int) -> bool:
        """Whether a cell belongs to its box."""
        return self.x <= x < self.x + BOX_WIDTH and self.y <= y < self.y + BOX_HEIGHT

    def overlaps(self, other: Place) -> bool:
        """Whether two boxes have a cell in common."""
        return abs(self.x - other.x) < BOX_WIDTH and abs(self.y - other.y) < BOX_HEIGHT


def around(numbers: Sequence[int], width: int, height: int) -> list[Place]:
    """Nodes on a circle, the first at the top, clockwise; as many of them as fit without touching."""
    return list(_fitting(tuple(numbers), width, height))


@functools.lru_cache(maxsize=8)  # it is asked for again with each frame of a move
def _fitting(numbers: tuple[int, ...], width: int, height: int) -> list[Place]:
    for count in range(len(numbers), 0, -1):
        places = _around(numbers[:count], width, height)
        if not any(a.overlaps(b) for i, a in enumerate(places) for b in places[i + 1 :]):
            return places
    return []


def _around(numbers: Sequence[int], width: int, height: int) -> list[Place]:
    room_x, room_y = max(0, width - BOX_WIDTH), max(0, height - BOX_HEIGHT)
    places = []
    for index, number in enumerate(numbers):
        angle = 2 * math.pi * index / len(numbers) - math.pi / 2
        x = round(room_x / 2 * (1 + math.cos(angle)))
        y = round(room_y / 2 * (1 + math.sin(angle)))
        places.append(Place(number, x, y))
    return places


def most_that_fit(width: int, height: int) -> int:
    """How many nodes there is room for, at most."""
    return max(1, 2 * (width // BOX_WIDTH) + 2 * (height // BOX_HEIGHT))


def chosen_nodes(
    nodes: Iterable[Node], processes: Iterable[Process], own: int, room: int, turned: int = 0
) -> list[int]:
    """The numbers of the nodes to show.

    This node stands first, then those that have to do with processes of this one or guests here, then the
    others; `turned` leaves that many of the others out at the beginning.
    """
    numbers = [node.view.number for node in nodes]
    away = (process for process in processes if process.guest or process.node)
    concerned = {process.home if process.guest else process.node for process in away}
    first = [number for number in numbers if number in concerned and number != own]
    rest = [number for number in numbers if number not in concerned and number != own]
    others = [*first, *rest]
    if others:
        turned %= len(others)
    ordered = ([own] if own in numbers else []) + others[turned:] + others[:turned]
    return ordered[:room]
