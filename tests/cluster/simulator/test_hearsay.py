"""Gossip that is drawn must be as what is drawn from."""

from __future__ import annotations

import statistics
from random import Random

import pytest

from omtools.cluster.gossip import Settings
from omtools.cluster.load import CONFIGURED, UP
from omtools.cluster.simulator.hearsay import Hearsay
from omtools.cluster.simulator.scenario import Event, Jobs, Nodes, Scenario, Spread
from omtools.cluster.simulator.simulate import Simulation
from omtools.cluster.vector import Vector


def scenario(*events: Event) -> Scenario:
    jobs = Jobs(300, cpu_s=Spread(10, "uniform"), memory_mb=[5, 40], at=[0, 5])
    return Scenario([Nodes(40, cpus=2), Nodes(20, speed=16000, cpus=2)], [jobs], events=list(events))


@pytest.fixture(scope="module")
def heard() -> Hearsay:
    return Hearsay(list(range(1, 501)), Settings(), Random(1), 64)


def told(hearsay: Hearsay, seconds: range, silent: frozenset[int] = frozenset()) -> None:
    for second in seconds:
        for number in range(1, 501):
            if number not in silent:
                hearsay.note(float(second), Vector(number, 1, second + 1, status=CONFIGURED | UP))


def test_nobody_hears_of_itself_or_twice_and_old_news_is_none(heard: Hearsay) -> None:
    told(heard, range(20))
    for own in (1, 250, 500):
        views = heard.views(own, 19.5, None)
        numbers = [view.vector.number for view in views]
        assert own not in numbers
        assert len(set(numbers)) == len(numbers) > 40
        assert all(0.5 <= view.age <= 10.5 for view in views)
    told(heard, range(20, 40), silent=frozenset(range(1, 251)))
    assert all(view.vector.number > 250 for view in heard.views(300, 39.5, None))
    assert heard.views(300, 39.5, lambda _one, _other: False) == []


def test_both_kinds_of_run_come_to_alike_figures() -> None:
    results = [Simulation(scenario(), seed=3, drawn=drawn).run() for drawn in (False, True)]
    sent, drawn = results
    assert drawn.unfinished == sent.unfinished == 0
    assert drawn.makespan_s == pytest.approx(sent.makespan_s, rel=0.1)
    assert sent.age_s - 2 < drawn.age_s < sent.age_s  # of half as many, so they are younger
    assert drawn.migrations == pytest.approx(sent.migrations, rel=0.4)
    assert drawn.gossip_bytes == pytest.approx(sent.gossip_bytes, rel=0.4)


def test_drawn_runs_are_repeatable_and_know_mishaps() -> None:
    split = scenario(Event(2, "partition", nodes=list(range(1, 21))), Event(8, "heal"), Event(4, "die", nodes=[60]))
    results = [Simulation(split, seed=5, drawn=True).run() for _time in range(2)]
    assert results[0] == results[1]
    assert results[0].unfinished == 0
    assert statistics.mean(second.busy for second in results[0].seconds) > 0.3
