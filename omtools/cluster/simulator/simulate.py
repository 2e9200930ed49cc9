"""A whole simulation: a scenario and a seed in, figures out."""

from __future__ import annotations

from functools import partial
from random import Random

import msgspec

from omtools.cluster.gossip import Outgoing, Settings
from omtools.cluster.marks import Marks
from omtools.cluster.simulator.bounds import fair_share, greedy, lower_bound
from omtools.cluster.simulator.brains import LOOKED_AT_OF_MANY, MANY, SWITCHES, Brain
from omtools.cluster.simulator.hearsay import Hearsay
from omtools.cluster.simulator.scenario import Event, Scenario
from omtools.cluster.simulator.world import World
from omtools.cluster.vector import encode
from omtools.cluster.weighing import Policy

SECOND = 1.0
_SAMPLED = 50  # nodes whose messages are weighed per second; a fifth for the ages of what they know


class Second(msgspec.Struct, frozen=True, array_like=True):
    """What a second looked like.

    Attributes:
        at: when.
        busy: share of all computing power in use.
        even: Jain's index of the nodes' loads, 1 is perfectly even.
        moves: so far.
        age_s: mean age of the vectors that nodes decide with.
        running: jobs that run.
    """

    at: float
    busy: float
    even: float
    moves: int
    age_s: float
    running: int


class Result(msgspec.Struct, frozen=True):
    """The figures of one run.

    Attributes:
        balanced: whether balancing and ushering were on.
        makespan_s: when the last job was through; the time limit if some never were.
        unfinished: jobs that were not through then.
        lost: jobs that died with a node.
        bound_s: no schedule ends earlier.
        greedy_s: when a clairvoyant greedy scheduler ends that pays for no move.
        shared_s: when all would be through that share everything evenly, moves being free.
        mean_response_s: from a job's start to its end, on average.
        fairness: Jain's index of the jobs' speeds (work per response time): 1: all alike.
        evenness: Jain's index of the nodes' loads, the mean over time while at least half the power was in
            use.
        migrations: moves.
        evictions: of these, by ushering.
        most_moves: of a single job.
        ping_pongs: moves back to where a process had left within the last minute.
        turned_away: offers that the target did not want any more.
        failed: moves that came to nothing.
        moved_mb: in 2^20 bytes.
        frozen_s: for which processes stood still, in all.
        starved: node-seconds in which a node short of memory found nobody with room.
        gossip_bytes: that each node sent per second, on average.
        age_s: mean age of the vectors that nodes decide with.
        asked_s: computing that was asked for.
        delivered_s: computing that was done, calls and files included.
        seconds: by second.
    """

    balanced: bool
    makespan_s: float
    unfinished: int
    lost: int
    bound_s: float
    greedy_s: float
    shared_s: float
    mean_response_s: float
    fairness: float
    evenness: float
    migrations: int
    evictions: int
    most_moves: int
    ping_pongs: int
    turned_away: int
    failed: int
    moved_mb: float
    frozen_s: float
    starved: int
    gossip_bytes: float
    age_s: float
    asked_s: float
    delivered_s: float
    seconds: list[Second] = []


