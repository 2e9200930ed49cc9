from __future__ import annotations

from hypothesis import given, strategies as st

from omtools.cluster.costs import Avoided, Costs, Promises


def test_both_links_carry_what_goes_through_home() -> None:
    costs = Costs(fixed_s=0.5, bytes_per_s=100, links={2: 50, 3: 10})
    assert costs.move_s(100, 1, 9, 1) == 0.5 + 1
    assert costs.move_s(100, 1, 2, 1) == 0.5 + 2
    assert costs.move_s(100, 1, 3, 3) == 0.5 + 10
    assert costs.move_s(100, 1, 2, 3) == 0.5 + 2 + 10
    assert Costs(links={1: 0}).link(1) > 0


def test_a_promise_counts_until_the_target_shows_it() -> None:
    promises = Promises(settle_s=3, limit_s=20)
    promises.add(100, 7, 1.0, 500)
    promises.add(102, 7, 0.5, 50)
    assert promises.nodes == {7}
    assert promises.on(103, 7, 1.0) == (1.5, 550)
    assert promises.on(105, 7, 0.5) == (0.5, 50)  # measured at 104.5: the first one shows there
    assert promises.on(105, 7, 9.0) == (1.5, 550)  # measured before
    assert promises.on(121, 7, 99) == (0.5, 50)  # the first is too old
    assert promises.on(105, 8, 9.0) == (0, 0)
    promises.withdraw(7)
    promises.withdraw(8)
    assert promises.on(103, 7, 9.0) == (1.0, 500)
    promises.sweep(150)
    assert promises.nodes == frozenset()


@given(st.lists(st.floats(0, 500), max_size=30))
def test_who_fails_is_asked_less_and_less_but_always_again(moments: list[float]) -> None:
    avoided = Avoided(2, 120)
    for moment in sorted(moments):
        avoided.failed(moment, 5)
        assert avoided.now(moment) == {5}
        assert avoided.now(moment + 120.1) == frozenset()


def test_success_forgives() -> None:
    avoided = Avoided(2, 120)
    avoided.failed(0, 5)
    assert avoided.now(1.9) == {5}
    assert avoided.now(2.1) == frozenset()
    avoided.failed(2.1, 5)
    assert avoided.now(6.0) == {5}
    avoided.worked(5)
    avoided.worked(6)
    assert avoided.now(2.2) == frozenset()


def test_who_says_idle_and_refuses_for_work_is_believed_twice() -> None:
    avoided = Avoided(2, 120)
    for moment in (0.0, 0.1, 0.2, 0.3, 1.0, 1.1):  # two rounds of several refusals
        avoided.busy(moment, 5)
    assert avoided.now(1.2) == frozenset()
    avoided.busy(2.0, 5)
    assert avoided.now(2.1) == {5}
    avoided.worked(5)
    avoided.busy(4.5, 5)
    assert avoided.now(4.6) == frozenset()


def test_small_moves_teach_for_a_while_and_large_ones_for_good() -> None:
    costs = Costs(bytes_per_s=100e6)
    assert costs.learned(2, 1000, 5.0) == costs
    busy = costs.learned(2, 10_000_000, 10.0)
    assert (busy.link(2), busy.link(3)) == (1e6, 100e6)
    assert busy.learned(2, 10_000_000, 1.0).link(2) == 1e6 + 0.3 * 9e6
    assert 9e6 < busy.faded(30.0).link(2) < 11e6  # half of the way, in orders of magnitude
    assert busy.faded(300.0) == costs
    slow = busy.learned(2, 500_000_000, 500.0)
    assert slow.link(2) == slow.faded(1e6).link(2) == 1e6
    assert slow.learned(2, 10_000_000, 0.1).faded(1000.0).link(2) == 1e6


@given(st.lists(st.tuples(st.integers(0, 1 << 32), st.floats(0, 1e4), st.floats(0, 100)), max_size=20))
def test_a_link_always_has_a_speed(moves: list[tuple[int, float, float]]) -> None:
    costs = Costs()
    for size, seconds, later in moves:
        costs = costs.learned(2, size, seconds).faded(later)
        assert 1.0 <= costs.link(2) < float("inf")
