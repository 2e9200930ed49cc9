"""A lab as the workshop handles it: preparations in, facts out."""

from __future__ import annotations

import os
import threading
from typing import Protocol

from omtools.errors import NodeShellError
from omtools.lab.lab import Lab
from omtools.shell.chronicle import Chronicle
from omtools.shell.cluster import Cluster, LabCluster
from omtools.shell.facts import Facts, Ran
from omtools.shell.lesson import LessonFile, Preparation, Script, Step
from omtools.shell.node_shell import NodeShell
from omtools.shell.observe import Observer

SCRIPT_PATIENCE = 60.0


class Bench(Protocol):
    """What the workshop needs of a lab, of whatever kind."""

    @property
    def metal(self) -> bool:
        """Whether it is one of machines."""

    def prepare(self, preparation: Preparation) -> None:
        """Put files and run scripts; raises NodeShellError, OSError or TimeoutError."""

    def clear(self) -> None:
        """A new step: what was before does not count."""

    def add(self, what: Ran | str) -> None:
        """A command has run, or a question was answered."""

    def facts(self, step: Step | None, node: str) -> Facts:
        """All that is so now, as far as the step's checks need it; `node` is where the learner's shell is."""

    def close(self) -> None:
        """Let go of it."""


class Hands:
    """Shells in which omsh itself prepares steps, unseen."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._shells: dict[str, NodeShell] = {}

    def run(self, script: Script) -> None:
        """Run a script; raises NodeShellError, also where its exit status is not 0, or TimeoutError."""
        shell = self._shells.get(script.node)
        if shell is None:
            shell = self._shells[script.node] = self._cluster.shell(script.node, (24, 80))
        try:
            ran = shell.run(f"cd; {script.text}", SCRIPT_PATIENCE)
        except (NodeShellError, TimeoutError):
            self._shells.pop(script.node).close()
            raise
        if ran.status != 0:
            last = ran.output.strip().split("\n")[-1]
            raise NodeShellError(node=script.node, why=f"{last} ({ran.status})")

    def close(self) -> None:
        """Let go."""
        for shell in self._shells.values():
            shell.close()
        self._shells.clear()


class LabBench:
    """A lab of namespaces, or of plain processes."""

    metal = False

    def __init__(self, lab: Lab, tell: threading.Event) -> None:
        self.lab = lab
        self.chronicle = Chronicle(list(lab.nodes.values()), tell.set)
        self.observer = Observer(lab, self.chronicle)
        self._hands = Hands(LabCluster(lab))
        self.chronicle.open()

    def close(self) -> None:
        """Let go of it."""
        self.chronicle.close()
        self._hands.close()

    def prepare(self, preparation: Preparation) -> None:
        """Put files and run scripts; raises NodeShellError, OSError or TimeoutError."""
        for file in preparation.files:
            self._put(file)
        for script in preparation.scripts:
            self._hands.run(script)

    def _put(self, file: LessonFile) -> None:
        place = self.lab.node(file.node).files.home / file.path[2:]
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_name(f".{place.name}.{os.getpid()}")
        new.write_text(file.text)
        new.replace(place)

    def clear(self) -> None:
        """A new step: what was before does not count."""
        self.chronicle.clear()

    def add(self, what: Ran | str) -> None:
        """A command has run, or a question was answered."""
        self.chronicle.add(what)

    def facts(self, step: Step | None, node: str) -> Facts:
        """All that is so now, as far as the step's checks need it."""
        reaches = step is not None and any(spec.name == "reaches" for spec in step.checks)
        return self.observer.facts(node, reaches=reaches)
