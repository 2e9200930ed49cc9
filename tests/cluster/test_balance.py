from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from omtools.cluster.balance import Proposal, Refusal, Round, Snapshot, admit, balance
from omtools.cluster.constraints import Hint, Mask, Mover, Process, Reason, allowed
from omtools.cluster.costs import Avoided, Costs, Promises
from omtools.cluster.gossip import View
from omtools.cluster.load import BLOCK, CONFIGURED, LSTAY, NOMFS, QUIET, STAY, UP, normalised
from omtools.cluster.vector import MB, Vector, hundredths
from omtools.cluster.weighing import (
    Cause,
    Policy,
    demand,
    guest_room,
    marginal_cost,
    rate,
    remaining,
    resting,
)

LIVE = CONFIGURED | UP


def node(number: int, tasks: float = 0, speed: int = 10000, cpus: int = 1, free: int = 4000, status: int = LIVE) -> Vector:
    load = hundredths(normalised(tasks, speed, cpus))
    return Vector(number, 1, 1, load, load, load, speed, cpus, 4096, free, free, status=status)


def worker(pid: int, tasks: float = 4, home: int = 1, **more: Any) -> Process:
    """One that computes, among so many on one processor."""
    plain = Process(pid, home, cpu=min(1.0, 1 / tasks), used_s=10, age_s=20, here_s=20, resident=10 * MB)
    return msgspec.structs.replace(plain, **more)


def decide(own: Vector, processes: list[Process], *others: Vector, age: float = 1.0, seed: int = 1, **more: Any) -> Round:
    views = [View(vector, age) for vector in others]
    return balance(Snapshot(100.0, own, processes, views)._replace(**more), Random(seed))


def reasons(done: Round) -> set[Reason]:
    return {refusal.reason for refusal in done.refusals}


def test_from_a_loaded_node_to_an_idle_one() -> None:
    done = decide(node(1, 2), [worker(1, 2), worker(2, 2)], node(2))
    [proposal] = done.proposals
    assert (proposal.target, proposal.cause) == (2, Cause.LOAD)
    assert proposal.stay_s == pytest.approx(20)  # ten seconds more, at half the speed
    assert proposal.go_s == pytest.approx(10 + 0.05 + 10 * MB / 100e6 + 0, rel=0.05)
    [refusal] = done.refusals
    assert refusal.reason is Reason.NO_GAIN


