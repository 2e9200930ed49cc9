"""Processes as a tree: children stand behind their parents. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from omtui.model import Process


def as_tree(found: Iterable[Process]) -> list[Process]:
    """Depth first, each with its depth; a process whose parent is not among them is a root.

    Loops of parents cannot happen on a kernel, but /proc is read while it changes: nobody is lost then.
    """
    processes = list(found)
    pids = {process.pid for process in processes}
    children: dict[int, list[Process]] = {}
    roots = []
    for process in processes:
        if process.ppid in pids and process.ppid != process.pid:
            children.setdefault(process.ppid, []).append(process)
        else:
            roots.append(process)
    ordered: list[Process] = []
    placed: set[int] = set()
    for start in [*roots, *processes]:  # the second time only what stands in a loop is left
        waiting = [(start, 0)]
        while waiting:
            process, depth = waiting.pop()
            if process.pid in placed:
                continue
            placed.add(process.pid)
            ordered.append(replace(process, depth=depth) if depth else process)
            waiting.extend((child, depth + 1) for child in reversed(children.get(process.pid, ())))
    return ordered
