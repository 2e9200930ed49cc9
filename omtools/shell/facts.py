"""What is known of a cluster at one moment, and what has happened since the step began. Data only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from omtools.cluster.load import BLOCK, LSTAY, NOMFS, QUIET, STAY, UP

HOME = "home"

# Switches of mosctl by their bits in a node's status. (Its bit for files says that there are none of them.)
SWITCHES: Mapping[str, int] = {"stay": STAY, "lstay": LSTAY, "block": BLOCK, "quiet": QUIET, "nomfs": NOMFS}

ReadFile = Callable[[str, str], "str | None"]


@dataclass(frozen=True, slots=True)
class Process:
    """A process, as its home node shows it.

    Attributes:
        pid: at home.
        command: its arguments, joined by blanks.
        home: name of the node where it was created.
        where: name of the node that executes it.
        bytes: of memory that travelled on its last move, 0 if it is at home.
        frozen_ms: how long it stood still then.
        calls: system calls forwarded so far.
        cpu_seconds: that its home node has counted.
    """

    pid: int
    command: str
    home: str
    where: str
    bytes: int = 0
    frozen_ms: float = 0.0
    calls: int = 0
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node as its own agent describes it; down if that does not answer.

    Attributes:
        status: bits of `omtools.cluster.load`.
        reaches: names of the nodes that answer it.
        misses: names of those that do not; of a node in neither nothing is known yet.
    """

    name: str
    number: int
    status: int = 0
    load: float = 0.0
    guests: int = 0
    speed: int = 0
    reaches: frozenset[str] = frozenset()
    misses: frozenset[str] = frozenset()

    @property
    def up(self) -> bool:
        """Whether it takes part."""
        return bool(self.status & UP)

    def is_set(self, switch: str) -> bool:
        """Whether one of `SWITCHES` is on."""
        return bool(self.status & SWITCHES[switch])


MoveKind = Literal["away", "home", "ended"]


@dataclass(frozen=True, slots=True)
class Move:
    """What an agent told of one of its processes.

    Attributes:
        kind: it arrived elsewhere, came home, or ended while it was away.
        where: name of the node where it is now, or was when it ended.
        reason: why it came home, if not because somebody asked.
    """

    kind: MoveKind
    pid: int
    command: str
    home: str
    where: str
    bytes: int = 0
    frozen_ms: float = 0.0
    total_ms: float = 0.0
    calls: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a node's balancer or usher came to.

    Attributes:
        node: name of the one that decided.
        pid: of the process there, 0 if it is about the node.
        command: the process's arguments, joined by blanks.
        what: "move", "stay", "usher", "failed", or what became of a shortage of memory.
        target: name of the other node, "" if there is none.
        reason: why.
        figures: what it rests on, by name.
    """

    node: str
    pid: int
    command: str
    what: str
    target: str = ""
    reason: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ran:
    """A command line that was run in omsh, to its end.

    Attributes:
        node: where.
        line: as it was typed.
        status: its exit status.
        seconds: from Enter to the next prompt.
        output: the end of what it printed.
    """

    node: str
    line: str
    status: int
    seconds: float
    output: str


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine of a metal lab.

    Attributes:
        power: "on" or "off".
        cable: "in" or "out".
        booted: its network and SSH are up.
        agent: its agent serves.
    """

    name: str
    power: str
    cable: str = "in"
    booted: bool = False
    agent: bool = False

    @property
    def state(self) -> str:
        """How it is, in one or two words; the words are those of `omlab status --json`."""
        how = "agent" if self.agent else "booted" if self.booted else self.power
        return how if self.cable == "in" else f"{how}, cable {self.cable}"


@dataclass(frozen=True, slots=True)
class WireEvent:
    """What happened to a machine of a metal lab; see `omtools.lab.metal.events`.

    Attributes:
        node: whom it is about.
        event: which.
        seconds: since that machine was last switched on or reset.
        more: what else is known of it.
    """

    node: str
    event: str
    seconds: float
    more: Mapping[str, str | float] = field(default_factory=dict)


def _no_screen(_node: str) -> str:
    return ""


def _no_file(_node: str, _path: str) -> str | None:
    return None


@dataclass(frozen=True)
class Facts:
    """All of it.

    Attributes:
        nodes: by name.
        processes: of all nodes, each once, at its home.
        moves: since the step began, in order.
        decisions: since the step began, in order.
        ran: since the step began, in order.
        answers: given to the step's question, in order.
        node: where the learner's shell is.
        read: the content of a node's file, None if there is none.
        machines: of a metal lab, by name.
        wire: what happened to them since the step began, in order.
        screen: what a machine's screen has shown since the step began.
    """

    nodes: Mapping[str, NodeFacts] = field(default_factory=dict)
    processes: tuple[Process, ...] = ()
    moves: tuple[Move, ...] = ()
    decisions: tuple[Decision, ...] = ()
    ran: tuple[Ran, ...] = ()
    answers: tuple[str, ...] = ()
    node: str = ""
    read: ReadFile = _no_file
    machines: Mapping[str, Machine] = field(default_factory=dict)
    wire: tuple[WireEvent, ...] = ()
    screen: Callable[[str], str] = _no_screen

    def matching(self, command: str) -> Iterator[Process]:
        """Processes whose command line has the pattern in it."""
        wanted = re.compile(command)
        return (process for process in self.processes if wanted.search(process.command))

    def moved(self, command: str, *kinds: MoveKind) -> Iterator[Move]:
        """Moves of processes whose command line has the pattern in it, the latest first."""
        wanted = re.compile(command)
        return (m for m in reversed(self.moves) if m.kind in kinds and wanted.search(m.command))
