"""A lab of machines as the workshop handles it."""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omtools.cluster.load import CONFIGURED, UP
from omtools.errors import NodeShellError
from omtools.lab.metal import plan
from omtools.shell.bench import Hands
from omtools.shell.facts import Facts, Machine, NodeFacts, Ran, WireEvent
from omtools.shell.lesson import LessonFile, Preparation, Step
from omtools.shell.machines import MetalCluster

_FRESH = 0.5  # seconds for which a file is as it was: reading one costs an emulated machine 50 ms
_MOST = 1 << 20  # bytes of a screen that checks look at
_BEGINNINGS = ("power-on", "reset")


class EventLog:
    """The file of events, read as far as it has grown.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._begun: dict[str, float] = {}
        self._events: list[WireEvent] = []

    def clear(self) -> None:
        """What was before does not count, but when machines were switched on."""
        self.read()
        self._events.clear()

    def read(self) -> tuple[WireEvent, ...]:
        """Events since the last `clear`."""
        for event in self._new():
            node, name, at = str(event.pop("node")), str(event.pop("event")), float(event.pop("at"))
            if name in _BEGINNINGS:
                self._begun[node] = at
            more = {key: value if isinstance(value, str) else float(value) for key, value in event.items()}
            self._events.append(WireEvent(node, name, at - self._begun.get(node, at), more))
        return tuple(self._events)

    def _new(self) -> Iterator[dict[str, Any]]:
        try:
            with open(self._path, "rb") as file:
                file.seek(self._at)
                lines = file.read()
        except FileNotFoundError:
            return
        whole = lines[: lines.rfind(b"\n") + 1]
        self._at += len(whole)
        for line in whole.splitlines():
            yield json.loads(line)


class MetalBench:
    """The machines of a lab that is up.

    Args:
        cluster: theirs.
        tell: set after what the learner did.
    """

    metal = True

    def __init__(self, cluster: MetalCluster, tell: threading.Event) -> None:
        self._cluster = cluster
        self._lab = cluster.lab
        self._tell = tell
        self._hands = Hands(cluster)
        self._lock = threading.Lock()
        self._ran: list[Ran] = []
        self._answers: list[str] = []
        self._log = EventLog(plan.events(self._lab.directory))
        self._screens: dict[str, int] = {}
        self._read: dict[tuple[str, str], tuple[float, str | None]] = {}
        self.clear()

    def close(self) -> None:
        """Let go of it."""
        self._hands.close()

    def prepare(self, preparation: Preparation) -> None:
        """Put files and run scripts; raises NodeShellError, OSError or TimeoutError."""
        for file in preparation.files:
            self._put(file)
        for script in preparation.scripts:
            self._hands.run(script)

    def _put(self, file: LessonFile) -> None:
        place = f"~/{shlex.quote(file.path[2:])}"
        if self._cluster.run(file.node, f"cat > {place}", file.text) is None:
            raise NodeShellError(node=file.node, why=file.path)

    def clear(self) -> None:
        """A new step: what was before does not count."""
        with self._lock:
            self._ran, self._answers, self._read = [], [], {}
            self._log.clear()
            for name in self._machines():
                record = plan.screen(self._lab.directory, name)
                self._screens[name] = record.stat().st_size if record.exists() else 0

    def add(self, what: Ran | str) -> None:
        """A command has run, or a question was answered."""
        with self._lock:
            self._read = {}
            if isinstance(what, Ran):
                self._ran.append(what)
            else:
                self._answers.append(what)
        self._tell.set()

    def _machines(self) -> Mapping[str, Machine]:
        return {
            node["name"]: Machine(node["name"], node["power"], node["cable"], node["booted"], node["agent"])
            for node in self._lab.nodes()
        }

    def facts(self, step: Step | None, node: str) -> Facts:  # noqa: ARG002 - looking at all of it costs nothing
        """All that is so now; raises LabNotUp."""
        machines = self._machines()
        nodes = {
            name: NodeFacts(name, number, CONFIGURED | (UP if machine.agent else 0))
            for number, (name, machine) in enumerate(machines.items(), 1)
        }
        with self._lock:
            happened = self._log.read()
            return Facts(
                nodes, ran=tuple(self._ran), answers=tuple(self._answers), node=node, read=self.read,
                machines=machines, wire=happened, screen=self.screen,
            )  # fmt: skip

    def read(self, node: str, path: str) -> str | None:
        """A file of a machine; None if there is none."""
        now = time.monotonic()
        at, text = self._read.get((node, path), (now - _FRESH, None))
        if now - at >= _FRESH:
            text = self._cluster.read(node, path)
            self._read[node, path] = (now, text)
        return text

    def screen(self, node: str) -> str:
        """What a machine's screen has shown since the last `clear`."""
        try:
            with open(plan.screen(self._lab.directory, node), "rb") as file:
                file.seek(self._screens.get(node, 0))
                return file.read(_MOST).decode(errors="replace").replace("\r", "")
        except FileNotFoundError:
            return ""
