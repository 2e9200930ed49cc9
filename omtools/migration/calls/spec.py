"""What a row of the table says of its call: the specifications that `plan` compiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from omtools.migration.calls.model import CallClass, Refusal
from omtools.migration.calls.shapes import Shape

# (argument, mask, value): this argument and the mask make the value.
Equality = tuple[int, int, int]
Alternative = tuple[Equality, ...]
Rules = tuple[Alternative, ...]

ALWAYS: Rules = ((),)
INT = 0xFFFFFFFF            # the register of a C int, without the garbage of its high half
LONG = 0xFFFFFFFFFFFFFFFF


class Do(NamedTuple):
    """The deputy does it.

    Attributes:
        block: it may have to wait.
        quick: (index, mask): it does not wait if that argument has one of those bits.
        opens, mask, mirror: as in model.Forward (mask is needs_mask).
    """

    shapes: tuple[Shape, ...] = ()
    block: bool = True
    quick: tuple[int, int] | None = None
    opens: bool = False
    mask: bool = False
    mirror: bool = False


class Native(NamedTuple):
    """The node's own kernel does it where the rules hold, else `otherwise` (None: they always hold)."""

    rules: Rules
    otherwise: Spec | None = None


class Const(NamedTuple):
    """The answer is always this."""

    result: int


class Ending(NamedTuple):
    """The process or thread ends; argument 0 is its status."""


class Cpu(NamedTuple):
    """CPU time: home's figures and the remote's, in this layout (model.CpuTime)."""

    layout: str
    forward: Do


class Switch(NamedTuple):
    """It depends on what `key` makes of the arguments."""

    key: Callable[[tuple[int, ...]], int]
    cases: Mapping[int, Spec]
    default: Spec


Spec = Do | Native | Const | Ending | Cpu | Switch | Refusal


class Call(NamedTuple):
    """One row: a call's name, who does it (in the main; arguments may decide otherwise), and how."""

    name: str
    kind: CallClass
    spec: Spec


def forward(
    *shapes: Shape,
    quick: tuple[int, int] | None = None,
    opens: bool = False,
    mask: bool = False,
    mirror: bool = False,
) -> Do:
    """A call that may wait."""
    return Do(shapes, True, quick, opens, mask, mirror)


def at_once(*shapes: Shape, mask: bool = False, mirror: bool = False) -> Do:
    """A call that never waits."""
    return Do(shapes, False, None, False, mask, mirror)


def word(index: int) -> Callable[[tuple[int, ...]], int]:
    """The argument as a C unsigned int: what commands and requests are compared with."""
    return lambda args: args[index] & 0xFFFFFFFF


def pointer(index: int) -> Callable[[tuple[int, ...]], int]:
    """1 if the pointer is given, 0 if it is NULL."""
    return lambda args: 1 if args[index] else 0
