"""A node that shares its processors evenly among its jobs, in O(log jobs) per event.

All jobs of a node progress alike, so the node keeps one *clock of progress* instead of the jobs' own:
`progress` is what each job that was always here would have done by now. A job that arrives is put in a heap
under the reading at which it will be through; time passing moves only the one clock.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from omtools.cluster.load import STANDARD_SPEED
from omtools.cluster.simulator.scenario import Nodes

MB = 1 << 20
_SYSTEM_MB = 200  # what a node needs for itself
_THRASHING = 0.02  # of its speed is left to a node that swaps all the time


@dataclass(slots=True, eq=False)
class Job:
    """A process.

    Attributes:
        pid: unique in the cluster.
        home: number of the node where it began.
        work: computing asked for, in standard seconds.
        size: bytes resident.
        begun: when it started.
        calls: forwarded calls per standard second.
        io: bytes per standard second of its files.
        files: number of the node with its files.
        locked: the balancer leaves it alone.
        forks: children it makes when it starts.
        depth: generations that fork, itself the first.
        done: computing done when it last arrived somewhere.
        where: number of the node it runs on; 0: on its way, or not begun, or ended.
        arrived: when it arrived there.
        moves: how often it has moved.
        entered: the node's clock of progress when it arrived there.
        inflation: clock readings per standard second: calls and files hold it up.
        left: nodes it moved away from, with the times.
    """

    pid: int
    home: int
    work: float
    size: int
    begun: float
    calls: float = 0.0
    io: float = 0.0
    files: int = 0
    locked: bool = False
    forks: int = 0
    depth: int = 0
    done: float = 0.0
    where: int = 0
    arrived: float = 0.0
    moves: int = 0
    entered: float = 0.0
    inflation: float = 1.0
    left: dict[int, float] = field(default_factory=dict)


class Machine:
    """A node.

    Attributes:
        number: 1 and up.
        speed: of a processor, 10000 is the standard.
        cpus: processors.
        memory: bytes.
        link: bytes per second.
        noise: probability of another runnable task in a second.
        jobs: by pid.
        version: changes whenever the next completion does.
        delivered: standard seconds given to jobs so far.
        up: it is there.
        hanging: it stands still.
        link_free: when its link has sent all that waits.
    """

    def __init__(self, number: int, group: Nodes, speed: float, cpus: float, memory_mb: float) -> None:
        self.number = number
        self.speed = max(1, round(speed))
        self.cpus = max(1, round(cpus))
        self.memory = int(memory_mb * MB)
        self.link = group.link_mb_s * 1e6
        self.noise = group.noise
        self.jobs: dict[int, Job] = {}
        self.version = 0
        self.delivered = 0.0
        self.up = not group.later
        self.hanging = False
        self.link_free = 0.0
        self.used = min(_SYSTEM_MB * MB, self.memory // 4)
        self.foreign = 0  # tasks that are not jobs, of this second
        self._progress = 0.0
        self._at = 0.0
        self._rate = 0.0
        self._ends: list[tuple[float, int]] = []

    @property
    def runnable(self) -> int:
        """Tasks that want a processor."""
        return len(self.jobs) + self.foreign

    @property
    def thrashing(self) -> float:
        """How much slower it is because it swaps: 1 is not at all."""
        over = self.used - self.memory
        return 1.0 if over <= 0 else max(_THRASHING, 1.0 - 5.0 * over / self.memory)

    @property
    def stalled(self) -> int:
        """Percent of the time in which it waits for memory."""
        return round(100 * (1 - self.thrashing))

    def advance(self, now: float) -> None:
        """Let time pass until `now`."""
        elapsed = now - self._at
        if elapsed > 0:
            self._progress += self._rate * elapsed
            self.delivered += self._rate * elapsed * len(self.jobs)
            self._at = now

    def _changed(self) -> None:
        tasks = self.runnable
        rate = self.speed / STANDARD_SPEED * self.thrashing * (min(1.0, self.cpus / tasks) if tasks else 1.0)
        self._rate = rate if self.up and not self.hanging else 0.0
        self.version += 1

    def changed(self, now: float) -> None:
        """Something outside of the jobs changed its speed."""
        self.advance(now)
        self._changed()

    def add(self, now: float, job: Job, inflation: float) -> None:
        """A job starts here or arrives."""
        self.advance(now)
        job.where, job.arrived, job.inflation, job.entered = self.number, now, inflation, self._progress
        self.jobs[job.pid] = job
        self.used += job.size
        heapq.heappush(self._ends, (self._progress + (job.work - job.done) * inflation, job.pid))
        self._changed()

    def remove(self, now: float, job: Job) -> None:
        """A job leaves; what it did here is added up in it."""
        self.advance(now)
        job.done = min(self.done(job), job.work)
        del self.jobs[job.pid]
        job.where = 0
        self.used -= job.size
        self._changed()

    def done(self, job: Job) -> float:
        """Standard seconds that a job here has done, as of the last `advance`."""
        return job.done + (self._progress - job.entered) / job.inflation

    def next_end(self) -> tuple[float, Job] | None:
        """When the next job will be through, if nothing changes, and which."""
        while self._ends:
            reading, pid = self._ends[0]
            job = self.jobs.get(pid)
            expected = 0.0 if job is None else job.entered + (job.work - job.done) * job.inflation
            if job is None or expected != reading:
                heapq.heappop(self._ends)  # it has left meanwhile
                continue
            if self._rate <= 0:
                return None
            return self._at + max(reading - self._progress, 0.0) / self._rate, job
        return None

    def share(self) -> float:
        """Of a processor, for each task here."""
        tasks = self.runnable
        return min(1.0, self.cpus / tasks) if tasks else 1.0

    def busy(self) -> float:
        """Standard speed that is in use."""
        return self._rate * len(self.jobs)

    @property
    def capacity(self) -> float:
        """Standard speed in all."""
        return self.speed / STANDARD_SPEED * self.cpus
