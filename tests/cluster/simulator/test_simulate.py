from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from omtools.cluster.simulator.scenario import Event, Jobs, Network, Nodes, Scenario, Spread, load, names
from omtools.cluster.simulator.simulate import Result, Simulation, jain, simulate
from omtools.cluster.weighing import Policy

ENDLESS = 1e6


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    groups = [
        Nodes(
            count=draw(st.integers(1, 4)),
            speed=float(draw(st.integers(3000, 30000))),
            cpus=float(draw(st.integers(1, 4))),
            memory_mb=float(draw(st.integers(512, 4096))),
            noise=draw(st.sampled_from([0.0, 0.0, 0.3])),
        )
        for _group in range(draw(st.integers(1, 3)))
    ]
    jobs = [
        Jobs(
            count=draw(st.integers(1, 8)),
            cpu_s=Spread(draw(st.floats(0.5, 20)), draw(st.sampled_from(["fixed", "uniform", "exponential", "pareto"]))),
            memory_mb=[1, draw(st.floats(1, 300))],
            at=[0, draw(st.floats(0, 20))],
            forks=draw(st.sampled_from([0, 0, 2])),
            depth=draw(st.integers(1, 2)),
            locked=draw(st.booleans()),
        )
        for _group in range(draw(st.integers(1, 3)))
    ]
    network = Network(loss=draw(st.sampled_from([0.0, 0.2])), delay_ms=draw(st.floats(0, 50)))
    return Scenario(groups, jobs, network=network, seconds=100_000)


@settings(max_examples=25)
@given(scenarios(), st.integers(0, 1000), st.booleans())
def test_what_was_asked_for_is_done_and_nothing_else(scenario: Scenario, seed: int, balanced: bool) -> None:
    result = simulate(scenario, seed, balanced=balanced)
    assert (result.unfinished, result.lost) == (0, 0)
    assert result.delivered_s == pytest.approx(result.asked_s)
    assert result.makespan_s >= result.bound_s * (1 - 1e-9)
    assert result.greedy_s >= result.bound_s
    if not balanced:
        assert result.migrations == 0


def test_the_same_seed_is_the_same_run_and_another_is_not() -> None:
    scenario = load("forks")
    assert simulate(scenario, 5) == simulate(scenario, 5)
    assert simulate(scenario, 5) != simulate(scenario, 6)


def test_calls_and_files_cost_and_are_accounted_for() -> None:
    scenario = Scenario([Nodes(2)], [Jobs(1, cpu_s=10, io_mb_s=50, files_on=2, on=[1])])
    still = simulate(scenario, balanced=False)
    assert still.delivered_s == pytest.approx(15)  # half a second of waiting per second of computing
    moved = simulate(scenario)
    assert moved.makespan_s < 14
    assert moved.migrations == 1


def after(result: Result, second: float) -> int:
    """Moves made after that second."""
    before = max(one.moves for one in result.seconds if one.at <= second)
    return result.migrations - before


@pytest.mark.parametrize("seed", range(3))
def test_a_constant_load_comes_to_rest(seed: int) -> None:
    nodes = [Nodes(6, speed=10000, cpus=2), Nodes(6, speed=[5000, 20000], cpus=[1, 4])]
    scenario = Scenario(nodes, [Jobs(60, cpu_s=ENDLESS, memory_mb=20, on=[1, 2, 3])], seconds=500)
    result = simulate(scenario, seed)
    assert result.evenness > 0.85
    assert after(result, 150) == 0


def test_noise_does_not_make_processes_wander() -> None:
    nodes = [Nodes(12, speed=10000, cpus=1, noise=0.5)]
    scenario = Scenario(nodes, [Jobs(18, cpu_s=ENDLESS, memory_mb=20)], seconds=600)
    simulation = Simulation(scenario, 3)
    simulation.run()
    moves = [job.moves for machine in simulation.world.machines.values() for job in machine.jobs.values()]
    # Resting k x 3 s after the k-th move, a minute at most: never more than these, however the loads sway.
    policy = Policy()
    most, spent = 0, 0.0
    while spent < 600:
        most += 1
        spent += min(policy.rest_s * most, policy.rest_limit_s)
    assert max(moves) <= most
    assert sum(moves) / len(moves) < most / 2


def test_forked_workers_spread_within_seconds() -> None:
    result = simulate(load("forks"))
    assert min(second.busy for second in result.seconds if 10 <= second.at <= 140) > 0.95
    assert result.makespan_s < 1.10 * result.greedy_s
    assert simulate(load("forks"), balanced=False).makespan_s > 7 * result.makespan_s


@pytest.mark.parametrize("seed", range(2))
def test_a_random_mix_is_close_to_the_best(seed: int) -> None:
    nodes = [Nodes(20, speed=10000, cpus=2), Nodes(20, speed=16000, cpus=[1, 4])]
    jobs = [Jobs(800, cpu_s=Spread(40, "uniform"), memory_mb=[5, 60], at=[0, 10])]
    result = simulate(Scenario(nodes, jobs), seed)
    assert result.makespan_s < 1.10 * result.greedy_s
    assert result.ping_pongs <= 5


def test_memory_is_ushered_before_a_node_swaps() -> None:
    scenario = load("memory")
    result = simulate(scenario)
    assert result.evictions > 0
    assert result.unfinished == 0
    assert simulate(scenario, balanced=False).unfinished > 0


def test_nobody_has_room() -> None:
    scenario = Scenario([Nodes(3, memory_mb=1000)], [Jobs(9, cpu_s=20, memory_mb=320)], seconds=60)
    result = simulate(scenario)
    assert result.starved > 0


def test_a_bad_day_is_survived() -> None:
    scenario = load("failures")
    small = [msgspec.structs.replace(group, count=25) for group in scenario.nodes]
    jobs = [msgspec.structs.replace(scenario.jobs[0], count=200)]
    result = simulate(msgspec.structs.replace(scenario, nodes=small, jobs=jobs))
    assert result.unfinished == 0
    assert 0 < result.lost < 40
    assert result.delivered_s <= result.asked_s + 1e-6


def test_joining_nodes_are_used_and_leaving_switches_kept() -> None:
    nodes = [Nodes(2, cpus=1), Nodes(8, cpus=1, later=True)]
    events = [Event(10, "join"), Event(0, "block", [5]), Event(0, "stay", [2])]
    simulation = Simulation(Scenario(nodes, [Jobs(20, cpu_s=60)], events), 1)
    result = simulation.run()
    assert result.migrations > 5
    assert simulation.world.machines[5].delivered == 0
    assert simulation.world.machines[6].delivered > 0


def test_jain() -> None:
    assert jain([3, 3, 3]) == pytest.approx(1)
    assert jain([1, 0, 0, 0]) == pytest.approx(0.25)
    assert jain([0, 0]) == 1


@pytest.mark.parametrize("name", names())
def test_what_is_shipped_can_be_read_and_says_what_it_is(name: str) -> None:
    scenario = load(name)
    assert scenario.title
    assert scenario.about.endswith(".")
