from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from omtools.cluster.simulator.bounds import Task, fair_share, greedy, lower_bound

TASKS = st.lists(st.builds(Task, st.floats(0.1, 100), st.floats(0, 50)), min_size=1, max_size=40)
SPEEDS = st.lists(st.floats(0.1, 5), min_size=1, max_size=10)


@pytest.mark.parametrize(("works", "speeds", "bound", "schedule"), [
    ([10], [1, 1], 10, 10),
    ([10, 10], [1, 1], 10, 10),
    ([1, 1, 1], [1, 1], 1.5, 2),  # a preemptive schedule shares the third
    ([12, 6], [2, 1], 6, 6),
    ([10, 1], [1, 0.1], 10, 10),
    ([7, 6, 5, 4, 3], [1, 1, 1], 25 / 3, 9),
])  # fmt: skip
def test_known_cases(works: list[float], speeds: list[float], bound: float, schedule: float) -> None:
    tasks = [Task(work, 0.0) for work in works]
    assert lower_bound(tasks, speeds) == pytest.approx(bound)
    assert greedy(tasks, speeds) == pytest.approx(schedule, rel=0.011)


def test_nothing_to_do() -> None:
    assert lower_bound([], [1]) == greedy([], [1]) == 0


@given(TASKS, SPEEDS)
def test_the_bound_is_below_the_schedule(tasks: list[Task], speeds: list[float]) -> None:
    assert lower_bound(tasks, speeds) <= greedy(tasks, speeds) * 1.0101


@given(TASKS, SPEEDS)
def test_the_bound_is_above_the_plain_ones(tasks: list[Task], speeds: list[float]) -> None:
    bound = lower_bound(tasks, speeds) * (1 + 1e-9)
    first = min(task.start for task in tasks)
    assert bound >= first + sum(task.work for task in tasks) / sum(speeds)
    assert bound >= max(task.work for task in tasks) / max(speeds)


def test_a_late_task_is_waited_for() -> None:
    assert lower_bound([Task(1, 0), Task(5, 100)], [1, 1]) == 105
    assert greedy([Task(1, 0), Task(5, 100)], [1, 1]) == 105


@pytest.mark.parametrize(("tasks", "speeds", "end"), [
    ([Task(10, 0)], [1, 2], 5),
    ([Task(10, 0), Task(10, 0)], [1], 20),
    ([Task(5, 0), Task(10, 0)], [1], 15),
    ([Task(3, 0), Task(9, 0)], [2, 1], 5),  # 1.5 each for 2 s, then the longer one alone at 2
    ([Task(1, 0), Task(5, 100)], [1, 1], 105),
    ([Task(10, 0), Task(10, 5)], [1], 20),
])  # fmt: skip
def test_sharing_evenly(tasks: list[Task], speeds: list[float], end: float) -> None:
    assert fair_share(tasks, speeds) == pytest.approx(end)


@given(TASKS, SPEEDS)
def test_sharing_evenly_is_no_better_than_the_bound(tasks: list[Task], speeds: list[float]) -> None:
    assert fair_share(tasks, speeds) >= lower_bound(tasks, speeds) * (1 - 1e-9)
    assert fair_share([], speeds) == 0
