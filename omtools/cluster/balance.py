"""PPM: which processes should leave this node, and where to; a pure function from a snapshot to proposals.

**The question.** For a process p on node i and each candidate j, compare the wall time in which it would
finish:

    stay = W · slow(i)        go(j) = cost(i → j) + W · slow(j)

W       what it still has to compute (seconds of a standard processor). Unknown; a process that has used T
        seconds is expected to need about T more (Harchol-Balter, Downey, "Exploiting process lifetime
        distributions for dynamic load balancing", 1997), bounded below and above.
slow(n) wall seconds per second of standard computing there: 1 / rate(n) + wait + calls + files, with
        rate(n) = S · min(1, c / r)   S = speed/10000, c processors, r runnable tasks (p among them)
        wait    = the time in which p waits for other things than a processor
        calls   = forwarded calls x their cost; nothing at home
        files   = bytes of files on *other* nodes / link
cost    fixed + bytes / link, over both links where the image goes through home.

p goes if stay > margin · go and stay - go > a minimum. Own figures are the node's *mean* load (rises slowly,
falls at once), others' the *upper* (rises at once, falls slowly) plus what was promised them: a node sends
only when it is loaded for sure, and only to those that are idle for sure. What has run for a second
(`young_s`) counts at once by what it used of that: it is no passing rise. Loads and the pair mean/upper are
MOSIX's: Barak, La'adan, Shiloh, "Scalable cluster computing with MOSIX for Linux", 1999.

**Which of the good nodes.** Those whose go() is within a tolerance of the best are equally good for p; among
them the *opportunity cost* decides, one figure for several resources: with n nodes, the marginal cost of p
on j is

    n^(cpu after) - n^(cpu before) + n^(memory after) - n^(memory before)

(shares of the largest acceptable load, and of the memory), after Amir, Awerbuch, Barak, Borgstrom, Keren, "An
opportunity cost approach for job assignment in a scalable computing cluster", IEEE TPDS 11(7), 2000. The
draw is random among the cheaper half, so that many nodes do not choose the same one.

**No ping-pong, no herd.** A process rests after each move, longer each time, so that its moves are bounded
whatever the noise; margins as above; and a target decides itself, by its own present load, whether the
newcomer still gains enough there (`admit`): that is exact where gossip is only probable.

Our own design, for want of sources about the original's: the finishing-time rule with its margins, resting,
the terms for calls and files, `admit`, the link budget, and the scale of the opportunity cost (4 tasks per
processor are the largest acceptable load).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

import msgspec

from omtools.cluster.constraints import MAX_AGE_S, Mover, Process, Reason, may_enter, may_leave
from omtools.cluster.costs import Avoided, Costs, Promises
from omtools.cluster.gossip import View
from omtools.cluster.load import STANDARD_SPEED
from omtools.cluster.vector import MB, PER_TASK, Vector
from omtools.cluster.weighing import (
    Candidate,
    Cause,
    Policy,
    Weighed,
    demand,
    guest_room,
    marginal_cost,
    rate,
    remaining,
    resting,
)

_LEAST_WEIGHT = 0.01
_ANYBODY = Process(pid=0, home=0)


class Snapshot(NamedTuple):
    """All that a round looks at.

    Attributes:
        now: of the monotonic clock.
        own: this node's vector.
        processes: those that run here, guests among them.
        views: what is known of others, with ages in seconds.
        costs: as measured.
        promises: what was promised to others and does not show yet.
        avoided: nodes that refused or failed of late.
        leaving: bytes that are on their way out of this node now.
        policy: what may be tuned.
    """

    now: float
    own: Vector
    processes: Sequence[Process]
    views: Sequence[View]
    costs: Costs = Costs()
    promises: Promises | None = None
    avoided: Avoided | None = None
    leaving: int = 0
    policy: Policy = Policy()


class Proposal(msgspec.Struct, frozen=True):
    """Move it.

    Attributes:
        pid: the process.
        target: number of the node.
        stay_s: how long it would still take here.
        go_s: how long it would take there, the move included.
        cost_s: the move alone.
        runnable: how many runnable tasks it adds to the target.
        size: bytes that travel.
        least_rate: standard seconds per second that it must get there for the move to be worth it (`admit`).
        cause: what most of the gain comes from.
        io: bytes per second of the target's files that it reads and writes.
    """

    pid: int
    target: int
    stay_s: float
    go_s: float
    cost_s: float
    runnable: float
    size: int
    least_rate: float
    cause: Cause = Cause.LOAD
    io: float = 0.0


class Refusal(msgspec.Struct, frozen=True):
    """Leave it, and why.

    Attributes:
        pid: the process.
        reason: why.
        target: the best node there would have been, 0: none.
        stay_s: how long it would still take here, 0: not reckoned.
        go_s: how long it would take on `target`, the move included.
    """

    pid: int
    reason: Reason
    target: int = 0
    stay_s: float = 0.0
    go_s: float = 0.0


class Round(NamedTuple):
    """What a round decided; every process is in exactly one of the two."""

    proposals: list[Proposal]
    refusals: list[Refusal]


def admit(
    own: Vector, runnable: float, arriving: float, proposal: Proposal, arriving_bytes: int = 0
) -> Reason | None:
    """The target's own decision whether a process that another node offers still gains enough here.

    Args:
        own: this node's vector, measured now.
        runnable: tasks that run here at this moment.
        arriving: tasks that were admitted and have not arrived.
        proposal: the other node's.
        arriving_bytes: the memory of those.

    Returns:
        None: it is welcome; or BUSY, or FULL.
    """
    if proposal.size + arriving_bytes > guest_room(own):
        return Reason.FULL
    there = rate(runnable + arriving + proposal.runnable, own.speed, own.cpus)
    return None if there >= proposal.least_rate else Reason.BUSY


def balance(snapshot: Snapshot, random: Random) -> Round:
    """One round: every process of the snapshot is proposed to move or refused, with figures."""
    return _Balancer(snapshot, random).round()


class _Balancer:
    def __init__(self, snapshot: Snapshot, random: Random) -> None:
        self.s = snapshot
        self.policy = snapshot.policy
        self.random = random
        self.own = snapshot.own
        self.proposals: list[Proposal] = []
        self.refusals: list[Refusal] = []
        self.runnable = max(self.own.runnable_mean, self.proven())
        self.nodes = len(snapshot.views) + 1
        self.left_s = self.policy.budget_s - snapshot.leaving / max(snapshot.costs.bytes_per_s, 1.0)
        self.bests: dict[int, float] = {}  # tenths of a task -> no candidate gives such a process more
        self.known: dict[int, tuple[View, float, int]] = {}  # view, runnable tasks, promised bytes
        self.offers: list[tuple[int, int, float]] = []  # the same nodes' speed, processors, runnable tasks
        self.ranked: list[int] = []  # numbers, the best first
        self.candidates: dict[int, Candidate] = {}

    def round(self) -> Round:
        movable = [process for process in self.s.processes if self.judge(process)]
        if not movable:
            return Round(self.proposals, self.refusals)
        self.collect()
        movable.sort(key=self.worth, reverse=True)
        for process in movable[: self.policy.judged]:
            self.consider(process)
        self.refusals += [Refusal(process.pid, Reason.ENOUGH) for process in movable[self.policy.judged :]]
        return Round(self.proposals, self.refusals)

    def proven(self) -> float:
        """Tasks that run here for sure, though the mean is still to rise: they have computed long enough."""
        running = self.own.runnable_now
        crowding = running / self.own.cpus
        old = (one for one in self.s.processes if one.age_s >= self.policy.young_s and not one.moving)
        return min(running, sum(demand(process, crowding) for process in old))

    def judge(self, process: Process) -> bool:
        """Whether it is to be weighed at all."""
        reason = may_leave(process, self.own, Mover.BALANCE)
        if reason is None:
            if process.age_s < self.policy.young_s:
                reason = Reason.YOUNG
            elif resting(process, self.policy):
                reason = Reason.RESTING
            elif self.idles(process) and not self.waits(process):
                reason = Reason.IDLE
        if reason is not None:
            self.refusals.append(Refusal(process.pid, reason))
        return reason is None

    def idles(self, process: Process) -> bool:
        """Whether it would hardly use a processor even if it had one for itself."""
        return demand(process, self.runnable / self.own.cpus) < self.policy.idle

    def waits(self, process: Process) -> bool:
        """Whether calls or files cost it time that another place could save."""
        return bool(process.io) or process.calls * self.s.costs.call_s > 0.01

    def worth(self, process: Process) -> float:
        """How much a second of a better place is worth, for what it costs to get there."""
        return remaining(process, self.policy) / (
            self.s.costs.fixed_s + process.resident / self.s.costs.bytes_per_s
        )

    def collect(self) -> None:
        """Rank the nodes; what few will be looked at become candidates later (`candidate`)."""
        now, promises = self.s.now, self.s.promises
        promised_to = promises.nodes if promises is not None else frozenset()
        avoided = self.s.avoided.now(now) if self.s.avoided is not None else frozenset()
        own, pressure, draw = self.own.number, self.policy.pressure, self.random.random
        doubt, known, offers, ranked = self.policy.doubt, self.known, self.offers, []
        for view in self.s.views:
            vector, age = view
            number = vector.number
            if age > MAX_AGE_S or number == own or number in avoided or vector.pressure > pressure:
                continue
            cpus, speed = vector.cpus, vector.speed
            runnable, size = vector.load_upper * speed * cpus / PER_TASK + doubt * cpus * age, 0
            if promises is not None and number in promised_to:
                extra, size = promises.on(now, number, age)
                runnable += extra
            known[number] = (view, runnable, size)
            offers.append((speed, cpus, runnable))
            rate = speed if runnable + 1 <= cpus else speed * cpus / (runnable + 1)
            # Rates within a twentieth are alike; what is alike is in random order.
            ranked.append((rate * (1 + 0.05 * draw()), number))
        ranked.sort(reverse=True)
        self.ranked = [number for _rank, number in ranked]

    def candidate(self, number: int) -> Candidate | None:
        candidate = self.candidates.get(number)
        if candidate is None and number in self.known:
            view, runnable, size = self.known[number]
            candidate = Candidate(view, runnable, size, 1 / self.s.costs.link(number))
            self.candidates[number] = candidate
        return candidate

    # ------------------------------------------------------------------------------------ one process

    def consider(self, process: Process) -> None:
        policy, own = self.policy, self.own
        weighed = Weighed(process, own, self.s.costs, policy, self.runnable)
        weight = weighed.weight
        here = rate(max(self.runnable, weight), own.speed, own.cpus)
        stay = weighed.finish(own.number, here, self.s.costs, own.number)
        if not weighed.io and self.hopeless(weighed, stay):
            self.refuse(process, Reason.NO_GAIN, 0, stay, 0.0)
            return
        found = [(self.go(weighed, candidate), candidate) for candidate in self.reachable(process)]
        if not found:
            self.refuse(process, Reason.NO_NODE, 0, stay, 0.0)
            return
        best, nearest = min(found, key=_first)
        if stay <= policy.margin * best or stay - best <= policy.gain_s:
            self.refuse(process, Reason.NO_GAIN, nearest.number, stay, best)
            return
        limit = min(best * policy.tolerance, stay / policy.margin)
        go, chosen = self.draw(process, weight, [pair for pair in found if pair[0] <= limit])
        cost = self.cost(weighed, chosen)
        if len(self.proposals) >= policy.moves:
            self.refuse(process, Reason.ENOUGH, chosen.number, stay, go)
        elif cost > self.left_s and self.left_s < policy.budget_s:
            self.refuse(process, Reason.LINK_BUSY, chosen.number, stay, go)
        else:
            self.propose(weighed, chosen, stay, go)

    def hopeless(self, weighed: Weighed, stay: float) -> bool:
        """Whether not even the best of all nodes would do, could it be reached at no cost: mostly so."""
        if not self.known:
            return False
        tenths = int(weighed.weight * 10)
        best = self.bests.get(tenths)
        if best is None:
            weight = tenths / 10 or _LEAST_WEIGHT
            best = max(
                speed if runnable + weight <= cpus else speed * cpus / (runnable + weight)
                for speed, cpus, runnable in self.offers
            ) / STANDARD_SPEED
            self.bests[tenths] = best
        return stay <= self.policy.margin * weighed.work * (1 / best + weighed.wait)

    def refuse(self, process: Process, reason: Reason, target: int, stay: float, go: float) -> None:
        self.refusals.append(Refusal(process.pid, reason, target, stay, go))

    def propose(self, weighed: Weighed, chosen: Candidate, stay: float, go: float) -> None:
        cost = self.cost(weighed, chosen)
        weight, size = weighed.weight, weighed.size
        # By how much slower it could run there and still finish soon enough.
        spare = (stay / self.policy.margin - go) / weighed.work
        least = 0.999 / (1 / chosen.rate(weight) + max(spare, 0.0))
        cause = weighed.cause(chosen.number, stay - go, self.s.costs, self.own.number)
        io = weighed.process.io.get(chosen.number, 0.0)
        self.proposals.append(
            Proposal(weighed.process.pid, chosen.number, stay, go, cost, weight, size, least, cause, io)
        )
        self.left_s -= cost
        self.runnable = max(self.runnable - weight, 0.0)
        chosen.runnable += weight
        chosen.promised += size
        chosen.room -= size

    def reachable(self, process: Process) -> Iterator[Candidate]:
        """The best nodes that the process may go to; home and where its files are in any case."""
        special = {process.home, *process.io}
        left = self.policy.candidates
        for number in special:
            candidate = self.candidate(number)
            if candidate is not None and self.may_enter(process, candidate):
                yield candidate
        for number in self.ranked:
            if left <= 0:
                return
            candidate = self.candidate(number)
            if candidate is not None and number not in special and self.may_enter(process, candidate):
                left -= 1
                yield candidate

    def may_enter(self, process: Process, candidate: Candidate) -> bool:
        if candidate.room < process.resident:
            return False
        if process.mask.filter or process.home == candidate.number:
            return not self.forbidden(process, candidate)
        if candidate.shut is None:  # the same for all others: asked once
            candidate.shut = self.forbidden(_ANYBODY, candidate) is not None
        return not candidate.shut

    def forbidden(self, process: Process, candidate: Candidate) -> Reason | None:
        vector, age, promised = candidate.vector, candidate.age, candidate.promised
        return may_enter(process, self.own, vector, Mover.BALANCE, age=age, promised=promised)

    def draw(
        self, process: Process, weight: float, good: list[tuple[float, Candidate]]
    ) -> tuple[float, Candidate]:
        """One of the cheaper half of the good nodes."""
        if len(good) == 1:
            return good[0]
        good.sort(key=lambda pair: self.opportunity_cost(process, weight, pair[1]))
        return good[int(self.random.random() * ((len(good) + 1) // 2))]

    def opportunity_cost(self, process: Process, weight: float, candidate: Candidate) -> float:
        vector = candidate.vector
        acceptable = 4.0 * vector.cpus  # runnable tasks at which a node counts as fully used
        total = max(vector.total_mb * MB, 1)
        used = total - vector.available_mb * MB + candidate.promised
        return marginal_cost(
            self.nodes, candidate.runnable / acceptable, (candidate.runnable + weight) / acceptable
        ) + marginal_cost(self.nodes, used / total, (used + process.resident) / total)

    def cost(self, weighed: Weighed, candidate: Candidate) -> float:
        """As `Costs.move_s`, with what is known already."""
        seconds = self.s.costs.fixed_s + weighed.size * candidate.per_byte
        return seconds if candidate.number == weighed.process.home else seconds + weighed.hop_s

    def go(self, weighed: Weighed, candidate: Candidate) -> float:
        """Wall seconds until it would have finished there."""
        rate = candidate.rate(weighed.weight)
        there = weighed.finish(candidate.number, rate, self.s.costs, self.own.number)
        return self.cost(weighed, candidate) + there


def _first(pair: tuple[float, Candidate]) -> float:
    return pair[0]
