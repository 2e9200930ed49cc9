from __future__ import annotations

import pytest

from omtools.cluster.simulator.machine import MB, Job, Machine
from omtools.cluster.simulator.scenario import Nodes


def machine(speed: float = 10000, cpus: float = 1, memory_mb: float = 4096) -> Machine:
    return Machine(1, Nodes(), speed, cpus, memory_mb)


def job(pid: int, work: float, mb: int = 10) -> Job:
    return Job(pid, 1, work, mb * MB, 0.0)


def test_processors_are_shared_evenly() -> None:
    node = machine()
    short, long = job(1, 10), job(2, 30)
    node.add(0, short, 1.0)
    assert node.next_end() == (10, short)
    node.add(5, long, 1.0)
    assert node.next_end() == (15, short)  # five left, at half the speed
    node.remove(15, short)
    assert short.done == 10
    assert node.next_end() == (40, long)  # 5 done, 25 left
    node.advance(20)
    assert node.done(long) == pytest.approx(10)
    assert node.delivered == pytest.approx(20)


def test_more_processors_than_jobs_do_not_make_a_job_faster() -> None:
    node = machine(20000, 4)
    node.add(0, job(1, 10), 1.0)
    assert node.next_end() == (5, node.jobs[1])
    assert node.busy() == 2
    assert node.capacity == 8


def test_a_job_that_was_held_up_takes_longer_and_leaves_with_what_it_did() -> None:
    node = machine()
    slow = job(1, 10)
    node.add(0, slow, 2.0)
    node.remove(10, slow)
    assert slow.done == pytest.approx(5)
    other = machine()
    other.add(10, slow, 1.0)
    coming = other.next_end()
    assert coming is not None
    assert coming[0] == pytest.approx(15)


def test_a_node_that_swaps_or_hangs_or_is_gone() -> None:
    node = machine(memory_mb=1000)
    node.add(0, job(1, 10, 700), 1.0)
    assert (node.thrashing, node.stalled) == (1, 0)
    node.add(0, job(2, 10, 200), 1.0)
    assert node.thrashing == pytest.approx(0.5)
    node.add(0, job(3, 10, 5000), 1.0)
    assert node.thrashing == 0.02
    node.hanging = True
    node.changed(0)
    assert node.next_end() is None
    node.hanging, node.up = False, False
    node.changed(0)
    assert node.next_end() is None
    assert node.share() == pytest.approx(1 / 3)
    assert machine().share() == 1