def test_what_has_computed_for_a_second_counts_before_the_mean_has_risen() -> None:
    own = node(1, 4)
    rising = msgspec.structs.replace(own, load_mean=own.load_now // 4)
    fresh: dict[str, Any] = {"used_s": 0.25, "age_s": 1.02, "here_s": 1.02}
    four = [worker(pid, **fresh) for pid in range(4)]
    assert decide(rising, four, node(2), node(3)).proposals
    assert not decide(rising, four[:1], node(2), node(3)).proposals  # the others may be a passing rise
    sleepers = [worker(pid, **fresh, cpu=0.01) for pid in range(4)]
    assert not decide(rising, sleepers, node(2), node(3)).proposals
    young = [worker(pid, 4, used_s=0.2, age_s=0.8, here_s=0.8) for pid in range(4)]
    assert not decide(rising, young, node(2), node(3)).proposals


def test_nothing_moves_where_all_are_alike() -> None:
    done = decide(node(1, 2), [worker(1, 2), worker(2, 2)], node(2, 1), node(3, 2))
    assert done.proposals == []
    assert reasons(done) == {Reason.NO_GAIN}


def test_a_lone_process_goes_to_a_faster_node_but_not_for_a_trifle() -> None:
    assert decide(node(1, 1), [worker(1, 1)], node(2, speed=20000)).proposals
    assert not decide(node(1, 1), [worker(1, 1)], node(2, speed=11000)).proposals
    assert not decide(node(1, 1, 20000), [worker(1, 1)], node(2)).proposals


def test_a_big_one_stays_that_a_small_one_would_not() -> None:
    big = worker(1, 2, resident=3000 * MB)
    assert decide(node(1, 2), [big], node(2), costs=Costs(bytes_per_s=1e6)).proposals == []
    assert decide(node(1, 2), [worker(1, 2)], node(2), costs=Costs(bytes_per_s=1e6 * 100)).proposals


def test_forty_workers_forked_at_once_spread_in_a_round() -> None:
    """As many as the link carries in its budget, to different nodes."""
    processes = [worker(pid, 40, used_s=0.1, age_s=1.5, here_s=1.5) for pid in range(40)]
    done = decide(node(1, 40), processes, *(node(number) for number in range(2, 42)))
    assert len(done.proposals) >= 8
    assert max(Counter(one.target for one in done.proposals).values()) <= 2
    assert sum(one.cost_s for one in done.proposals) <= Policy().budget_s + done.proposals[-1].cost_s
    assert Reason.LINK_BUSY in reasons(done) or Reason.ENOUGH in reasons(done)


def test_calls_keep_a_process_at_home_and_call_a_guest_back() -> None:
    chatty = worker(1, 2, calls=5000.0)
    assert decide(node(1, 2), [chatty], node(2)).proposals == []
    assert decide(node(1, 2), [worker(1, 2, calls=5000.0, hint=Hint.CPU)], node(2)).proposals
    guest = worker(1, 1, home=2, calls=5000.0)
    [proposal] = decide(node(1, 1), [guest], node(2), node(3)).proposals
    assert (proposal.target, proposal.cause) == (2, Cause.CALLS)


def test_a_process_goes_to_its_files() -> None:
    reader = worker(1, 1, io={7: 60e6})
    [proposal] = decide(node(1, 1), [reader], node(2), node(7)).proposals
    assert proposal.target == 7
    assert (proposal.cause, proposal.io) == (Cause.FILES, 60e6)
    assert decide(node(1, 1), [worker(1, 1, io={1: 60e6})], node(2, speed=13000)).proposals == []


def test_an_iojob_counts_its_files_more() -> None:
    lukewarm = worker(1, 1, io={7: 2e6})
    assert decide(node(1, 1), [lukewarm], node(7)).proposals == []
    hinted = msgspec.structs.replace(lukewarm, io={7: 6e6}, hint=Hint.IO)
    assert [one.target for one in decide(node(1, 1), [hinted], node(7)).proposals] == [7]


def test_promises_and_avoided_nodes_count() -> None:
    promises, avoided = Promises(), Avoided()
    promises.add(99.5, 2, 1.0, 0)
    assert not decide(node(1, 2), [worker(1, 2)], node(2), promises=promises).proposals
    avoided.failed(99.5, 2)
    done = decide(node(1, 2), [worker(1, 2)], node(2), avoided=avoided)
    assert reasons(done) == {Reason.NO_NODE}


def test_what_leaves_already_keeps_the_link_busy() -> None:
    done = decide(node(1, 2), [worker(1, 2, resident=200 * MB, used_s=1000.0)], node(2), leaving=1 << 30)
    assert reasons(done) == {Reason.LINK_BUSY}


@pytest.mark.parametrize(("figures", "reason"), [
    ({"locked": True}, Reason.LOCKED), ({"cannot": "a device"}, Reason.CANNOT), ({"moving": True}, Reason.MOVING),
    ({"age_s": 0.5}, Reason.YOUNG), ({"moves": 1, "here_s": 2.9}, Reason.RESTING), ({"cpu": 0.01}, Reason.IDLE),
    ({"moves": 100, "here_s": 59.0}, Reason.RESTING),
])  # fmt: skip
def test_reasons_of_the_process(figures: dict[str, Any], reason: Reason) -> None:
    done = decide(node(1, 2), [worker(1, 2, **figures)], node(2))
    assert done == Round([], [Refusal(1, reason)])


def test_one_of_very_many_is_not_taken_for_idle() -> None:
    """It gets a fortieth of the processor because it has to share it."""
    assert decide(node(1, 40), [worker(1, 40)], node(2)).proposals


@pytest.mark.parametrize("other", [
    node(2, status=CONFIGURED), node(2, status=UP), node(2, status=LIVE | BLOCK), node(2, free=5),
    msgspec.structs.replace(node(2), pressure=50),
])  # fmt: skip
def test_nowhere_to_go(other: Vector) -> None:
    done = decide(node(1, 2), [worker(1, 2)], other)
    assert reasons(done) == {Reason.NO_NODE}
    assert reasons(decide(node(1, 2), [worker(1, 2)], node(2), age=11)) == {Reason.NO_NODE}
    assert reasons(decide(node(1, 2), [worker(1, 2)])) == {Reason.NO_NODE}


@st.composite
def situations(draw: st.DrawFn) -> Snapshot:
    status = st.sampled_from([LIVE, LIVE, LIVE, LIVE | BLOCK, LIVE | STAY, CONFIGURED, UP, LIVE | QUIET | NOMFS])
    numbers = draw(st.lists(st.integers(2, 40), unique=True, max_size=15))
    views = [
        View(node(number, draw(st.floats(0, 5)), draw(st.integers(1000, 30000)), draw(st.integers(1, 8)),
                  draw(st.integers(0, 4096)), draw(status)), draw(st.floats(0, 12)))
        for number in numbers
    ]  # fmt: skip
    processes = [
        Process(
            pid, draw(st.sampled_from([1, 1, 2, 3])), cpu=draw(st.floats(0, 1)), used_s=draw(st.floats(0, 1000)),
            age_s=draw(st.floats(0, 50)), here_s=draw(st.floats(0, 50)), moves=draw(st.integers(0, 4)),
            resident=draw(st.integers(0, 2000)) * MB, calls=draw(st.sampled_from([0, 0, 100, 1e4])),
            io=draw(st.dictionaries(st.integers(1, 5), st.floats(0, 1e8), max_size=2)),
            hint=draw(st.sampled_from(Hint)), locked=draw(st.booleans()), cannot=draw(st.sampled_from(["", "", "x"])),
            moving=draw(st.booleans()), mask=Mask(draw(st.booleans()), draw(st.integers(0, 1 << 40)), draw(st.booleans())),
        )
        for pid in range(draw(st.integers(0, 12)))
    ]  # fmt: skip
    own = node(1, draw(st.floats(0, 40)), 10000, draw(st.integers(1, 4)), 4000, draw(st.sampled_from([LIVE, LIVE, LIVE | STAY, LIVE | LSTAY])))
    promises = Promises()
    for number in numbers[:3]:
        promises.add(99.0, number, draw(st.floats(0, 3)), draw(st.integers(0, 1000)) * MB)
    return Snapshot(100.0, own, processes, views, Costs(), promises)


@settings(max_examples=150)
@given(situations(), st.integers(0, 2**31))
def test_no_proposal_breaks_a_rule(snapshot: Snapshot, seed: int) -> None:
    done = balance(snapshot, Random(seed))
    told = [one.pid for one in done.proposals] + [one.pid for one in done.refusals]
    assert sorted(told) == [process.pid for process in snapshot.processes]
    by_pid = {process.pid: process for process in snapshot.processes}
    views = {view.vector.number: view for view in snapshot.views}
    assert snapshot.promises is not None
    promised = {number: snapshot.promises.on(100.0, number, view.age)[1] for number, view in views.items()}
    for proposal in done.proposals:
        process, view = by_pid[proposal.pid], views[proposal.target]
        assert allowed(
            process, snapshot.own, view.vector, Mover.BALANCE, age=view.age, promised=promised[proposal.target]
        ) is None  # fmt: skip
        assert not resting(process, snapshot.policy)
        assert proposal.stay_s > snapshot.policy.margin * proposal.go_s
        if proposal.cause is Cause.FILES:
            assert process.hint is not Hint.CPU
            assert any(process.io.values())
        if proposal.cause is Cause.CALLS:
            assert process.calls
            assert proposal.target == process.home
        assert proposal.io == process.io.get(proposal.target, 0.0)
        assert proposal.size + promised[proposal.target] <= guest_room(view.vector)
        promised[proposal.target] += proposal.size
    assert balance(snapshot, Random(seed)) == done


def test_the_herd_is_bounded_whatever_the_gossip_says() -> None:
    """A thousand nodes see the same two idle ones: no more arrive than gain by it."""
    idle = {2: node(2, cpus=4), 3: node(3, cpus=4)}
    admitted: Counter[int] = Counter()
    chosen: Counter[int] = Counter()
    for seed in range(1000):
        done = decide(node(1, 2), [worker(1, 2), worker(2, 2)], *idle.values(), seed=seed)
        for proposal in done.proposals:
            chosen[proposal.target] += 1
            if admit(idle[proposal.target], 0, admitted[proposal.target], proposal) is None:
                admitted[proposal.target] += 1
    assert sum(chosen.values()) > 900
    assert 0.3 < chosen[2] / sum(chosen.values()) < 0.7
    for number in idle:  # each newcomer must get more than the half processor that it had
        assert 4 <= admitted[number] < 8


def test_a_target_with_meanwhile_no_memory_refuses() -> None:
    [proposal] = decide(node(1, 2), [worker(1, 2), worker(2, 2)], node(2)).proposals
    assert admit(node(2), 0, 0, proposal) is None
    assert admit(node(2, free=100), 0, 0, proposal) is Reason.FULL
    assert admit(node(2), 0, 0, proposal, arriving_bytes=4000 * MB) is Reason.FULL
    assert admit(node(2), 1, 0, proposal) is Reason.BUSY


@given(st.floats(0, 100), st.integers(1, 100_000), st.integers(1, 64))
def test_rates(tasks: float, speed: int, cpus: int) -> None:
    got = rate(tasks, speed, cpus)
    assert 0 < got <= speed / 10000
    assert rate(tasks + 1, speed, cpus) <= got
    assert got * tasks <= speed / 10000 * cpus * (1 + 1e-9)


@given(st.integers(1, 10000), st.floats(0, 1), st.floats(0, 0.5))
def test_opportunity_costs_rise_ever_faster(nodes: int, before: float, more: float) -> None:
    assert marginal_cost(nodes, before, before + more) >= 0
    assert marginal_cost(nodes, before + 0.1, before + 0.1 + more) >= marginal_cost(nodes, before, before + more)
    assert marginal_cost(nodes, 1e300, 1e301) == 0


def test_small_figures() -> None:
    assert demand(Process(1, 1, cpu=0.25), 4) == 1
    assert demand(Process(1, 1, cpu=0.25), 0.5) == 0.25
    policy = Policy()
    assert remaining(Process(1, 1, used_s=0), policy) == policy.least_s
    assert remaining(Process(1, 1, used_s=1e9), policy) == policy.most_s
    assert isinstance(decide(node(1, 2), [worker(1, 2), worker(2, 2)], node(2)).proposals[0], Proposal)
