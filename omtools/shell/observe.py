"""Looking at a lab: all facts of one moment, from the agents and from /proc."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from omtools.agent import api
from omtools.agent.client import Client
from omtools.agent.paths import SOCKET
from omtools.cluster.load import UP
from omtools.errors import OmError
from omtools.lab.lab import Lab, Node
from omtools.shell.chronicle import Chronicle, command_line
from omtools.shell.facts import Facts, NodeFacts, Process

_MOST = 4 << 20  # bytes of a file that checks look at
# Seconds after which it is asked anew whether a node reaches another, and for which an answer is believed.
_FRESH, _BELIEVED = 0.4, 2.0


class Observer:
    """Makes facts of a lab.

    Args:
        lab: which.
        chronicle: of the same lab.
    """

    def __init__(self, lab: Lab, chronicle: Chronicle) -> None:
        self._lab = lab
        self._chronicle = chronicle
        self._nodes = list(lab.nodes.values())
        self._names = {node.number: node.name for node in self._nodes}
        self._reach = _Reach(self._nodes)

    def facts(self, shell_node: str = "", *, reaches: bool = False) -> Facts:
        """All that is so now.

        Args:
            shell_node: where the learner's shell is.
            reaches: also which nodes reach which; it lags behind by half a second.
        """
        nodes: dict[str, NodeFacts] = {}
        processes: list[Process] = []
        for node in self._nodes:
            report, away, guests = self._ask(node)
            found = NodeFacts(node.name, node.number)
            if report is not None:
                reached, missed = self._reach.known(node.name) if reaches else (frozenset(), frozenset())
                found = NodeFacts(
                    node.name, node.number, report.status, report.load, report.guests, report.speed,
                    reached, missed,
                )  # fmt: skip
            nodes[node.name] = found
            processes += self._processes(node, away, guests)
        happened = self._chronicle.happened()
        return Facts(nodes, tuple(processes), *happened, shell_node, self.read)

    def _ask(self, node: Node) -> tuple[api.NodeReport | None, dict[int, api.ProcessInfo], set[int]]:
        """A node's report, its processes that are away, and the pids of its guests."""
        try:
            with Client(node.files.run / SOCKET, name="omsh") as agent:
                report = agent.call(api.NodeInfo(), api.NodeReport)
                listed = agent.call(api.Processes(all=True), api.ProcessList).processes
        except OmError:
            return None, {}, set()
        away = {info.local_pid: info for info in listed if info.role == "deputy"}
        return report, away, {info.local_pid for info in listed if info.role == "guest"}

    def _processes(self, node: Node, away: dict[int, api.ProcessInfo], guests: set[int]) -> Iterable[Process]:
        proc = node.outside("/proc")
        for pid in _pids(proc):
            if pid in guests or not (self._lab.state.mode == "namespaces" or _belongs(proc / str(pid), node)):
                continue
            command = command_line(proc / str(pid))
            if not command:
                continue
            info = away.get(pid)
            if info is None:
                yield Process(pid, command, node.name, node.name, cpu_seconds=_cpu(proc / str(pid)))
                continue
            where = self._names.get(info.where, str(info.where))
            yield Process(
                pid, command, node.name, where, info.bytes, info.frozen_ms, info.calls_forwarded,
                _cpu(proc / str(pid)),
            )  # fmt: skip

    def read(self, name: str, path: str) -> str | None:
        """A file of a node; None if there is none."""
        node = self._lab.nodes.get(name)
        if node is None:
            return None
        place = node.files.home / path[2:] if path.startswith("~/") else node.outside(path)
        try:
            with open(place, "rb") as file:
                return file.read(_MOST).decode(errors="replace")
        except OSError:
            return None


def _pids(proc: Path) -> list[int]:
    try:
        return [int(name) for name in os.listdir(proc) if name.isdigit()]
    except OSError:
        return []


def _belongs(proc: Path, node: Node) -> bool:
    """Whether a process of a plain lab was started on that node."""
    try:
        variables = proc.joinpath("environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return {b"OMLAB_NODE=" + os.fsencode(node.name), b"OMLAB_DIR=" + os.fsencode(node.lab)} <= set(variables)


def _cpu(proc: Path) -> float:
    """CPU seconds of a process; proc_pid_stat(5): utime and stime are fields 14 and 15."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = proc.joinpath("stat").read_text()
        fields = text[text.rindex(")") + 2 :].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


class _Reach:
    """Which nodes get an answer from which; asking one that is gone takes seconds, so threads do it."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], tuple[float, bool]] = {}
        self._asking: set[tuple[str, str]] = set()

    def known(self, name: str) -> tuple[frozenset[str], frozenset[str]]:
        """The nodes that `name` reaches, and those that it misses; what is old is asked anew meanwhile."""
        now = time.monotonic()
        found: dict[bool, set[str]] = {True: set(), False: set()}
        for node in self._nodes:
            for other in self._nodes:
                if node.name != name or other is node:
                    continue
                pair = (node.name, other.name)
                with self._lock:
                    answered, yes = self._known.get(pair, (-_BELIEVED, False))
                    old = now - answered > _FRESH and pair not in self._asking
                    if old:
                        self._asking.add(pair)
                if now - answered < _BELIEVED:
                    found[yes].add(other.name)
                if old:
                    threading.Thread(target=self._ask, args=(node, other.name), daemon=True).start()
        return frozenset(found[True]), frozenset(found[False])

    def _ask(self, node: Node, other: str) -> None:
        yes = False
        with contextlib.suppress(OmError, OSError), Client(node.files.run / SOCKET, name="omsh") as agent:
            yes = bool(agent.call(api.NodeInfo(other), api.NodeReport).status & UP)
        with self._lock:
            self._known[node.name, other] = (time.monotonic(), yes)
            self._asking.discard((node.name, other))
