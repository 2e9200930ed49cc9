"""The arithmetic of balancing: what a process would get where, at what cost; the formula is in `balance`."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from omtools.cluster.constraints import Hint, Process
from omtools.cluster.costs import Costs
from omtools.cluster.gossip import View
from omtools.cluster.load import STANDARD_SPEED
from omtools.cluster.marks import Marks
from omtools.cluster.vector import MB, Vector

_MARKS = Marks()
_IO_JOB = 4.0  # how much more calls and files count for a process whose owner calls it an iojob


class Cause(StrEnum):
    """What a process gains by a move. The value is for programs, never changes."""

    LOAD = "load"  # more of a processor, or a faster one
    FILES = "files"  # it comes nearer to files that it reads or writes
    CALLS = "calls"  # it comes home, where nobody has to do its calls for it


class Policy(msgspec.Struct, frozen=True):
    """What may be tuned.

    Attributes:
        margin: stay must be so many times go.
        gain_s: and so many seconds more.
        young_s: processes that have run for less are not judged.
        rest_s: a process rests so long after its first move, then 2 x, 3 x ...
        rest_limit_s: at most.
        lifetime: what is left, as a multiple of what has been used.
        least_s: what is left at least.
        most_s: what is left at most.
        idle: processes that get less of a processor are left alone, unless calls or files weigh.
        tolerance: nodes within it of the best are equally good.
        candidates: nodes looked at per process.
        judged: processes looked at per round.
        moves: per round.
        budget_s: of the links' time that all moves together may take at once.
        doubt: tasks per processor and second of age that may have come to a node since it was measured.
        pressure: a node with more memory pressure (percent) is no target.
    """

    margin: float = 1.15
    gain_s: float = 0.3
    young_s: float = 1.0
    rest_s: float = 3.0
    rest_limit_s: float = 60.0
    lifetime: float = 1.0
    least_s: float = 2.0
    most_s: float = 3600.0
    idle: float = 0.05
    tolerance: float = 1.10
    candidates: int = 16
    judged: int = 48
    moves: int = 16
    budget_s: float = 1.5
    doubt: float = 0.02
    pressure: int = 10


def rate(runnable: float, speed: int, cpus: int) -> float:
    """Standard seconds per second that one of so many runnable tasks gets on such a node."""
    return speed / STANDARD_SPEED * (min(1.0, cpus / runnable) if runnable > 0 else 1.0)


def guest_room(vector: Vector) -> int:
    """Bytes that balancing may fill: up to ushering's high mark, or the one would undo the other's work."""
    return vector.available_mb * MB - _MARKS.high_bytes(vector.total_mb * MB)


def marginal_cost(nodes: int, before: float, after: float) -> float:
    """Opportunity cost of raising a resource's use (0 to 1) from `before` to `after`, with so many nodes."""
    base = float(max(nodes, 2))
    return float(base ** min(after, 4.0) - base ** min(before, 4.0))


def demand(process: Process, crowding: float) -> float:
    """How much of a processor it would use if it had one for itself (0 to 1).

    Args:
        process: which.
        crowding: runnable tasks per processor where it runs.
    """
    return min(1.0, process.cpu * max(crowding, 1.0))


def remaining(process: Process, policy: Policy) -> float:
    """Standard seconds that the process is expected to compute on."""
    return min(max(process.used_s * policy.lifetime, policy.least_s), policy.most_s)


def resting(process: Process, policy: Policy) -> bool:
    """Whether it has moved so lately that it stays, whatever the loads."""
    if process.moves == 0:
        return False
    return process.here_s < min(policy.rest_s * process.moves, policy.rest_limit_s)


class Candidate:
    """A node that might be a target, in one round.

    Attributes:
        vector: of the node.
        number: of the node.
        age: of the vector, in seconds.
        speed: of a processor, in standard speeds.
        cpus: processors.
        runnable: tasks, what was promised included.
        promised: bytes.
        room: bytes that may still be filled.
        shut: whether it takes no guests, not even of no size and without a mask; None: not asked yet.
        per_byte: seconds on the way there.
    """

    __slots__ = (
        "age", "cpus", "number", "per_byte", "promised", "room", "runnable", "shut", "speed",
        "vector",
    )  # fmt: skip

    def __init__(self, view: View, runnable: float, promised: int, per_byte: float) -> None:
        vector = view.vector
        self.vector = vector
        self.number = vector.number
        self.age = view.age
        self.speed = vector.speed / STANDARD_SPEED
        self.cpus = vector.cpus
        self.runnable = runnable
        self.promised = promised
        self.room = guest_room(vector) - promised
        self.shut: bool | None = None
        self.per_byte = per_byte

    def rate(self, weight: float) -> float:
        """Standard seconds per second for a newcomer."""
        runnable = self.runnable + weight
        return self.speed if runnable <= self.cpus else self.speed * self.cpus / runnable


class Weighed:
    """A process, and what is the same for it on all nodes.

    Attributes:
        process: the process itself.
        size: bytes that travel.
        work: standard seconds it is expected to compute on.
        weight: runnable tasks that it adds to a node.
        wait: wall seconds per standard second in which it wants no processor.
        io: whether calls or files count.
        seconds: standard seconds in which it spends a second of calls and files here.
        hop_s: what the link to its home adds to a move that goes through home.
    """

    __slots__ = ("hop_s", "io", "process", "seconds", "size", "wait", "weight", "work")

    def __init__(self, process: Process, own: Vector, costs: Costs, policy: Policy, runnable: float) -> None:
        speed = own.speed / STANDARD_SPEED
        self.process = process
        self.size = process.resident
        self.work = remaining(process, policy)
        self.weight = demand(process, runnable / own.cpus)
        self.wait = (1 / max(self.weight, 0.01) - 1) / speed
        self.io = process.hint is not Hint.CPU and bool(process.io or process.calls)
        # What calls and files cost per second here is this much per standard second of computing.
        self.seconds = (_IO_JOB if process.hint is Hint.IO else 1.0) / (max(process.cpu, 0.01) * speed)
        self.hop_s = 0.0 if process.home == own.number else self.size / costs.link(process.home)

    def finish(self, node: int, rate: float, costs: Costs, own: int) -> float:
        """Wall seconds until it has finished on that node, where it gets that rate."""
        per_second = 1 / rate + self.wait
        if self.io:
            per_second += self.io_s(node, costs, own)
        return self.work * per_second

    def io_s(self, node: int, costs: Costs, own: int) -> float:
        """Wall seconds for calls and files per standard second of computing, if it ran on that node."""
        return self.calls_s(node, costs) + self.files_s(node, costs, own)

    def calls_s(self, node: int, costs: Costs) -> float:
        """Of these, those for forwarded calls."""
        return self.process.calls * costs.call_s * self.seconds if node != self.process.home else 0.0

    def files_s(self, node: int, costs: Costs, own: int) -> float:
        """And those for other nodes' files."""
        seconds = 0.0
        for files, amount in self.process.io.items():
            if files != node:
                seconds += amount / costs.link(files if files != own else node)
        return seconds * self.seconds

    def cause(self, node: int, gain: float, costs: Costs, own: int) -> Cause:
        """What most of the gain (seconds) of running on that node would come from."""
        if not self.io:
            return Cause.LOAD
        files = self.work * (self.files_s(own, costs, own) - self.files_s(node, costs, own))
        calls = self.work * (self.calls_s(own, costs) - self.calls_s(node, costs))
        if files + calls <= gain / 2:
            return Cause.LOAD
        return Cause.FILES if files >= calls else Cause.CALLS
