"""What each simulated node knows and decides: by `Gossip`, `balance`, `admit` and `usher` themselves."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from omtools.cluster.balance import Proposal, Snapshot, admit, balance
from omtools.cluster.constraints import MAX_AGE_S, NO_IO, Process
from omtools.cluster.costs import Avoided, Costs, Promises
from omtools.cluster.gossip import Gossip, Outgoing, Settings, View
from omtools.cluster.load import BLOCK, CONFIGURED, SETTLED_S, STAY, UP, Loads, normalised
from omtools.cluster.marks import Marks
from omtools.cluster.simulator.hearsay import Hearsay
from omtools.cluster.simulator.machine import MB, Job, Machine
from omtools.cluster.simulator.world import World
from omtools.cluster.usher import Outcome, Plight, pressed, usher
from omtools.cluster.vector import UntrueError, Vector, hundredths
from omtools.cluster.weighing import Policy

LOOKED_AT = 64  # freshest vectors per decision
LOOKED_AT_OF_MANY = 32  # the same where gossip is drawn: as good nodes are found, in half the time
MANY = 2000  # with more nodes than that gossip is drawn, not sent (`hearsay`)


class Brain:
    """One node's agent.

    Attributes:
        machine: its node.
        gossip: what it knows.
        loads: of its node.
        seen: jobs that run there, and since when.
        clock: how far its clock is from the world's.
        lying: it says that it is idle.
        switches: status bits that somebody set.
    """

    def __init__(
        self, machine: Machine, world: World, settings: Settings, hearsay: Hearsay | None = None
    ) -> None:
        self.machine = machine
        self.hearsay = hearsay
        self.world = world
        self.random = Random(world.random.getrandbits(32))
        self.gossip = Gossip(machine.number, 1, self.random, settings)
        self.loads = Loads()
        self.seen: dict[int, float] = {}
        self.promises = Promises()
        self.avoided = Avoided()
        self.clock = self.random.uniform(0, 1e5)
        self.lying = False
        self.switches = 0
        self.leaving = 0
        self.starved = False
        network = world.scenario.network
        self.costs = Costs(network.fixed_ms / 1000, network.call_us * 1e-6, machine.link)

    @property
    def now(self) -> float:
        """Its own clock."""
        return self.world.now + self.clock

    # --------------------------------------------------------------------------------- once a second

    def measure(self) -> None:
        """Take the figures of this second."""
        machine = self.machine
        if machine.noise:
            foreign = int(self.random.random() < machine.noise)
            if foreign != machine.foreign:
                machine.foreign = foreign
                machine.changed(self.world.now)
                self.world.expect(machine)
        now = self.world.now
        gone = sum(now - since >= SETTLED_S for pid, since in self.seen.items() if pid not in machine.jobs)
        self.seen = {pid: self.seen.get(pid, now) for pid in machine.jobs}
        one = normalised(1, machine.speed, machine.cpus)
        self.loads = self.loads.after(machine.runnable * one, gone * one)
        if self.hearsay is not None:
            self.hearsay.note(self.world.now, self._vector())
        else:
            self.gossip.measure(self._vector())

    def _vector(self) -> Vector:
        machine, loads = self.machine, self.loads
        if self.lying:
            loads = Loads()
        total = machine.memory // MB
        free = total if self.lying else max(machine.memory - machine.used, 0) // MB
        return Vector(
            machine.number,
            load_now=hundredths(loads.now),
            load_mean=hundredths(loads.mean),
            load_upper=hundredths(loads.upper),
            speed=machine.speed,
            cpus=machine.cpus,
            total_mb=total,
            free_mb=free,
            available_mb=free,
            pressure=0 if self.lying else machine.stalled,
            status=CONFIGURED | UP | self.switches,
            guests=min(sum(1 for job in machine.jobs.values() if job.home != machine.number), 65535),
        )

    def tick(self, peers: Sequence[int]) -> list[Outgoing]:
        """This second's messages."""
        return self.gossip.tick(self.now, peers)

    def receive(self, sender: int, outgoing: Outgoing) -> Outgoing | None:
        """A message arrives; the answer."""
        try:
            return self.gossip.receive(self.now, sender, outgoing.message)
        except UntrueError:
            return None

    # --------------------------------------------------------------------------------------- decisions

    def decide(self, policy: Policy, marks: Marks, brains: dict[int, Brain]) -> None:
        """Usher if memory is short, else balance."""
        machine = self.machine
        if not machine.jobs or not machine.up or machine.hanging:
            return
        self.promises.sweep(self.now)
        views = self.views()
        machine.advance(self.world.now)
        own = self.honest()
        if pressed(own, marks):
            plight = Plight(self.now, own, self._processes(), views, self.leaving, self.costs, self.promises,
                            self.avoided, marks)  # fmt: skip
            result = usher(plight, self.random)
            self.starved = result.outcome is Outcome.NO_ROOM
            for one in result.evictions:
                self.world.tally.evictions += 1
                self._send(machine.jobs[one.pid], one.target, 1.0)
            return
        snapshot = Snapshot(self.now, own, self._processes(), views, self.costs, self.promises, self.avoided,
                            self.leaving, policy)  # fmt: skip
        for proposal in balance(snapshot, self.random).proposals:
            self._offer(proposal, brains)

    def views(self) -> list[View]:
        """What it knows of others."""
        if self.hearsay is None:
            return self.gossip.freshest(self.now, LOOKED_AT, MAX_AGE_S)
        reach = self.world.reach if self.world.groups else None
        return self.hearsay.views(self.machine.number, self.world.now, reach)

    def honest(self) -> Vector:
        """Its vector as it is now, not as it tells others."""
        lying, self.lying = self.lying, False
        vector = self._vector()
        self.lying = lying
        return vector

    def _processes(self) -> list[Process]:
        machine, now = self.machine, self.world.now
        share = machine.share()
        speed = machine.speed / 10000 * share
        return [
            Process(
                job.pid,
                job.home,
                cpu=share,
                used_s=machine.done(job),
                age_s=now - job.begun,
                here_s=now - job.arrived,
                moves=job.moves,
                resident=job.size,
                calls=job.calls * speed,
                io={job.files: job.io * speed} if job.files else NO_IO,
                locked=job.locked,
            )
            for job in machine.jobs.values()
        ]

    def _offer(self, proposal: Proposal, brains: dict[int, Brain]) -> None:
        """Ask the target, as the agents do before anything is touched."""
        job = self.machine.jobs[proposal.pid]
        target = brains.get(proposal.target)
        reached = target is not None and self.world.reach(self.machine.number, proposal.target)
        if target is None or not reached or target.machine.hanging:
            self.world.tally.failed += 1
            self.avoided.failed(self.now, proposal.target)
            return
        coming = self.world.arriving[proposal.target]
        size = sum(one.size for one in coming)
        if admit(target.honest(), target.machine.runnable, len(coming), proposal, size) is not None:
            self.world.tally.turned_away += 1
            # What it has promised others does not show yet: believe that for a while.
            self.promises.add(self.now, proposal.target, proposal.runnable, 0)
            self.avoided.busy(self.now, proposal.target)
            return
        self._send(job, proposal.target, proposal.runnable)

    def _send(self, job: Job, target: int, weight: float) -> None:
        there = self.world.machines[target]
        coming = sum(one.size for one in self.world.arriving[target])
        full = there.used + coming + job.size > there.memory
        if not self.world.reach(self.machine.number, target) or there.hanging or full:
            self.world.tally.failed += 1
            self.avoided.failed(self.now, target)
            return
        self.promises.add(self.now, target, weight, job.size)
        self.leaving += job.size

        def arrived(well: bool) -> None:
            self.leaving -= job.size
            if well:
                self.avoided.worked(target)
            else:
                self.promises.withdraw(target)
                self.avoided.failed(self.now, target)

        self.world.move(job, target, arrived)


SWITCHES = {"block": BLOCK, "stay": STAY}
