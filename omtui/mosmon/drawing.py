"""One bar per node, as mosmon drew them. Pure: from what is known of the nodes to lines of text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from omtools.agent import api
from omtools.cluster.load import FULL, STANDARD_SPEED
from omtools.i18n import _
from omtui.model import is_up, used_memory
from omtui.mosmon.settings import TITLES, Numbering, Settings
from omtui.spans import Line, Role, Span, cut, joined, text_of
from omtui.sums import totals

_MB = 1 << 20
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_ASCII = "    ..::#"  # eighths of a cell, for terminals that have nothing better
_HIGH = 0.75  # of the scale: drawn in another colour
_LEAST_LOAD = 1.0  # the scale of an idle cluster
_LOG_FLOOR = 0.01  # load at the bottom of a log scale
_DEAD = "DEAD"


@dataclass(frozen=True, slots=True)
class Scale:
    """From figures to heights.

    Attributes:
        top: the figure at the top.
        log: in decades.
    """

    top: float
    log: bool = False

    def share(self, value: float) -> float:
        """Of the whole height, 0 to 1."""
        if self.log:
            if value <= _LOG_FLOOR:
                return 0.0
            return min(1.0, math.log10(value / _LOG_FLOOR) / math.log10(self.top / _LOG_FLOOR))
        return min(1.0, max(0.0, value / self.top))

    def value(self, share: float) -> float:
        """The figure at that share of the height."""
        return float(_LOG_FLOOR * (self.top / _LOG_FLOOR) ** share) if self.log else self.top * share


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawn picture.

    Attributes:
        lines: never more or wider than was asked.
        shown: numbers of the nodes that are on it.
        numbering: that was chosen.
    """

    lines: list[Line]
    shown: list[int]
    numbering: Numbering

    def text(self) -> str:
        """Without looks."""
        return "\n".join(text_of(line).rstrip() for line in self.lines)


class _Ground(NamedTuple):
    """How the picture is divided, in cells: the axis' columns, columns per node, rows of numbers and bars."""

    numbering: Numbering
    margin: int
    step: int
    rows: int
    tall: int
    digits: int


