"""All nodes of the cluster in a few figures. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from omtools.agent import api
from omtui.model import is_up, used_memory


@dataclass(frozen=True, slots=True)
class Totals:
    """The cluster in figures; loads and memory are of the nodes that are up."""

    nodes: int = 0
    up: int = 0
    cpus: int = 0
    load: float = 0.0
    mem_total: int = 0
    mem_used: int = 0
    guests: int = 0
    away: int = 0


def totals(nodes: Iterable[api.NodeView]) -> Totals:
    """Sum up."""
    number = up = cpus = mem_total = mem_used = guests = away = 0
    load = 0.0
    for view in nodes:
        number += 1
        if not is_up(view):
            continue
        up += 1
        cpus += view.cpus
        load += view.load
        mem_total += view.mem_total
        mem_used += used_memory(view)
        guests += view.guests
        away += view.away
    return Totals(number, up, cpus, load, mem_total, mem_used, guests, away)


def efficiency(loads: Iterable[float]) -> int:
    """How evenly the load is spread, in percent: 100 where all nodes have the same.

    The mean over the highest: the share of the time that the nodes would work if each had to wait for the
    one with the most to do (the usual measure of load balance in parallel computing, and what openMosixview
    called load-balancing efficiency).
    """
    known = list(loads)
    highest = max(known, default=0.0)
    return round(100 * sum(known) / len(known) / highest) if highest > 0 else 100
