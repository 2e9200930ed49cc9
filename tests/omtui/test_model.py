from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from omtools.agent import api
from omtools.cluster.load import BLOCK, CONFIGURED, UP
from omtui.local import LocalProcess
from omtui.locks import locked_at_home
from omtui.model import (
    NODE_KEYS,
    PROCESS_KEYS,
    Process,
    State,
    matching_processes,
    merged,
    sorted_nodes,
    sorted_processes,
)
from omtui.moving import UNKNOWN, paces_after
from omtui.processes.rows import COLUMNS, about, cell_of
from omtui.sums import efficiency, totals
from omtui.tree import as_tree
from omtui.world import World


def info(pid: int, where: int = 1, role: str = "deputy", home: int = 1, **more: Any) -> api.ProcessInfo:
    phase = more.pop("phase", "away" if where != home else "home")
    return api.ProcessInfo(pid, pid, 1000, role, f"m-{pid}", home, where, phase, **more)  # type: ignore[arg-type]


def seen(pid: int, ppid: int = 1, command: str = "sleep 9") -> LocalProcess:
    return LocalProcess(pid, ppid, 1000, "S", command)


def heard(*infos: api.ProcessInfo, local: list[LocalProcess] | None = None) -> State:
    state = State()
    state.hear_processes(api.ProcessList(1, list(infos)), local or [], 100.0)
    return state


@pytest.mark.parametrize(
    ("loads", "wanted"),
    [([], 100), ([0.0, 0.0], 100), ([50.0, 50.0], 100), ([100.0, 0.0], 50), ([100.0, 50.0, 0.0, 50.0], 50)],
)
def test_load_balancing_efficiency(loads: list[float], wanted: int) -> None:
    assert efficiency(loads) == wanted


def test_totals_are_of_nodes_that_are_up() -> None:
    up = api.NodeView(1, "a", "x", "up", status=CONFIGURED | UP, load=150, cpus=2, mem_total=100, mem_available=60, guests=3)
    down = api.NodeView(2, "b", "y", "down", status=CONFIGURED, load=99, cpus=8, mem_total=100, guests=9)
    found = totals([up, down])
    assert (found.nodes, found.up, found.cpus, found.load, found.mem_used, found.guests) == (2, 1, 2, 150, 40, 3)


def test_what_the_agent_and_proc_know_becomes_one() -> None:
    found = merged([info(7, where=2, moves=1), info(9, where=3)], [seen(7, command="lame"), seen(8)], 1)
    assert [(p.pid, p.node, p.known, p.command) for p in found] == [
        (7, 2, True, "lame"),
        (8, 0, False, "sleep 9"),
        (9, 3, True, ""),
    ]


def test_marks() -> None:
    state = heard(info(7, where=2, locked=True), info(8, where=1, role="guest", home=3), local=[seen(9)])
    assert [process.marks for process in state.processes] == ["ML", "G-", "--"]


def test_an_event_changes_one_process_and_the_rest_stays() -> None:
    state = heard(info(7, where=2), local=[seen(7), seen(8)])
    assert state.hear_event(api.ProcessChanged(info(8, where=3)), 101.0)
    state.settle()
    assert {p.pid: p.node for p in state.processes} == {7: 2, 8: 3}
    state.hear_event(api.ProcessChanged(info(7, where=1, phase="home"), gone=True), 102.0)
    state.hear_event(api.ProcessChanged(info(9, where=1, role="guest", home=2)), 102.0)
    state.settle()
    assert {p.pid: (p.node, p.known) for p in state.processes} == {7: (0, False), 8: (3, True), 9: (0, True)}
    state.hear_event(api.ProcessChanged(info(9, where=2, role="guest", home=2), gone=True), 103.0)
    state.settle()
    assert [p.pid for p in state.processes] == [7, 8]


def test_moves_are_noticed_once_from_events_and_pictures() -> None:
    state = heard(info(7, where=2, bytes=10, frozen_ms=5.0))
    assert not state.moves
    state.hear_event(api.ProcessChanged(info(7, where=3)), 101.0)
    state.hear_event(api.ProcessChanged(info(7, where=3)), 102.0)
    state.hear_processes(api.ProcessList(1, [info(7, where=1)]), [], 103.0)
    state.hear_event(api.ProcessChanged(info(8, where=2, bytes=9)), 104.0)
    assert [(m.pid, m.source, m.target) for m in state.moves] == [(7, 2, 3), (7, 3, 1), (8, 1, 2)]


def test_what_happens_on_other_nodes_is_listed_and_their_moves_are_drawn() -> None:
    state = heard(info(7, where=2), local=[seen(7)])
    before = state.processes
    for phase, where in (("away", 3), ("freezing", 3), ("away", 1), ("home", 2)):
        state.hear_event(api.ProcessChanged(info(7, where=where, home=2, phase=phase)), 101.0, 2)
        guest = api.ProcessChanged(info(7, where=3, home=2, role="guest", phase=phase))
        assert not state.hear_event(guest, 101.0, 3)  # its home has told of it
    state.hear_event(api.ProcessChanged(info(7, where=2, home=2, phase="home"), gone=True), 102.0, 2)
    state.hear_event(api.Decided(7, "stay"), 103.0, 2)
    state.settle()
    assert [(m.pid, m.source, m.target) for m in state.moves] == [(7, 3, 1), (7, 1, 2)]
    assert state.processes is before  # of the same pid, but another node's
    assert state.decisions == {}
    assert state.abroad == {}
    # Not the first, which may be one that is away all the time, and not the end of what is at home already.
    told = [getattr(event, "process", None) for _when, _node, event in state.happened]
    assert [one and (one.phase, one.where) for one in told] == [
        ("freezing", 3),
        ("away", 1),
        ("home", 2),
        None,
    ]


