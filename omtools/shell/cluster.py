"""What omsh can have in front of it: the nodes of the lab, or a machine behind SSH."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from omtools.errors import OmError
from omtools.lab.lab import Lab
from omtools.shell.node_shell import NodeShell, on_lab_node


class Cluster(Protocol):
    """Nodes with shells on them."""

    @property
    def nodes(self) -> dict[str, str]:
        """Addresses by name, the first one is where one begins."""

    @property
    def elsewhere(self) -> Mapping[str, str]:
        """Commands that are always run on a certain node, whose name stands behind."""

    def shell(self, node: str, size: tuple[int, int]) -> NodeShell:
        """Start a shell on a node; raises NodeShellError."""

    def entries(self, node: str, directory: str) -> list[str]:
        """The names in a directory of a node, a directory's with a slash; none if it cannot be read."""

    def commands(self, node: str) -> list[str]:
        """The names of programs that a shell there finds."""

    def substitute(self, node: str, line: str) -> str:
        """The line with what stands for something else on that node put in its place."""

    def home(self, node: str) -> str:
        """The home directory there, for prompts; "" if it is not known."""

    def alive(self, node: str) -> bool:
        """Whether another shell could be had there."""

    def status(self) -> str:
        """One line on how it does, for the toolbar where there is no workshop."""

    def close(self) -> None:
        """Let go of it."""


class LabCluster:
    """The user's lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._commands: list[str] = []

    elsewhere: Mapping[str, str] = MappingProxyType({})

    @property
    def nodes(self) -> dict[str, str]:
        """Addresses by name."""
        return {name: node.address for name, node in self.lab.nodes.items()}

    def shell(self, node: str, size: tuple[int, int]) -> NodeShell:
        """Start a shell on a node; raises NodeShellError."""
        return on_lab_node(self.lab, node, size)

    def entries(self, node: str, directory: str) -> list[str]:
        """The names in a directory of a node."""
        found = self.lab.node(node)
        if directory.startswith("~/"):
            place = found.files.home / directory[2:]
        elif directory.startswith((str(found.lab), "~")):
            place = Path(directory)
        else:
            place = found.outside(directory or "/")
        return listing(place)

    def commands(self, node: str) -> list[str]:  # noqa: ARG002 - a lab's nodes all have the machine's programs
        """The names of programs; the same on all nodes."""
        if not self._commands:
            directories = [str(self.lab.directory / "bin"), *os.environ.get("PATH", os.defpath).split(":")]
            names: set[str] = {"cd", "jobs", "fg", "bg", "kill", "time", "wait", "export", "alias", "exit"}
            for directory in directories:
                names.update(name for name in listing(Path(directory)) if not name.endswith("/"))
            self._commands = sorted(names)
        return self._commands

    def substitute(self, node: str, line: str) -> str:  # noqa: ARG002 - each node's /etc/hosts knows all
        """The line as it is: the nodes know each other's names."""
        return line

    def home(self, node: str) -> str:
        """The node's home directory."""
        return str(self.lab.node(node).files.home)

    def alive(self, node: str) -> bool:
        """Whether the node lives."""
        try:
            state = Lab.find().node_state(node)
        except OmError:
            return False
        return self.lab.state.mode == "plain" or (state.being is not None and state.being.alive())

    def status(self) -> str:
        """The names of the nodes."""
        return "  ".join(self.nodes)

    def close(self) -> None:
        """Nothing is held."""


def listing(place: Path) -> list[str]:
    """The names in a directory, a directory's with a slash; none if it cannot be read."""
    try:
        with os.scandir(place) as found:
            return [f"{entry.name}/" if entry.is_dir() else entry.name for entry in found]
    except OSError:
        return []


def place(text: str, cluster: Cluster, here: str) -> tuple[str, str]:
    """The node and the command of a line: ``on NODE command``, ``NODE command``, or just a command.

    Args:
        text: the line; not empty.
        cluster: whose nodes count.
        here: the node where the shell is.
    """
    words = text.split(None, 2)
    names = {name.casefold(): name for name in cluster.nodes}
    if words[0] == "on" and len(words) > 1 and words[1].casefold() in names:
        return names[words[1].casefold()], words[2] if len(words) > 2 else ""
    if words[0] in cluster.nodes:
        return words[0], text[len(words[0]) :].strip()
    return cluster.elsewhere.get(words[0], here), text
