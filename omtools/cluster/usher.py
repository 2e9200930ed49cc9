"""Memory ushering: processes off a node that runs out of memory; a subsystem that overrides balancing.

The idea and its place in the whole (a node whose free memory runs out uses other nodes' by moving processes
there, before it swaps, whatever the loads) are Barak and Braverman's: "Memory ushering in a scalable
computing cluster", Microprocessors and Microsystems 22(3-4), 1998. Of the original's thresholds, choice of
process and choice of node nothing was found in the sources; those here are our own design:

**When.** Memory that newcomers can have falls below the *low mark*; or the kernel reports stalls (PSI
"full") while it is below the *high mark*: then what is free no longer tells the truth. Wanted: the high
mark again. What is on its way out already counts as gone.

Memory that falls fast is gone before a move is done. So what will be used within a few seconds, at the rate
of the last ones, counts as used (`Falling`). What an arriving guest takes is no such fall: it was expected,
and else an arrival could make the target usher in its turn.

**Which.** The smallest process that suffices alone; among those of about that size guests before locals,
then the one that rests longest. When none suffices alone: the largest that fits somewhere, then again, a
few per round. One that arrived in the last seconds is not sent on.

**Where.** Best fit with a reserve: the node that keeps the least, but after the arrival still stands above
its *own* high mark, promises counted, calm, and heard of in the last seconds. So no arrival makes the
target usher in its turn: there is no cascade. Among the three tightest fits chance decides, so that several
nodes in need at once do not choose the same one. A guest goes home first, if home has room.

**Nobody has room**: that is a result with figures (`NO_ROOM`), to be told to people.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from random import Random
from typing import NamedTuple

import msgspec

from omtools.cluster.constraints import Mover, Process, may_enter, may_leave
from omtools.cluster.costs import Avoided, Costs, Promises
from omtools.cluster.gossip import View
from omtools.cluster.marks import Marks
from omtools.cluster.vector import MB, Vector
from omtools.i18n import N_


class Outcome(StrEnum):
    """What a round came to; the value is for programs."""

    CALM = "calm"
    UNDER_WAY = "under_way"
    RELIEVED = "relieved"
    PARTLY = "partly"
    NO_VICTIM = "no_victim"
    NO_ROOM = "no_room"


OUTCOMES = {
    Outcome.CALM: N_("there is memory enough"),
    Outcome.UNDER_WAY: N_("as much as the link carries, or enough, is on its way out already"),
    Outcome.RELIEVED: N_("what is sent away frees enough"),
    Outcome.PARTLY: N_("what is sent away helps, but does not free enough yet"),
    Outcome.NO_VICTIM: N_("no process here may be sent away"),
    Outcome.NO_ROOM: N_("no other node has room for any process that may be sent away"),
}


class Eviction(msgspec.Struct, frozen=True):
    """Move it now.

    Attributes:
        pid: the process.
        target: number of the node.
        size: bytes that travel.
        cost_s: how long it stands still.
        room: bytes above its high mark that the target had before.
    """

    pid: int
    target: int
    size: int
    cost_s: float
    room: int


class Ushering(msgspec.Struct, frozen=True):
    """The result of a round, with its figures.

    Attributes:
        outcome: what it came to.
        evictions: what to move, in order.
        needed: bytes that were missing to the high mark, what is on its way out counted as gone.
        available: bytes available.
        low: the low mark.
        smallest: bytes of the smallest process that might have gone; 0: none.
        biggest_room: bytes that the roomiest other node could take.
        roomiest: its number; 0: there is none.
    """

    outcome: Outcome
    evictions: tuple[Eviction, ...] = ()
    needed: int = 0
    available: int = 0
    low: int = 0
    smallest: int = 0
    biggest_room: int = 0
    roomiest: int = 0


class Plight(NamedTuple):
    """All that a round looks at.

    Attributes:
        now: of the monotonic clock.
        own: this node's vector, with memory and pressure as measured now.
        processes: those that run here, guests among them.
        views: what is known of others, with ages in seconds.
        leaving: bytes that are on their way out of this node now.
        costs: as measured.
        promises: what was promised to others and does not show yet.
        avoided: nodes that refused or failed of late.
        marks: what may be tuned.
        falling: bytes per second by which available memory falls (`Falling`).
    """

    now: float
    own: Vector
    processes: Sequence[Process]
    views: Sequence[View]
    leaving: int = 0
    costs: Costs = Costs()
    promises: Promises | None = None
    avoided: Avoided | None = None
    marks: Marks = Marks()
    falling: float = 0.0


class Falling:
    """How fast memory is being used up, in bytes per second.

    Attributes:
        rate: 0 where it is not.
    """

    def __init__(self) -> None:
        self.rate = 0.0
        self._last = (0.0, 0, 0)  # when, bytes available, guests

    def look(self, now: float, available: int, guests: int) -> float:
        """The rate once that is seen, about once a second."""
        then, had, guests_then = self._last
        self._last = now, available, guests
        if not 0.2 < now - then < 5 or guests > guests_then:
            self.rate = 0.0  # the first look, or somebody has arrived
        else:
            self.rate = max(0.0, (self.rate + (had - available) / (now - then)) / 2)
        return self.rate


def pressed(own: Vector, marks: Marks, falling: float = 0.0) -> bool:
    """Whether the node is short of memory, or will be at once."""
    available, total = own.available_mb * MB - falling * marks.horizon_s, own.total_mb * MB
    if total == 0:
        return False  # it does not know its memory
    if available < marks.low_bytes(total):
        return True
    return own.pressure >= marks.pressure and available < marks.high_bytes(total)


def room(vector: Vector, promised: int, marks: Marks) -> int:
    """Bytes that a node can take and stay above its high mark."""
    return vector.available_mb * MB - promised - marks.high_bytes(vector.total_mb * MB)


def usher(plight: Plight, random: Random) -> Ushering:
    """One round: what to send away so that memory suffices again."""
    own, marks = plight.own, plight.marks
    available, total = own.available_mb * MB, own.total_mb * MB
    low = marks.low_bytes(total)
    if not pressed(own, marks, plight.falling):
        return Ushering(Outcome.CALM, available=available, low=low)
    # A rate is a guess: it can foresee that nothing will be left, and no more than that.
    left = available - min(available, int(plight.falling * marks.horizon_s))
    needed = marks.high_bytes(total) - left - plight.leaving
    if needed <= 0:
        return Ushering(Outcome.UNDER_WAY, needed=max(needed, 0), available=available, low=low)
    victims = [process for process in plight.processes if _may_go(process, plight)]
    rooms = _rooms(plight)
    evictions = _choose(plight, victims, rooms, needed, random)
    freed = sum(eviction.size for eviction in evictions)
    waiting = plight.leaving / max(plight.costs.bytes_per_s, 1.0) >= marks.budget_s
    roomiest = max(rooms, key=lambda number: rooms[number].left, default=0)
    if evictions:
        outcome = Outcome.RELIEVED if freed >= needed else Outcome.PARTLY
    elif waiting:
        outcome = Outcome.UNDER_WAY
    else:
        outcome = Outcome.NO_ROOM if victims else Outcome.NO_VICTIM
    return Ushering(
        outcome,
        tuple(evictions),
        needed,
        available,
        low,
        min((victim.resident for victim in victims), default=0),
        max(rooms[roomiest].left, 0) if roomiest else 0,
        roomiest,
    )


class _Room:
    """What a node can still take in this round."""

    __slots__ = ("left", "promised", "view")

    def __init__(self, view: View, promised: int, left: int) -> None:
        self.view = view
        self.promised = promised
        self.left = left


def _may_go(process: Process, plight: Plight) -> bool:
    arrived_lately = process.moves > 0 and process.here_s < plight.marks.rest_s
    return process.resident > 0 and not arrived_lately and may_leave(process, plight.own, Mover.USHER) is None


def _rooms(plight: Plight) -> dict[int, _Room]:
    avoided = plight.avoided.now(plight.now) if plight.avoided is not None else frozenset()
    rooms: dict[int, _Room] = {}
    for view in plight.views:
        vector = view.vector
        if (
            view.age > plight.marks.max_age_s
            or vector.number == plight.own.number
            or vector.number in avoided
            or vector.pressure >= plight.marks.pressure
        ):
            continue
        promised = plight.promises.on(plight.now, vector.number, view.age)[1] if plight.promises else 0
        rooms[vector.number] = _Room(view, promised, room(vector, promised, plight.marks))
    return rooms


def _choose(
    plight: Plight, victims: list[Process], rooms: dict[int, _Room], needed: int, random: Random
) -> list[Eviction]:
    evictions: list[Eviction] = []
    left = sorted(victims, key=lambda process: process.resident)
    busy_s = plight.leaving / max(plight.costs.bytes_per_s, 1.0)
    while needed > 0 and left and busy_s < plight.marks.budget_s and len(evictions) < plight.marks.moves:
        biggest = max((one.left for one in rooms.values()), default=0)
        left = [process for process in left if process.resident <= biggest]
        for process in _in_order(left, needed, plight.own.number):
            target = _best_fit(plight, process, rooms, random)
            if target is not None:
                break
        else:
            break
        cost = plight.costs.move_s(process.resident, plight.own.number, target, process.home)
        evictions.append(Eviction(process.pid, target, process.resident, cost, rooms[target].left))
        rooms[target].left -= process.resident
        rooms[target].promised += process.resident
        needed -= process.resident
        busy_s += cost
        left.remove(process)
    return evictions


def _in_order(processes: list[Process], needed: int, own: int) -> Iterable[Process]:
    """The smallest that suffices first, then larger ones; then those that do not suffice, the largest first.

    Args:
        processes: ascending by size.
        needed: bytes.
        own: number of this node.
    """
    enough = [process for process in processes if process.resident >= needed]
    # Sizes within a fifth are alike: the same number of steps of that factor above what is needed.
    enough.sort(key=lambda p: (int((p.resident / needed - 1) * 5), p.home == own, -p.here_s))
    yield from enough
    yield from (process for process in reversed(processes) if process.resident < needed)


def _best_fit(plight: Plight, process: Process, rooms: dict[int, _Room], random: Random) -> int | None:
    fits = [
        one
        for one in rooms.values()
        if one.left >= process.resident
        and may_enter(
            process, plight.own, one.view.vector, Mover.USHER, age=one.view.age, promised=one.promised
        )
        is None
    ]
    if not fits:
        return None
    home = rooms.get(process.home)
    if home is not None and home in fits:
        return process.home  # a guest: at home it is rid of its forwarded calls too
    fits.sort(key=lambda one: one.left)
    return random.choice(fits[:3]).view.vector.number