def test_what_is_only_counted_is_not_listed() -> None:
    state = heard(info(7, where=2))
    for calls in (1, 2, 3):
        assert state.hear_event(api.ProcessChanged(info(7, where=2, calls_forwarded=calls)), 101.0)
        state.hear_event(api.ProcessChanged(info(8, where=3, home=2, calls_forwarded=calls)), 101.0, 2)
    assert not state.happened
    assert not state.moves
    state.hear_event(api.ProcessChanged(info(7, where=1, phase="home", moves=2)), 102.0)
    state.hear_event(api.ProcessChanged(info(7, where=1, phase="home", moves=2), gone=True), 102.0)
    assert len(state.happened) == 1


def test_locked_at_home_is_what_was_said_of_it_or_of_who_started_it() -> None:
    local = [seen(1, ppid=0), seen(7, ppid=1), seen(8, ppid=7), seen(9, ppid=8), seen(10, ppid=1)]
    state = State()
    state.hear_processes(api.ProcessList(1, [], {7: True, 9: False}), local, 100.0)
    assert {process.pid: process.marks for process in state.processes if process.locked} == {7: "-L", 8: "-L"}
    state.hear_processes(api.ProcessList(1, []), local, 101.0)
    assert not any(process.locked for process in state.processes)
    loop = {one.pid: one for one in (seen(3, ppid=4), seen(4, ppid=3))}  # /proc is read while it changes
    assert locked_at_home({3: True}, loop) == {3, 4}
    assert locked_at_home({5: True}, loop) == set()


def test_calls_per_second() -> None:
    def told(calls: int, moves: int = 1) -> list[api.ProcessInfo]:
        return [info(7, where=2, calls_forwarded=calls, moves=moves)]

    paces = paces_after({}, told(100), 10.0)
    paces = paces_after(paces, told(100), 11.0)
    assert paces["deputy", 7].rate == UNKNOWN  # an agent that tells only when a process moves
    paces = paces_after(paces, told(350), 13.5)
    assert paces["deputy", 7].rate == 100
    paces = paces_after(paces, told(350), 14.0)
    assert paces["deputy", 7].rate == 0
    assert list(paces["deputy", 7].history) == [100, 0]
    paces = paces_after(paces, told(9000, moves=2), 15.0)  # all that was not told before comes with a move
    assert paces["deputy", 7].rate == 0
    assert paces_after(paces, [], 16.0) == {}


def test_a_switch_is_seen_before_the_next_picture() -> None:
    state = State()
    state.hear_views(World(3).views())
    assert state.hear_event(api.SwitchChanged(2, CONFIGURED | UP | BLOCK), 1.0)
    assert state.nodes[2].words == "BLOCK"
    assert not state.hear_event(api.SwitchChanged(99, 3), 1.0)


def test_what_is_remembered_is_bounded() -> None:
    state = State()
    world = World(3, 50)
    for second in range(3000):
        state.hear_event(api.Decided(second + 1, "stay"), float(second))
        if second % 10 == 0:
            state.hear_views(world.views())
            state.hear_processes(world.listing(), world.local(), float(second))
    assert len(state.happened) == 2000
    assert len(state.decisions) == 1000
    assert len(state.nodes[1].loads) == 60


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), unique_by=lambda pair: pair[0]))
def test_a_tree_has_everybody_once_and_children_behind_their_parents(pairs: list[tuple[int, int]]) -> None:
    """Even where /proc was read while it changed and parents go in a circle."""
    found = as_tree([Process(pid, ppid) for pid, ppid in pairs])
    assert sorted(process.pid for process in found) == sorted(pid for pid, _ppid in pairs)
    for index, process in enumerate(found):
        if process.depth:
            above = next(p for p in reversed(found[:index]) if p.depth == process.depth - 1)
            assert above.pid == process.ppid


@pytest.mark.parametrize("backwards", [False, True])
def test_every_order_keeps_everybody(backwards: bool) -> None:
    state = State()
    world = World(12, 60)
    world.kill(4)
    state.hear_views(world.views())
    state.hear_processes(world.listing(), world.local(), 1.0)
    for key in NODE_KEYS:
        ordered = sorted_nodes(state.nodes.values(), key, backwards)
        assert sorted(n.view.number for n in ordered) == list(range(1, 13))
    for key in PROCESS_KEYS:
        found = sorted_processes(state.processes, key, backwards)
        values = [getattr(p, key) for p in found]
        assert values == sorted(values, reverse=backwards)
        assert len(found) == len(state.processes)


def test_filters() -> None:
    found = heard(info(7, where=2, reason="it has 3 threads"), local=[seen(7), seen(8, command="povray x")]).processes
    assert [p.pid for p in matching_processes(found, "POV")] == [8]
    assert [p.pid for p in matching_processes(found, "threads")] == [7]
    assert [p.pid for p in matching_processes(found, "8")] == [8]
    assert matching_processes(found, "  ") is found


def test_what_it_has_read_and_written_by_dfsa() -> None:
    state = heard(info(7, where=2, dfsa_bytes=5 << 20), info(8, where=2))
    direct, other = state.processes
    cell = cell_of(lambda _process: "")
    column = next(column for column in COLUMNS if column.key == "dfsa_bytes")
    assert [cell(process, column, 5).text for process in (direct, other)] == ["5.0M", ""]
    assert about(direct, state, None).endswith("5.0M read and written by DFSA")
    assert "DFSA" not in about(other, state, None)
    assert sorted_processes(state.processes, "dfsa_bytes") == [other, direct]
