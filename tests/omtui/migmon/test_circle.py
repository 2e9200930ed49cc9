from __future__ import annotations

from hypothesis import given, settings as effort, strategies as st

from omtui.migmon.circle import BOX_HEIGHT, BOX_WIDTH, around, chosen_nodes
from omtui.migmon.scene import Look, Travelling, by_node, cells_between, draw_scene, under_way
from omtui.model import State
from omtui.moving import Flight, Move
from omtui.spans import text_of
from omtui.world import World


@given(st.integers(1, 80), st.integers(16, 250), st.integers(4, 80))
def test_nodes_stand_within_the_screen_and_never_touch(count: int, width: int, height: int) -> None:
    places = around(list(range(1, count + 1)), width, height)
    assert places
    assert places[0].number == 1
    for place in places:
        assert 0 <= place.x <= width - BOX_WIDTH
        assert 0 <= place.y <= height - BOX_HEIGHT
    assert not any(a.overlaps(b) for i, a in enumerate(places) for b in places[i + 1 :])


def test_the_first_stands_at_the_top() -> None:
    first, second, third, fourth = around([1, 2, 3, 4], 80, 20)
    assert first.y == 0
    assert (second.x, fourth.x) == (64, 0)
    assert third.y == 16


def state_of(world: World) -> State:
    state = State()
    state.hear_views(world.views())
    state.hear_processes(world.listing(), world.local(), 1.0)
    return state


def test_nodes_that_have_to_do_with_our_processes_come_first() -> None:
    state = state_of(World(40, 10))
    concerned = {p.home if p.guest else p.node for p in state.processes if p.migrated}
    numbers = chosen_nodes(state.nodes.values(), state.processes, 1, 10)
    assert numbers[0] == 1
    assert set(numbers[1 : 1 + len(concerned)]) == concerned
    turned = chosen_nodes(state.nodes.values(), state.processes, 1, 10, 3)
    assert turned[0] == 1
    assert turned[1:7] == numbers[4:10]


@effort(deadline=None, max_examples=40)
@given(st.integers(1, 20), st.integers(0, 80), st.integers(1, 140), st.integers(1, 50), st.integers(0, 2000))
def test_a_scene_is_as_big_as_the_screen_and_its_squares_are_there(
    size: int, count: int, width: int, height: int, chosen: int
) -> None:
    state = state_of(World(size, count, seed=count))
    places = around(chosen_nodes(state.nodes.values(), state.processes, 1, 12), width, height)
    moves = [Travelling(1, 2, 0.5, "1000: 1.0M, 5 ms")]
    groups = by_node(state.processes, 1)
    scene = draw_scene(places, state.nodes, groups, 1, (width, height), Look(chosen, 1, (0, 0)), moves)
    assert len(scene.lines) == height
    assert all(len(text_of(line)) == width for line in scene.lines)
    pids = {process.pid for process in state.processes}
    assert set(scene.squares.values()) <= pids


def test_cells_of_a_line_and_moves_that_go_on() -> None:
    cells = list(cells_between((0, 0), (10, 5)))
    assert cells == [(2, 1), (4, 2), (6, 3), (8, 4)]
    old, new = Move(1.0, 1, 1, 2, 0, 0.0), Move(9.5, 2, 1, 2, 0, 0.0)
    assert [move.said for move in under_way([old, new], [], 10.0, {1, 2})] == ["2: 0, 0 ms"]
    assert under_way([new], [], 10.0, {1, 3}) == []
    flight = Flight(9.0, 10.0, 7, 1, 2, 45 << 20, 90 << 20)
    assert under_way([], [flight], 10.0, {1, 2}) == [Travelling(1, 2, 0.5, "7: 45M of 90M, 47 MB/s")]
    assert under_way([], [flight], 10.0, {1, 3}) == []
