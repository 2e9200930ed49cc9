"""The balancer and the usher of one agent: once a second the policies are asked, and done as they say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import SystemRandom

from msgspec.structs import replace

from omtools.agent import api, log
from omtools.agent.callers import Caller
from omtools.agent.candidates import Candidates
from omtools.agent.gauge import Gauge
from omtools.agent.keepers import Keepers
from omtools.agent.knowing import Knowing
from omtools.agent.migrations import Migrations
from omtools.cluster.balance import Proposal, Refusal, Snapshot, balance
from omtools.cluster.constraints import MAX_AGE_S, Process
from omtools.cluster.costs import Avoided, Costs, Promises
from omtools.cluster.load import LSTAY, STAY
from omtools.cluster.usher import OUTCOMES, Eviction, Falling, Outcome, Plight, Ushering, usher
from omtools.cluster.vector import MB
from omtools.cluster.weighing import Cause, Policy
from omtools.errors import CannotMigrate, NodeDown, NodeFull, NodeRefuses, OmError
from omtools.i18n import _
from omtools.omfs.orders import Use

_VIEWS = 128  # of the freshest nodes that are weighed
_LEAST_S = 0.5  # between two looks at how fast memory falls
_SURE_S = 0.03  # three ticks, in which the kernel counts how old a process is
_BALANCER = "the balancer"


class Balancing:
    """Decides and moves.

    Attributes:
        costs: as measured by the moves so far.
    """

    def __init__(  # noqa: PLR0917 - the agent's parts
        self,
        knowing: Knowing,
        candidates: Candidates,
        keepers: Keepers,
        migrations: Migrations,
        gauge: Gauge,
        publish: Callable[[api.Event], None],
        uses: Callable[[], Awaitable[list[Use]]],
    ) -> None:
        self._uses = uses
        self._knowing = knowing
        self._candidates = candidates
        self._keepers = keepers
        self._migrations = migrations
        self._gauge = gauge
        self._publish = publish
        self._random = SystemRandom()
        self._promises = Promises()
        self._avoided = Avoided()
        self._moving: dict[int, int] = {}  # local pid -> bytes
        self._work: set[asyncio.Task[None]] = set()
        self._told: dict[int, str] = {}  # the last word on each process, to be said once
        self._outcome = Outcome.CALM
        self._falling = Falling()
        self._looked = self._weighed = time.monotonic()
        self.costs = Costs()

    async def stop(self) -> None:
        """Begin nothing new, and let go of what is under way: it goes on by itself."""
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    async def round(self) -> float | None:
        """Look, decide, begin to move. Once a second.

        Returns:
            After how many seconds to do so once more, because a process will then have run long enough.
        """
        guests = [
            keeper
            for keeper in self._keepers.all()
            if keeper.state.role == "guest" and keeper.state.phase == "away"
        ]
        _fresh, uses = await asyncio.gather(
            asyncio.gather(*(keeper.refresh() for keeper in guests)), self._uses()
        )
        now = time.monotonic()
        moving = frozenset(self._moving)
        processes = self._candidates.look(now, self._keepers.all(), self._gauge.speed, moving, uses)
        self._gauge.relieved(self._candidates.gone)
        self._promises.sweep(now)
        self.costs = self.costs.faded(now - self._looked)
        self._looked = now
        own = self._knowing.gossip.own
        if now - self._weighed > _LEAST_S:
            self._weighed = now
            self._falling.look(now, own.available_mb * MB, own.guests)
        if not processes:
            self._outcome = Outcome.CALM  # nobody whom a shortage concerns; the next one is news again
            return None
        views = self._knowing.gossip.freshest(now, _VIEWS, MAX_AGE_S)
        leaving = sum(self._moving.values())
        plight = Plight(now, own, processes, views, leaving, self.costs, self._promises, self._avoided,
                        falling=self._falling.rate)  # fmt: skip
        ushering = usher(plight, self._random)
        self._tell_outcome(ushering)
        if ushering.outcome is not Outcome.CALM:
            for eviction in ushering.evictions:
                self._begin(eviction, now, 1.0)
            return None
        decided = balance(
            Snapshot(now, own, processes, views, self.costs, self._promises, self._avoided, leaving),
            self._random,
        )
        for proposal in decided.proposals:
            self._begin(proposal, now, proposal.runnable)
        for refusal in decided.refusals:
            self._tell(refusal.pid, "stay", refusal.target, refusal.reason.value,
                       stay_s=refusal.stay_s, go_s=refusal.go_s)  # fmt: skip
        self._told = {pid: word for pid, word in self._told.items() if pid in {p.pid for p in processes}}
        young = [wait for one in processes if (wait := Policy().young_s - one.age_s) > 0]
        return min(young) + _SURE_S if young else None

    def weigh(self, process: Process) -> Proposal | Refusal:
        """Where a process now runs best, for somebody who asks: what binds automatic moves only does not."""
        now, own = time.monotonic(), self._knowing.measure()
        free = replace(process, locked=False, moves=0, age_s=max(process.age_s, Policy().young_s), cannot="")
        decided = balance(
            Snapshot(
                now,
                replace(own, status=own.status & ~(STAY | LSTAY)),
                [free],
                self._knowing.gossip.freshest(now, _VIEWS, MAX_AGE_S),
                self.costs,
                self._promises,
            ),
            self._random,
        )
        return decided.proposals[0] if decided.proposals else decided.refusals[0]

    # -- moving

    def _begin(self, what: Proposal | Eviction, now: float, runnable: float) -> None:
        self._promises.add(now, what.target, runnable, what.size)
        self._moving[what.pid] = what.size
        task = asyncio.get_running_loop().create_task(self._move(what))
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _move(self, what: Proposal | Eviction) -> None:
        pid, target = what.pid, what.target
        offer = what if isinstance(what, Proposal) else None
        verb = "move" if offer is not None else "usher"
        figures = {"cost_s": what.cost_s, "bytes": float(what.size)}
        if offer is not None:
            figures |= {"stay_s": offer.stay_s, "go_s": offer.go_s, "io_bytes_per_s": offer.io}
        cause = "" if offer is None or offer.cause is Cause.LOAD else offer.cause.value
        self._tell(pid, verb, target, cause, **figures)
        try:
            moved = await self._migrations.migrate(pid, str(target), Caller("user", 0, _BALANCER), offer)
        except OmError as error:
            self._failed(pid, target, error)
        else:
            self._avoided.worked(target)
            self._candidates.moved(pid)
            self.costs = self.costs.learned(target, moved.bytes, moved.frozen_ms / 1000)
        finally:
            self._moving.pop(pid, None)

    def _failed(self, pid: int, target: int, error: OmError) -> None:
        now = time.monotonic()
        self._promises.withdraw(target)
        if error.fields.get("busy"):  # others were faster: it has more to do than was known
            self._promises.add(now, target, 1.0, 0)
            self._avoided.busy(now, target)
        elif isinstance(error, NodeDown | NodeFull | NodeRefuses):
            self._avoided.failed(now, target)
        elif isinstance(error, CannotMigrate):
            self._candidates.stays(pid, str(error), now)
        self._tell(pid, "failed", target, str(error))

    # -- telling

    def _tell(self, pid: int, verb: str, target: int, reason: str, **figures: float) -> None:
        word = f"{verb} {target} {reason}"
        if verb == "stay" and self._told.get(pid) == word:
            return  # nothing new
        self._told[pid] = word
        rounded = {name: round(value, 3) for name, value in figures.items() if value}
        if verb != "stay":
            log.info("the balancer decides", pid=pid, what=verb, target=target, why=reason, **rounded)
        self._publish(api.Decided(pid, verb, target, reason, rounded))

    def _tell_outcome(self, ushering: Ushering) -> None:
        if ushering.outcome is self._outcome:
            return
        self._outcome = ushering.outcome
        figures = {
            "needed": float(ushering.needed),
            "available": float(ushering.available),
            "low": float(ushering.low),
            "biggest_room": float(ushering.biggest_room),
        }
        log.info("memory", what=ushering.outcome.value, why=_(OUTCOMES[ushering.outcome]), **figures)
        self._publish(
            api.Decided(0, ushering.outcome.value, ushering.roomiest, _(OUTCOMES[ushering.outcome]), figures)
        )
