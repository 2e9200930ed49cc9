"""What agents tell those who subscribe: the events of `omtools.agent.api`, which has them all."""

from __future__ import annotations

import msgspec

from omtools.agent.answers import ProcessInfo


class ProcessChanged(msgspec.Struct, tag="process_changed", frozen=True):
    """A process got into another phase; `gone` if this node has no half of it any more."""

    process: ProcessInfo
    gone: bool = False


class SwitchChanged(msgspec.Struct, tag="switch_changed", frozen=True):
    """Somebody set a switch of the node."""

    node: int
    status: int


class Decided(msgspec.Struct, tag="decided", frozen=True):
    """The balancer or the usher came to a decision.

    Attributes:
        pid: local pid of the process, 0 for a decision about the node.
        what: "move", "usher", "stay", "failed"; about the node: what became of its shortage of memory.
        target: number of the node it is about, 0: none.
        reason: why.
        figures: what it rests on, by name.
    """

    pid: int
    what: str
    target: int = 0
    reason: str = ""
    figures: dict[str, float] = {}


class MapChanged(msgspec.Struct, tag="map_changed", frozen=True):
    """Nodes were found, or have moved.

    Attributes:
        node: number of this node.
        nodes: how many there are.
    """

    node: int
    nodes: int


class Clearing(msgspec.Struct, tag="clearing", frozen=True):
    """How far an `Expel` or a `Bring` is; told to who asked for it, by the number of that call.

    Attributes:
        done: how many processes have been tried.
        total: how many there are.
        pid: local pid of the last one, 0 before the first.
    """

    done: int
    total: int
    pid: int = 0


class Followed(msgspec.Struct, tag="followed", frozen=True):
    """From now on it is told what happens on another node, or it is not told any more.

    Attributes:
        node: its number.
        on: whether it is.
        error: why not any more: an OmError's wire form; empty where that node's turn is over.
    """

    node: int
    on: bool
    error: dict[str, str | int] = {}


OwnEvent = ProcessChanged | SwitchChanged | Decided | MapChanged | Clearing


class Elsewhere(msgspec.Struct, tag="elsewhere", frozen=True):
    """Something happened on another node, whose agent told this one.

    Attributes:
        node: its number.
        event: what that node's own subscribers are told.
    """

    node: int
    event: OwnEvent


Told = OwnEvent | Followed  # where it is known otherwise on which node it happened
Event = Told | Elsewhere