def jain(values: list[float]) -> float:
    """Jain's fairness index: 1 if all are alike, 1/n if one has all (Jain, Chiu, Hawe, DEC-TR-301, 1984)."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


class Simulation:
    """One run.

    Attributes:
        world: machines and jobs.
        brains: what each node knows and decides, by number.
        seconds: what was recorded.
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int = 1,
        *,
        balanced: bool = True,
        policy: Policy | None = None,
        settings: Settings | None = None,
        drawn: bool | None = None,
    ) -> None:
        """`drawn`: whether gossip is drawn, not sent (`hearsay`); None: with very many nodes."""
        self.world = World(scenario, seed)
        self.balanced = balanced
        self.policy = policy or Policy()
        self.marks = Marks()
        self.seconds: list[Second] = []
        machines = self.world.machines
        chosen = settings or Settings()
        self._random = Random(self.world.random.getrandbits(32))
        self.hearsay: Hearsay | None = None
        if balanced and (len(machines) > MANY if drawn is None else drawn):
            self.hearsay = Hearsay(list(machines), chosen, self._random, LOOKED_AT_OF_MANY)
        self.brains = {
            number: Brain(machine, self.world, chosen, self.hearsay) for number, machine in machines.items()
        }
        self._phases = [(self._random.random() * SECOND, brain) for brain in self.brains.values()]
        self._sent_bytes = 0
        self._sent_rounds = 0
        self._starved = 0
        for event in scenario.events:
            self.world.at(event.at, partial(self._happen, event))
        self.world.at(0.0, self._second)

    def run(self) -> Result:
        """Go through it; returns the figures."""
        self.world.run(self.world.scenario.seconds)
        return self._result()

    # ------------------------------------------------------------------------------------ each second

    def _second(self) -> None:
        world = self.world
        living = [brain for brain in self.brains.values() if brain.machine.up]
        self._record(living)
        for brain in living:
            if not brain.machine.hanging:
                brain.measure()
        if self.balanced:
            if self.hearsay is None:
                self._gossip(living)
            for phase, brain in self._phases:
                if brain.machine.jobs:
                    decide = partial(brain.decide, self.policy, self.marks, self.brains)
                    world.at(world.now + phase, decide)
        world.at(world.now + SECOND, self._second)

    def _gossip(self, living: list[Brain]) -> None:
        peers = list(self.brains)
        mail: list[tuple[int, Outgoing]] = []
        loss, random = self.world.scenario.network.loss, self._random
        for brain in living:
            if brain.machine.hanging:
                continue
            sender = brain.machine.number
            outgoing = brain.tick(peers)
            if outgoing and random.random() < _SAMPLED / len(living):
                self._sent_bytes += sum(len(encode(one.message)) for one in outgoing)
                self._sent_rounds += 1
            mail += [(sender, one) for one in outgoing if not loss or random.random() >= loss]
        random.shuffle(mail)
        delay = self.world.scenario.network.delay_ms / 1000
        self.world.at(self.world.now + delay, lambda: self._deliver(mail))

    def _deliver(self, mail: list[tuple[int, Outgoing]]) -> None:
        world, brains, loss = self.world, self.brains, self.world.scenario.network.loss
        for sender, outgoing in mail:
            receiver = brains[outgoing.target]
            if receiver.machine.hanging or not world.reach(sender, outgoing.target):
                continue
            answer = receiver.receive(sender, outgoing)
            if answer is not None and (not loss or self._random.random() >= loss):
                brains[sender].receive(outgoing.target, answer)

    # ----------------------------------------------------------------------------------------- events

    def _happen(self, event: Event) -> None:
        world = self.world
        concerned = [world.machines[number] for number in event.nodes] or list(world.machines.values())
        if event.what == "partition":
            world.groups = dict.fromkeys(event.nodes, 1)
        elif event.what == "heal":
            world.groups = {}
        for machine in concerned:
            self._happen_to(event, self.brains[machine.number])

    def _happen_to(self, event: Event, brain: Brain) -> None:
        machine, world = brain.machine, self.world
        if event.what == "join" and not machine.up:
            machine.up = True
            machine.changed(world.now)
        elif event.what == "die" and machine.up:
            world.die(machine)
        elif event.what == "hang" and machine.up:
            world.stand_still(machine, event.seconds)
        elif event.what == "lie":
            brain.lying = True
        elif event.what == "clock":
            brain.clock += event.seconds
        elif event.what in {"block", "stay"}:
            brain.switches |= SWITCHES[event.what]
        elif event.what in {"unblock", "unstay"}:
            brain.switches &= ~SWITCHES[event.what.removeprefix("un")]

    # ---------------------------------------------------------------------------------------- figures

    def _record(self, living: list[Brain]) -> None:
        machines = [brain.machine for brain in living]
        power = sum(machine.capacity for machine in machines)
        busy = sum(machine.busy() for machine in machines)
        loads = [len(machine.jobs) / machine.capacity for machine in machines]
        self._starved += sum(brain.starved for brain in living)
        self.seconds.append(
            Second(
                self.world.now,
                busy / power if power else 0.0,
                jain(loads) if loads else 1.0,
                self.world.tally.migrations,
                self._age(living),
                sum(len(machine.jobs) for machine in machines),
            )
        )

    def _age(self, living: list[Brain]) -> float:
        if not self.balanced or not living:
            return 0.0
        ages = [
            view.age
            for brain in self._random.sample(living, min(_SAMPLED // 5, len(living)))
            for view in brain.views()
        ]
        return sum(ages) / len(ages) if ages else 0.0

    def _gossip_bytes(self) -> float:
        if self.hearsay is not None:
            return self.hearsay.bytes_per_s
        return self._sent_bytes / max(self._sent_rounds, 1)

    def _result(self) -> Result:
        world, tally = self.world, self.world.tally
        speeds = [
            machine.speed / 10000 for machine in world.machines.values() for _cpu in range(machine.cpus)
        ]
        bound = lower_bound(world.tasks, speeds)
        responses = [end - start for _work, start, end, _moves in tally.ended]
        full = [second.even for second in self.seconds if second.busy >= 0.5]
        count = max(len(self.seconds), 1)
        return Result(
            balanced=self.balanced,
            makespan_s=world.last_end if world.open == 0 else world.now,
            unfinished=world.open,
            lost=tally.lost,
            bound_s=bound,
            greedy_s=max(greedy(world.tasks, speeds), bound),
            shared_s=fair_share(world.tasks, speeds),
            mean_response_s=sum(responses) / max(len(responses), 1),
            fairness=jain([work / max(end - start, 1e-9) for work, start, end, _m in tally.ended] or [1.0]),
            evenness=sum(full) / len(full) if full else 1.0,
            migrations=tally.migrations,
            evictions=tally.evictions,
            most_moves=max((moves for _w, _s, _e, moves in tally.ended), default=0),
            ping_pongs=tally.ping_pongs,
            turned_away=tally.turned_away,
            failed=tally.failed,
            moved_mb=tally.moved_bytes / (1 << 20),
            frozen_s=tally.frozen_s,
            starved=self._starved,
            gossip_bytes=self._gossip_bytes(),
            age_s=sum(second.age_s for second in self.seconds) / count,
            asked_s=sum(task.work for task in world.tasks),
            delivered_s=sum(machine.delivered for machine in world.machines.values()),
            seconds=self.seconds,
        )


def simulate(scenario: Scenario, seed: int = 1, *, balanced: bool = True) -> Result:
    """Run a scenario once."""
    return Simulation(scenario, seed, balanced=balanced).run()
