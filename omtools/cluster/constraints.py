"""May this process go there? Every switch, mask and right, in one pure predicate.

Four movers ask, with different power:

* BALANCE, the balancer: all switches bind it.
* USHER, memory ushering: the same switches (they are the owner's will), but it needs no fresh look at
  *loads*.
* MANUAL, a person (`migrate`): the automatic switches (stay, lstay, the lock) do not bind, the rights do.
* EMERGENCY, a node that shuts down or loses its power: neither do the rights bind.

Three things bind everybody: what cannot move cannot move, a node that refuses guests (block) or has no room
gets none, and the owner's cluster mask (openMosix's migfilter, mignodes, migpolicy) says where a process
may run at all. The way home is always open: block and mask speak of guests, and at home a process is none.

What was known of the original: stay, lstay, block, the lock ("no automatic migration except emergencies")
and the bits of the mask. That the mask binds `migrate` too, and ushering the lock, is our own reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from types import MappingProxyType

import msgspec

from omtools.cluster.load import BLOCK, CONFIGURED, LSTAY, STAY, UP, reserve_of
from omtools.cluster.vector import MB, Vector
from omtools.i18n import N_

NO_IO: Mapping[int, float] = MappingProxyType({})


class Reason(StrEnum):
    """Why a process stays, or does not go to a certain node. The value is for programs, never changes."""

    # The process.
    CANNOT = "cannot"
    MOVING = "moving"
    NOT_YOURS = "not_yours"
    LOCKED = "locked"
    RESTING = "resting"
    YOUNG = "young"
    IDLE = "idle"
    # This node.
    STAY = "stay"
    LSTAY = "lstay"
    LINK_BUSY = "link_busy"
    # The other node.
    THERE_ALREADY = "there_already"
    NOT_CONFIGURED = "not_configured"
    DOWN = "down"
    STALE = "stale"
    BLOCK = "block"
    MASK = "mask"
    FULL = "full"
    AVOIDED = "avoided"
    BUSY = "busy"
    # Weighing.
    NO_NODE = "no_node"
    NO_GAIN = "no_gain"
    ENOUGH = "enough"


REASONS: Mapping[Reason, str] = {
    Reason.CANNOT: N_("something it uses ties it to where it is"),
    Reason.MOVING: N_("it is on its way already"),
    Reason.NOT_YOURS: N_("it belongs to somebody else"),
    Reason.LOCKED: N_("it is locked"),
    Reason.RESTING: N_("it has arrived only lately"),
    Reason.YOUNG: N_("it has run too short a time to judge it"),
    Reason.IDLE: N_("it hardly computes"),
    Reason.STAY: N_("this node lets no process go by itself (stay)"),
    Reason.LSTAY: N_("this node lets no local process go by itself (lstay)"),
    Reason.LINK_BUSY: N_("the link is busy with other moves"),
    Reason.THERE_ALREADY: N_("it runs there already"),
    Reason.NOT_CONFIGURED: N_("that node is not configured"),
    Reason.DOWN: N_("that node is down"),
    Reason.STALE: N_("the last news of that node is too old"),
    Reason.BLOCK: N_("that node takes no guests (block)"),
    Reason.MASK: N_("its cluster mask forbids that node"),
    Reason.FULL: N_("that node has not the memory"),
    Reason.AVOIDED: N_("that node refused or failed lately"),
    Reason.BUSY: N_("that node has meanwhile work enough"),
    Reason.NO_NODE: N_("there is no other node to go to"),
    Reason.NO_GAIN: N_("it would gain too little elsewhere"),
    Reason.ENOUGH: N_("enough others go"),
}


class Hint(Enum):
    """What its owner says of a process (the commands cpujob and iojob)."""

    NONE = 0
    CPU = 1  # forget what it does in files and calls
    IO = 2  # what it does in files and calls counts most


class Mask(msgspec.Struct, frozen=True):
    """openMosix's cluster mask.

    Attributes:
        filter: whether it counts at all (migfilter).
        nodes: bit N-1 stands for node N (mignodes).
        allow: True: only these nodes; False: all but these (migpolicy).
    """

    filter: bool = False
    nodes: int = 0
    allow: bool = False

    def permits(self, number: int) -> bool:
        """Whether the process may run on that node."""
        if not self.filter:
            return True
        return bool(self.nodes >> (number - 1) & 1) == self.allow


NO_MASK = Mask()


class Process(msgspec.Struct, frozen=True):
    """A process as the deciding parts see it, on the node where it runs.

    Attributes:
        pid: at home.
        home: number of its home node.
        uid: its owner.
        cpu: processors it got lately, 0 to the number of its threads.
        used_s: seconds of computing since its start, of a standard processor.
        age_s: since its start.
        here_s: since it arrived or was started here.
        moves: how often it was moved automatically so far.
        resident: bytes that would travel.
        calls: system calls per second that are forwarded home, or would be if it were away.
        io: bytes per second by the node on which the files are.
        hint: what its owner says.
        locked: its owner wants no automatic moves.
        cannot: why it cannot move now; "": it can.
        moving: it is on its way.
        mask: where it may run.
    """

    pid: int
    home: int
    uid: int = 0
    cpu: float = 1.0
    used_s: float = 0.0
    age_s: float = 0.0
    here_s: float = 0.0
    moves: int = 0
    resident: int = 0
    calls: float = 0.0
    io: Mapping[int, float] = NO_IO
    hint: Hint = Hint.NONE
    locked: bool = False
    cannot: str = ""
    moving: bool = False
    mask: Mask = NO_MASK


class Mover(Enum):
    """Who wants to move a process."""

    BALANCE = "balance"
    USHER = "usher"
    MANUAL = "manual"
    EMERGENCY = "emergency"


_AUTOMATIC = frozenset({Mover.BALANCE, Mover.USHER})
MAX_AGE_S = 10.0  # older news of a node decides nothing by itself


def may_leave(  # noqa: PLR0911 - one line for each rule, in the order in which people are told
    process: Process, source: Vector, mover: Mover, asker: int = 0
) -> Reason | None:
    """Whether the process may leave the node on which it runs, wherever to.

    Args:
        process: which.
        source: the node on which it runs.
        mover: who wants it.
        asker: for MANUAL: uid of the person; 0 may move everybody's.

    Returns:
        None, or what forbids it.
    """
    if process.cannot:
        return Reason.CANNOT
    if process.moving:
        return Reason.MOVING
    if mover is Mover.MANUAL and asker not in {0, process.uid}:
        return Reason.NOT_YOURS
    if mover not in _AUTOMATIC:
        return None
    if process.locked:
        return Reason.LOCKED
    if source.status & STAY:
        return Reason.STAY
    if source.status & LSTAY and process.home == source.number:
        return Reason.LSTAY
    return None


def may_enter(  # noqa: PLR0911 - one line for each rule, in the order in which people are told
    process: Process,
    source: Vector,
    target: Vector,
    mover: Mover,
    *,
    age: float = 0.0,
    promised: int = 0,
) -> Reason | None:
    """Whether that node may have the process.

    Args:
        process: which.
        source: the node on which it runs.
        target: the node to which it is to go.
        mover: who wants it.
        age: of `target`, in seconds.
        promised: bytes of that node's memory that others are already on their way to.

    Returns:
        None, or what forbids it.
    """
    number = target.number
    if number == source.number:
        return Reason.THERE_ALREADY
    if not target.status & CONFIGURED:
        return Reason.NOT_CONFIGURED
    if not target.status & UP:
        return Reason.DOWN
    if mover in _AUTOMATIC and age > MAX_AGE_S:
        return Reason.STALE
    if number != process.home:
        if target.status & BLOCK:
            return Reason.BLOCK
        if process.mask.filter and not process.mask.permits(number):
            return Reason.MASK
    if process.resident + reserve_of(target.total_mb * MB) + promised > target.available_mb * MB:
        return Reason.FULL
    return None


def allowed(
    process: Process,
    source: Vector,
    target: Vector,
    mover: Mover,
    *,
    asker: int = 0,
    age: float = 0.0,
    promised: int = 0,
) -> Reason | None:
    """Whether the process may go from the one node to the other: None, or what forbids it.

    See `may_leave` and `may_enter` for the arguments.
    """
    return may_leave(process, source, mover, asker) or may_enter(
        process, source, target, mover, age=age, promised=promised
    )