def draw(
    nodes: Sequence[api.NodeView],
    settings: Settings,
    width: int,
    height: int,
    *,
    own: int = 0,
    trouble: str = "",
) -> Picture:
    """Draw the nodes.

    Args:
        nodes: by number.
        settings: what of them.
        width: columns of the terminal.
        height: its lines.
        own: number of the node to tell from the others.
        trouble: a sentence for the last line.
    """
    seen = [view for view in nodes if settings.dead or is_up(view)]
    footer: list[Line] = [(Span(trouble, "trouble"),)] if trouble else []
    heads = _heads(nodes, settings)[: max(0, height - 4 - len(footer))]
    scale = _scale([view for view in nodes if is_up(view)], settings)
    labels = _labels(scale, settings)
    margin = min(max(map(len, labels.values()), default=0) + 1, max(0, width - 4))
    digits = max((len(str(view.number)) for view in seen), default=1)
    room = height - len(heads) - len(footer)
    numbering = _numbering(settings.numbering, len(seen), digits, width - margin, room)
    rows = min(1 if numbering == "wide" else digits, max(0, room - 1))
    step = {"auto": digits + 1, "wide": digits + 1, "vertical": 2, "tight": 1}[numbering]
    ground = _Ground(numbering, margin, step, rows, max(0, room - rows), digits)
    shown = _window(seen, settings.first, max(1, (width - margin) // step))
    lines = [*heads, *_bars(shown, settings, scale, labels, ground), *_numbers(shown, ground, own)]
    lines += footer
    if not seen and ground.tall:
        said = _("no node is up") if nodes else _("no news of any node yet")
        lines[len(heads) + ground.tall // 2] = (Span(said),)
    lines = [cut(line, width) for line in lines[:height]]
    return Picture(lines, [view.number for view in shown], numbering)


def _heads(nodes: Sequence[api.NodeView], settings: Settings) -> list[Line]:
    heads: list[Line] = [(Span(_(TITLES[settings.figure]), "title"),)]
    if settings.totals:
        sums = totals(nodes)
        said = _("{up} of {nodes} nodes, {cpus} CPUs, load {load:.2f}, memory {used}/{total} MB").format(
            up=sums.up,
            nodes=sums.nodes,
            cpus=sums.cpus,
            load=sums.load / FULL,
            used=sums.mem_used // _MB,
            total=sums.mem_total // _MB,
        )
        heads.append((Span(said),))
    if settings.yardstick:
        said = _("yardstick {speed}: load 1 is one process that computes on such a CPU")
        heads.append((Span(said.format(speed=STANDARD_SPEED)),))
    return heads


def _figure(view: api.NodeView, settings: Settings) -> float:
    figures: dict[str, Callable[[], float]] = {
        "load": lambda: view.load / FULL,
        "log": lambda: view.load / FULL,
        "speed": lambda: float(view.speed),
        "memory": lambda: used_memory(view) / _MB,
        "raw": lambda: max(0, view.mem_total - view.mem_free) / _MB,
        "util": lambda: float(view.util),
    }
    return figures[settings.figure]()


def _scale(up: Sequence[api.NodeView], settings: Settings) -> Scale:
    if settings.figure == "util":
        return Scale(100.0)
    if settings.figure in ("memory", "raw"):
        return Scale(_round_up(max(1.0, *(view.mem_total / _MB for view in up), 1.0)))
    highest = max((_figure(view, settings) for view in up), default=0.0)
    if settings.figure == "speed":
        return Scale(_round_up(max(highest, 1.0)))
    if settings.figure == "log":
        return Scale(10.0 ** max(0, math.ceil(math.log10(max(highest, _LEAST_LOAD)))), log=True)
    return Scale(_round_up(max(highest, _LEAST_LOAD)))


def _round_up(value: float) -> float:
    """To a figure that reads well: 1, 1.5, 2, 3, 5 or 8 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next((power * step for step in (1, 1.5, 2, 3, 5, 8) if power * step >= value), power * 10)


def _label(value: float) -> str:
    if value >= 100_000:
        return f"{value / 1000:.0f}k"
    return f"{value:.0f}" if value >= 10 or value == round(value) else f"{value:.2f}"[:4]


def _labels(scale: Scale, settings: Settings) -> dict[float, str]:
    """What stands beside the axis, by share of the height."""
    labels = {share: _label(scale.value(share)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)}
    if settings.figure == "log":
        labels[0.0] = "0"
    return labels


def _numbering(wanted: Numbering, count: int, digits: int, width: int, room: int) -> Numbering:
    if wanted != "auto":
        return wanted if wanted == "wide" or room > digits else "wide"
    fits_wide = count * (digits + 1) <= width
    fits_vertical = count * 2 <= width and room >= digits + 3
    return "vertical" if fits_vertical and not fits_wide else "wide"


def _window(seen: Sequence[api.NodeView], first: int, places: int) -> Sequence[api.NodeView]:
    """Those that fit, from the first one on; the last ones if fewer would be left."""
    start = next((index for index, view in enumerate(seen) if view.number >= first), len(seen))
    start = max(0, min(start, len(seen) - places))
    return seen[start : start + places]


def _bars(
    shown: Sequence[api.NodeView],
    settings: Settings,
    scale: Scale,
    labels: dict[float, str],
    ground: _Ground,
) -> list[Line]:
    margin, step, tall = ground.margin, ground.step, ground.tall
    beside = {min(tall - 1, round(share * (tall - 1))): text for share, text in labels.items()}
    wide = max(1, step - 1)
    columns = [_column(view, settings, scale, tall, wide) for view in shown]
    gap = " " * (step - wide)
    lines: list[Line] = []
    for row in reversed(range(tall)):
        axis = f"{beside.get(row, '')[: max(0, margin - 1)]:>{max(0, margin - 1)}}|"[:margin]
        lines.append((Span(axis, "axis"), *joined((column[row] for column in columns), gap)))
    return lines


def _column(view: api.NodeView, settings: Settings, scale: Scale, tall: int, wide: int) -> list[Span]:
    """One node's cells, from the bottom."""
    if not is_up(view):
        letters = _DEAD[:tall].rjust(tall)
        return [Span(letter.center(wide), "dead") for letter in reversed(letters)]
    share = scale.share(_figure(view, settings))
    role: Role = "high" if settings.figure in ("load", "log") and share > _HIGH else "bar"
    blocks = _ASCII if settings.ascii else _EIGHTHS
    eighths = [max(0, min(8, round((share * tall - row) * 8))) for row in range(tall)]
    cells = [Span(blocks[eighth] * wide, role) for eighth in eighths]
    if settings.figure in ("memory", "raw"):
        top = round(scale.share(view.mem_total / _MB) * tall)
        cells = [
            Span("+" * wide, "free") if cell.text.isspace() and row < top else cell
            for row, cell in enumerate(cells)
        ]
    if settings.figure == "speed" and view.cpus > 1 and tall:
        _put_cpus(cells, view.cpus, share, tall, wide)
    return cells


def _put_cpus(cells: list[Span], cpus: int, share: float, tall: int, wide: int) -> None:
    """An SMP node's number of CPUs above its bar, or in its top: across if there is room, else downwards."""
    text = f"{cpus}x" if len(str(cpus)) < wide else str(cpus)
    rows = [text] if len(text) <= wide else list(text)
    top = min(tall - 1, math.ceil(share * tall) + len(rows) - 1)
    for index, part in enumerate(rows):
        if index <= top:
            cells[top - index] = Span(part.center(wide)[:wide], "number")


def _numbers(shown: Sequence[api.NodeView], ground: _Ground, own: int) -> list[Line]:
    numbering, margin, step, rows, _tall, digits = ground
    left = Span(" " * margin, "axis")
    lines: list[Line] = []
    for row in range(rows):
        cells = []
        for view in shown:
            role: Role = "own" if view.number == own else "number" if is_up(view) else "dead"
            text = str(view.number)
            if numbering == "wide":
                cells.append(Span(text.rjust(step - 1) + " ", role))
            else:
                cells.append(Span(text.rjust(digits)[row].ljust(step), role))
        lines.append((left, *joined(cells)))
    return lines


def first_after(nodes: Sequence[api.NodeView], settings: Settings, shown: Sequence[int], steps: int) -> int:
    """The number of the node to begin with, after scrolling so many nodes to the right (or left)."""
    numbers = [view.number for view in nodes if settings.dead or is_up(view)]
    if not numbers:
        return settings.first
    begin = shown[0] if shown else settings.first
    index = next((index for index, number in enumerate(numbers) if number >= begin), 0)
    last = max(0, len(numbers) - max(1, len(shown)))
    return numbers[max(0, min(index + steps, last))]
