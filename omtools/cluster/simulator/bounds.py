"""How good it could be: a bound that no schedule beats, and what a clairvoyant greedy scheduler reaches."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

_STEP = math.log(1.01)


class Task(NamedTuple):
    """A job as a scheduler sees it who knows all: seconds of a standard processor, and when it starts."""

    work: float
    start: float


def lower_bound(tasks: Sequence[Task], processors: Sequence[float]) -> float:
    """No schedule ends earlier, preemptive or not, whatever it knows.

    For those that start at s or later, for each s: k of them cannot use more than the k fastest processors,
    and all of them no more than all (for one s: Horvath, Lam, Sethi, "A level algorithm for preemptive
    scheduling", Journal of the ACM 24(1), 1977; it is exact there).

    Args:
        tasks: jobs.
        processors: their speeds in standard speeds.
    """
    speeds = sorted(processors, reverse=True)
    starts = sorted({task.start for task in tasks})
    if len(starts) > 50:  # each gives a valid bound: a few will do
        starts = [starts[at * len(starts) // 50] for at in range(50)]
    return max((start + _since(tasks, start, speeds) for start in starts), default=0.0)


def _since(tasks: Sequence[Task], start: float, speeds: Sequence[float]) -> float:
    works = sorted((task.work for task in tasks if task.start >= start), reverse=True)
    best = work = speed = 0.0
    for at, one in enumerate(works):
        work += one
        speed += speeds[at] if at < len(speeds) else 0.0
        if at < len(speeds):
            best = max(best, work / speed)
    return max(best, work / speed if speed else 0.0)


def greedy(tasks: Sequence[Task], processors: Sequence[float]) -> float:
    """When a clairvoyant list scheduler ends: each job where it is through first, the longest first (LPT).

    It knows all works, moves nothing, pays nothing: a schedule that can really be had, near the best. Jobs
    that start later are taken in the order of their starts, or the longest first whenever they start; the
    better of both counts. Speeds are rounded up to steps of a hundredth, in the scheduler's favour: looking
    at the first free processor of each step is then enough.

    Args:
        tasks: jobs.
        processors: their speeds in standard speeds.
    """
    by_start = sorted(tasks, key=lambda task: (task.start, -task.work))
    by_work = sorted(tasks, key=lambda task: -task.work)
    return min(_list_schedule(by_start, processors), _list_schedule(by_work, processors))


def _list_schedule(tasks: Sequence[Task], processors: Sequence[float]) -> float:
    kinds: dict[float, list[float]] = {}
    for speed in processors:
        step = math.ceil(math.log(speed) / _STEP - 1e-9)
        kinds.setdefault(math.exp(step * _STEP), []).append(0.0)
    free = list(kinds.items())
    end = 0.0
    for work, start in tasks:
        done, frees = math.inf, free[0][1]
        for speed, times in free:
            first = times[0]
            through = (first if first > start else start) + work / speed
            if through < done:
                done, frees = through, times
        heapq.heapreplace(frees, done)
        end = max(end, done)
    return end


def fair_share(tasks: Sequence[Task], processors: Sequence[float]) -> float:
    """When all are through that share everything evenly at every moment, moves being free.

    What balancing alone could reach at best without knowing how long jobs are: what lies between this and
    `greedy` is the price of not knowing, what lies beyond it that of imperfect balancing. No rule that does
    not know lengths can stay below 2 - 1/m times the best makespan on m processors in the worst case, not
    even with free moves at any moment (Shmoys, Wein, Williamson, "Scheduling parallel machines on-line", SIAM
    Journal on Computing 24(6), 1995). With exponential lengths what a job has used says nothing of what is
    left, so no rule beats this one on average; shortest-remaining-time first needs the very lengths, and
    serves mean waiting, not the last job. With heavy tails (Pareto) who has used most has most left, and a
    rule that gives those the fastest processors may do better than even sharing.

    Args:
        tasks: jobs.
        processors: their speeds in standard speeds.
    """
    fastest = list(accumulate(sorted(processors, reverse=True), initial=0.0))
    coming = sorted(tasks, key=lambda task: task.start, reverse=True)
    alive: list[float] = []  # readings of the common clock of progress at which each is through
    now = progress = 0.0
    while coming or alive:
        if not alive:
            now = max(now, coming[-1].start)
        rate = fastest[min(len(alive), len(processors))] / len(alive) if alive else 0.0
        through = now + (alive[0] - progress) / rate if alive else math.inf
        if coming and coming[-1].start <= through:
            task = coming.pop()
            progress += rate * (task.start - now) if alive else 0.0
            now = max(now, task.start)
            heapq.heappush(alive, progress + task.work)
        else:
            now, progress = through, heapq.heappop(alive)
    return now
