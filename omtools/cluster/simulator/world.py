"""The world: machines, jobs and time. What nodes know and decide is in `brains`, what happens to them here.

Time is a number that jumps from event to event. Nothing here is random but by the one generator of the seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial
from random import Random

from omtools.cluster.simulator.bounds import Task
from omtools.cluster.simulator.machine import MB, Job, Machine
from omtools.cluster.simulator.scenario import Jobs, Scenario, draw

FORK_S = 0.02  # from one generation to the next
PING_PONG_S = 60.0  # back within that time


class Tally:
    """What is counted while the world goes on.

    Attributes:
        ended: jobs that were through: work, start, end, moves.
        lost: jobs that died with a node.
        lost_work: standard seconds done by them in vain.
        migrations: moves.
        ping_pongs: moves back to where the process had left not long before.
        failed: moves that came to nothing (target gone or not to be reached).
        turned_away: proposals that the target did not admit.
        evictions: moves made by ushering.
        moved_bytes: by all moves.
        frozen_s: for which processes stood still, in all.
    """

    def __init__(self) -> None:
        self.ended: list[tuple[float, float, float, int]] = []
        self.lost = 0
        self.lost_work = 0.0
        self.migrations = 0
        self.ping_pongs = 0
        self.failed = 0
        self.turned_away = 0
        self.evictions = 0
        self.moved_bytes = 0
        self.frozen_s = 0.0


class World:
    """Machines and jobs.

    Attributes:
        now: seconds since the start.
        machines: by number.
        tally: what was counted.
        tasks: all jobs there are or will be, for the bounds.
        open: jobs that are not through, those included that have not started.
        last_end: when the last job was through.
        arriving: jobs on their way, by target.
    """

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.random = Random(seed)
        self.now = 0.0
        self.tally = Tally()
        self.tasks: list[Task] = []
        self.last_end = 0.0
        self.machines: dict[int, Machine] = {}
        self.arriving: dict[int, set[Job]] = {}
        self.groups: dict[int, int] = {}  # number -> side of a partition
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self._pids = 0
        self._build()
        self.open = len(self.tasks)

    # ------------------------------------------------------------------------------------------- time

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Have something happen later."""
        self._serial += 1
        heapq.heappush(self._events, (when, self._serial, act))

    def run(self, until: float) -> None:
        """Go on until all jobs are through, or until that time."""
        events = self._events
        while events and self.open > 0:
            when, _serial, act = heapq.heappop(events)
            if when > until:
                break
            self.now = when
            act()
        if self.open > 0:
            self.now = until
        for machine in self.machines.values():
            machine.advance(self.now)

    # ------------------------------------------------------------------------------------------ begin

    def _build(self) -> None:
        number = 0
        for group in self.scenario.nodes:
            for _count in range(group.count):
                number += 1
                self.machines[number] = Machine(
                    number,
                    group,
                    draw(group.speed, self.random),
                    draw(group.cpus, self.random),
                    draw(group.memory_mb, self.random),
                )
                self.arriving[number] = set()
        there = [number for number, machine in self.machines.items() if machine.up]
        for jobs in self.scenario.jobs:
            for _count in range(jobs.count):
                self._plan(jobs, there)

    def _plan(self, jobs: Jobs, there: list[int]) -> None:
        start = draw(jobs.at, self.random)
        home = self.random.choice(there if isinstance(jobs.on, str) else jobs.on)
        family = self._family(jobs, home, start, jobs.depth if jobs.forks else 0)
        self.at(start, lambda: self._start(family, home))

    def _family(self, jobs: Jobs, home: int, start: float, depth: int) -> list[object]:
        """A job and, nested, its children."""
        job = self._job(jobs, home, start)
        children = [
            self._family(jobs, home, start, depth - 1) for _child in range(jobs.forks if depth else 0)
        ]
        return [job, *children]

    def _job(self, jobs: Jobs, home: int, start: float) -> Job:
        self._pids += 1
        work = draw(jobs.cpu_s, self.random)
        self.tasks.append(Task(work, start))
        return Job(
            self._pids,
            home,
            work,
            int(draw(jobs.memory_mb, self.random) * MB),
            start,
            calls=jobs.calls_per_s,
            io=jobs.io_mb_s * 1e6,
            files=(jobs.files_on or home) if jobs.io_mb_s else 0,
            locked=jobs.locked,
        )

    def _start(self, family: list[object], where: int) -> None:
        job, *children = family
        assert isinstance(job, Job)
        machine = self.machines[where]
        if not machine.up or not self.machines[job.home].up:
            self._lose_family(family)
            return
        job.begun = self.now
        self.enter(job, machine)
        for child in children:
            assert isinstance(child, list)
            self.at(self.now + FORK_S, partial(self._fork, job, child))

    def _fork(self, parent: Job, child: list[object]) -> None:
        # Children begin where their parent is; if that moves just now or is through, at home.
        self._start(child, parent.where or parent.home)

    def _lose_family(self, family: list[object]) -> None:
        job, *children = family
        assert isinstance(job, Job)
        self._lose(job)
        for child in children:
            assert isinstance(child, list)
            self._lose_family(child)

    # ------------------------------------------------------------------------------------- jobs' lives

    def enter(self, job: Job, machine: Machine) -> None:
        """A job starts on a machine, or arrives there."""
        machine.add(self.now, job, self._inflation(job, machine))
        self.expect(machine)

    def _inflation(self, job: Job, machine: Machine) -> float:
        """Processor time per standard second of work: calls and files hold the job up.

        A simplification, to the job's disadvantage: what it waits for, it waits for on its processor.
        """
        seconds = 0.0
        if job.home != machine.number:
            seconds += job.calls * self.scenario.network.call_us * 1e-6
        if job.files and job.files != machine.number:
            seconds += job.io / min(machine.link, self.machines[job.files].link)
        return 1.0 + seconds * machine.speed / 10000

    def expect(self, machine: Machine) -> None:
        """Plan the next completion there, if it changed."""
        coming = machine.next_end()
        if coming is not None:
            version = machine.version
            self.at(coming[0], lambda: self._end(machine, version))

    def _end(self, machine: Machine, version: int) -> None:
        if machine.version != version:
            return
        coming = machine.next_end()
        if coming is not None and coming[0] <= self.now + 1e-9:
            job = coming[1]
            machine.remove(self.now, job)
            job.done = job.work
            self.tally.ended.append((job.work, job.begun, self.now, job.moves))
            self.last_end = self.now
            self.open -= 1
        self.expect(machine)

    def _lose(self, job: Job) -> None:
        self.tally.lost += 1
        self.tally.lost_work += job.done
        self.open -= 1

    # ------------------------------------------------------------------------------------------- moves

    def reach(self, one: int, other: int) -> bool:
        """Whether messages get from the one node to the other."""
        return (
            self.machines[one].up
            and self.machines[other].up
            and self.groups.get(one, 0) == self.groups.get(other, 0)
        )

    def move(self, job: Job, target: int, arrived: Callable[[bool], None]) -> None:
        """Freeze a job, carry it over, and let it run there.

        Args:
            job: it runs somewhere.
            target: number of another machine.
            arrived: told at the end whether it did arrive (else it runs on where it was).
        """
        source = self.machines[job.where]
        links = [source, self.machines[target]]
        if job.home not in {source.number, target}:
            links.append(self.machines[job.home])  # the image goes through home
        source.remove(self.now, job)
        self.expect(source)
        end = self.now
        for machine in links:
            machine.link_free = max(machine.link_free, self.now) + job.size / machine.link
            end = max(end, machine.link_free)
        end += self.scenario.network.fixed_ms / 1000
        self.arriving[target].add(job)
        self.at(end, partial(self._arrive, job, source, target, self.now, arrived))

    def _arrive(
        self, job: Job, source: Machine, target: int, begun: float, arrived: Callable[[bool], None]
    ) -> None:
        if job not in self.arriving[target]:
            return  # it died on its way
        self.arriving[target].discard(job)
        tally = self.tally
        tally.frozen_s += self.now - begun
        if not self.reach(source.number, target):
            tally.failed += 1
            if source.up and self.machines[job.home].up:
                self.enter(job, source)
            else:
                self._lose(job)
            arrived(False)
            return
        tally.migrations += 1
        tally.moved_bytes += job.size
        tally.ping_pongs += self.now - job.left.get(target, -PING_PONG_S) < PING_PONG_S
        job.left[source.number] = begun
        job.moves += 1
        self.enter(job, self.machines[target])
        arrived(True)

    # ----------------------------------------------------------------------------------------- mishaps

    def die(self, machine: Machine) -> None:
        """A node is gone, and with it all that runs there or has its home there."""
        machine.up = False
        for other in self.machines.values():
            gone = [job for job in other.jobs.values() if machine.number in {job.home, job.where}]
            for job in gone:
                other.remove(self.now, job)
                self._lose(job)
            if gone:
                self.expect(other)
        for jobs in self.arriving.values():
            for job in [job for job in jobs if job.home == machine.number]:
                jobs.discard(job)
                self._lose(job)
        machine.changed(self.now)

    def stand_still(self, machine: Machine, seconds: float) -> None:
        """A node hangs, and after so many seconds goes on."""

        def set_hanging(on: bool) -> None:
            machine.hanging = on
            machine.changed(self.now)
            self.expect(machine)

        set_hanging(True)
        self.at(self.now + seconds, lambda: set_hanging(False))
