"""The protocol of a migration: plays that can be read, and both sides against each other in a bad world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from migration.protocol_checks import at_rest, check, check_rest, with_effects
from migration.protocol_model import (
    ARRIVED,
    BEFORE_COMMIT,
    Bounds,
    Broken,
    Move,
    World,
    broken_links,
    commands,
    deaths,
    guest_moves,
    home_moves,
    moves,
    progress,
)
from omtools.migration import protocol_table
from omtools.migration.protocol import (
    GUEST_TABLE,
    HOME_TABLE,
    Action,
    Event,
    Guest,
    GuestSide,
    Home,
    HomeSide,
    HomeTable,
    Unexpected,
)

A, E = Action, Event
Play = list[tuple[Event, list[Action]]]

LEAVING_HOME: Play = [
    (E.LINKED, [A.FREEZE]),
    (E.FROZEN, [A.SEND_IMAGE]),
    (E.SENT, []),
    (E.READY, [A.SEND_GO]),
    (E.STARTED, [A.BECOME_DEPUTY]),
]
GIVEN_UP = [A.RELEASE, A.CLOSE]

HOME_PLAYS: dict[str, tuple[Play, Home]] = {
    "away": (LEAVING_HOME, Home.AWAY),
    "there and back": (
        [
            *LEAVING_HOME,
            (E.BRING, [A.SEND_RECALL]),
            (E.LEAVING, [A.REBUILD]),
            (E.REBUILT, [A.RESUME, A.SEND_DONE, A.CLOSE]),
        ],
        Home.HOME,
    ),
    "it needs home by itself": (
        [*LEAVING_HOME, (E.LEAVING, [A.REBUILD]), (E.REBUILT, [A.RESUME, A.SEND_DONE, A.CLOSE])],
        Home.HOME,
    ),
    "home has no room, it goes on away": (
        [
            *LEAVING_HOME,
            (E.BRING, [A.SEND_RECALL]),
            (E.LEAVING, [A.REBUILD]),
            (E.CANNOT, [A.EMPTY_AGAIN, A.SEND_STAY]),
        ],
        Home.AWAY,
    ),
    "to a third node": (
        [
            *LEAVING_HOME,
            (E.HOP, [A.SEND_RECALL]),
            (E.LEAVING, [A.RELAY]),
            (E.NEXT_READY, [A.SEND_GO_NEXT]),
            (E.NEXT_STARTED, [A.SEND_DONE, A.SWITCH]),
        ],
        Home.AWAY,
    ),
    "the third node refuses": (
        [
            *LEAVING_HOME,
            (E.HOP, [A.SEND_RECALL]),
            (E.LEAVING, [A.RELAY]),
            (E.NEXT_REFUSED, [A.DROP_NEXT, A.SEND_STAY]),
        ],
        Home.AWAY,
    ),
    "called home on its way to a third node": (
        [
            *LEAVING_HOME,
            (E.HOP, [A.SEND_RECALL]),
            (E.LEAVING, [A.RELAY]),
            (E.BRING, [A.DROP_NEXT, A.SEND_STAY, A.SEND_RECALL]),
            (E.NEXT_REFUSED, []),  # what had been noted before it was dropped
            (E.LEAVING, [A.REBUILD]),
            (E.REBUILT, [A.RESUME, A.SEND_DONE, A.CLOSE]),
        ],
        Home.HOME,
    ),
    "wishes that come late": (
        [
            *LEAVING_HOME,
            (E.LEAVING, [A.REBUILD]),
            (E.BRING, []),
            (E.HOP, [A.DROP_NEXT]),
            (E.REBUILT, [A.RESUME, A.SEND_DONE, A.CLOSE]),
        ],
        Home.HOME,
    ),
    "nobody answers": ([(E.LOST, [A.CLOSE])], Home.FAILED),
    "it cannot be frozen": ([*LEAVING_HOME[:1], (E.CANNOT, GIVEN_UP)], Home.FAILED),
    "refused while it is sent": ([*LEAVING_HOME[:3], (E.REFUSED, GIVEN_UP)], Home.FAILED),
    "the link breaks before GO": ([*LEAVING_HOME[:3], (E.LOST, GIVEN_UP)], Home.FAILED),
    "the link breaks behind GO": ([*LEAVING_HOME[:4], (E.LOST, GIVEN_UP)], Home.FAILED),
    "the link breaks away": ([*LEAVING_HOME, (E.LOST, [A.KILL_DEPUTY, A.CLOSE])], Home.ENDED),
    "it ends away": ([*LEAVING_HOME, (E.EXITED, [A.END_DEPUTY, A.CLOSE])], Home.ENDED),
    "its deputy is killed": ([*LEAVING_HOME, (E.DIED, [A.CLOSE])], Home.ENDED),
}

GUEST_PLAYS: dict[str, tuple[Play, Guest]] = {
    "comes and goes": (
        [
            (E.IMAGE, [A.BUILD]),
            (E.BUILT, [A.SEND_READY]),
            (E.GO, [A.SEND_STARTED, A.RUN]),
            (E.RECALL, [A.LEAVE]),
            (E.DONE, [A.DESTROY]),
        ],
        Guest.GONE,
    ),
    "cannot be built": ([(E.IMAGE, [A.BUILD]), (E.CANNOT, [A.SEND_REFUSED, A.DESTROY])], Guest.GONE),
    "must stay after all": (
        [
            (E.IMAGE, [A.BUILD]),
            (E.BUILT, [A.SEND_READY]),
            (E.GO, [A.SEND_STARTED, A.RUN]),
            (E.NEED_HOME, [A.LEAVE]),
            (E.RECALL, []),  # home asked at the same moment
            (E.NEED_HOME, []),
            (E.STAY, [A.RUN]),
            (E.EXITED, [A.SEND_EXITED, A.DESTROY]),
        ],
        Guest.GONE,
    ),
    "cannot leave": (
        [
            (E.IMAGE, [A.BUILD]),
            (E.BUILT, [A.SEND_READY]),
            (E.GO, [A.SEND_STARTED, A.RUN]),
            (E.RECALL, [A.LEAVE]),
            (E.CANNOT, [A.SEND_REFUSED, A.RUN]),
        ],
        Guest.RUNNING,
    ),
    "its stub dies before anything has come": ([(E.EXITED, [A.SEND_REFUSED, A.DESTROY])], Guest.GONE),
    "nobody comes": ([(E.LOST, [A.DESTROY])], Guest.GONE),
}


@pytest.mark.parametrize("name", HOME_PLAYS)
def test_plays_at_home(name: str) -> None:
    play, end = HOME_PLAYS[name]
    side = HomeSide()
    for event, actions in play:
        assert list(side.handle(event)) == actions, event
    assert side.state is end


@pytest.mark.parametrize("name", GUEST_PLAYS)
def test_plays_away(name: str) -> None:
    play, end = GUEST_PLAYS[name]
    side = GuestSide()
    for event, actions in play:
        assert list(side.handle(event)) == actions, event
    assert side.state is end


def test_what_no_table_has_changes_nothing() -> None:
    home, guest = HomeSide(), GuestSide()
    with pytest.raises(Unexpected, match="STARTED in state LINKING"):
        home.handle(E.STARTED)
    with pytest.raises(Unexpected, match="GO in state WAITING"):
        guest.handle(E.GO)
    assert (home.state, guest.state) == (Home.LINKING, Guest.WAITING)


# -- the tables by themselves ---------------------------------------------------------------------------


@pytest.mark.parametrize("state", [state for state in Home if state not in HomeSide.final])
def test_home_is_ready_for_the_worst_in_every_state(state: Home) -> None:
    for event in (E.LOST, E.DIED):
        target, actions = HOME_TABLE[state, event]
        assert target in HomeSide.final
        assert A.CLOSE in actions
    target, actions = HOME_TABLE[state, E.LOST]
    assert target is (Home.FAILED if state in BEFORE_COMMIT else Home.ENDED)
    assert (A.KILL_DEPUTY in actions) == (state not in BEFORE_COMMIT)


@pytest.mark.parametrize("state", [state for state in Guest if state not in GuestSide.final])
def test_a_guest_is_ready_for_the_worst_in_every_state(state: Guest) -> None:
    for event in (E.LOST, E.EXITED):
        target, actions = GUEST_TABLE[state, event]
        assert target is Guest.GONE
        assert actions[-1] is A.DESTROY


def test_every_wish_has_an_answer_while_it_is_away() -> None:
    for state in ARRIVED:
        assert (state, E.BRING) in HOME_TABLE


def test_final_states_have_no_way_out() -> None:
    assert not [row for row in HOME_TABLE if row[0] in HomeSide.final]
    assert not [row for row in GUEST_TABLE if row[0] in GuestSide.final]


def test_every_ending_closes_the_links_and_every_action_is_used() -> None:
    for target, actions in HOME_TABLE.values():
        assert (A.CLOSE in actions) == (target in HomeSide.final)
    for guest, actions in GUEST_TABLE.values():
        assert (A.DESTROY in actions) == (guest in GuestSide.final)
    moves_of_both = [*HOME_TABLE.values(), *GUEST_TABLE.values()]
    assert {action for _target, actions in moves_of_both for action in actions} == set(Action)
    assert {event for _state, event in [*HOME_TABLE, *GUEST_TABLE]} == set(Event)


# -- both sides in a bad world --------------------------------------------------------------------------

# Rows that no order of events reaches, because a keeper deals with nothing else while it freezes, sends or
# rebuilds; they say what would be right if it did.
FOR_COMPLETENESS = {
    (Home.LINKING, E.DIED), (Home.FREEZING, E.LOST), (Home.FREEZING, E.REFUSED), (Home.FREEZING, E.BRING),
    (Home.SENDING, E.REFUSED), (Home.SENDING, E.BRING), (Home.WAITING, E.CANNOT), (Home.STARTING, E.CANNOT),
    (Home.RETURNING, E.EXITED),
}  # fmt: skip


def story(seen: dict[World, tuple[World, str] | None], world: World) -> str:
    """How it came to this."""
    lines = []
    while (before := seen[world]) is not None:
        lines.append(f"{before[1]:48} {world.home.name} {[away.state.name for away in world.aways]}")
        world = before[0]
    return "\n".join(reversed(lines))


def search(bounds: Bounds) -> dict[World, tuple[World, str] | None]:
    """Everything that can happen within the bounds; raises Broken with the story of what must not."""
    start = World(bounds)
    seen: dict[World, tuple[World, str] | None] = {start: None}
    to_do = [start]
    while to_do:
        world = to_do.pop()
        try:
            check(world)
            if at_rest(world):
                check_rest(world)
            elif not progress(world):
                raise Broken("it is stuck")
            for name, after in moves(world):
                if after not in seen:
                    seen[after] = (world, name)
                    to_do.append(after)
        except Broken as error:
            raise Broken(f"{error}\n{story(seen, world)}\n{world}") from None
    return seen


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(wishes=2, troubles=1, deaths=0, breaks=0, guests=2),
        Bounds(wishes=1, troubles=1, deaths=1, breaks=1, guests=1),
        Bounds(wishes=2, troubles=0, deaths=1, breaks=1, guests=1),
        Bounds(wishes=0, troubles=1, deaths=2, breaks=1, guests=0),
    ],
    ids=str,
)
def test_nothing_bad_can_happen(bounds: Bounds) -> None:
    seen = search(bounds)
    assert {world.home for world in seen} >= {Home.FAILED, Home.AWAY}
    assert all(len(with_effects(world)) <= 1 for world in seen)


def test_every_row_of_the_tables_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[tuple[object, Event]] = set()

    class Watched(dict[Any, Any]):
        def __getitem__(self, row: tuple[object, Event]) -> object:
            used.add(row)
            return super().__getitem__(row)

    monkeypatch.setattr("migration.protocol_model.HOME_TABLE", Watched(HOME_TABLE))
    monkeypatch.setattr("migration.protocol_model.GUEST_TABLE", Watched(GUEST_TABLE))
    search(Bounds(wishes=2, troubles=1, deaths=1, breaks=1, guests=1))
    search(Bounds(wishes=0, troubles=2, deaths=0, breaks=0, guests=0))
    assert {*HOME_TABLE, *GUEST_TABLE} - used == FOR_COMPLETENESS


def test_the_model_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three faults that were, or could be, in the tables."""
    bounds = Bounds(wishes=2, troubles=1, deaths=0, breaks=1, guests=1)

    def expect(table: HomeTable, words: str) -> None:
        monkeypatch.setattr("migration.protocol_model.HOME_TABLE", table)
        with pytest.raises(Broken, match=words):
            search(bounds)

    hole = {row: move for row, move in HOME_TABLE.items() if row != (Home.RETURNING, E.BRING)}
    expect(hole, "home does not expect BRING in RETURNING")
    too_early = {**HOME_TABLE, (Home.STARTING, E.LOST): (Home.AWAY, (A.BECOME_DEPUTY,))}
    expect(too_early, "emptied before the remote runs")
    bounds = Bounds(wishes=1, troubles=0, deaths=0, breaks=0, guests=1)
    trusting = {
        **HOME_TABLE,
        (Home.RELAYING, E.NEXT_READY): (Home.AWAY, (A.SEND_GO_NEXT, A.SEND_DONE, A.SWITCH)),
        (Home.AWAY, E.STARTED): (Home.AWAY, ()),
    }
    expect(trusting, "there is no other")


class LongStory(RuleBasedStateMachine):
    """A random walk in the same world, far beyond what can be searched."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(Bounds(wishes=12, troubles=12, deaths=2, breaks=3, guests=4))

    def _go(self, data: st.DataObject, choices: list[Move]) -> None:
        if choices:
            _name, self.world = data.draw(st.sampled_from(choices), label="what happens")

    @rule(data=st.data())
    def home_does_something(self, data: st.DataObject) -> None:
        self._go(data, list(home_moves(self.world)))

    @rule(data=st.data(), index=st.integers(0, 4))
    def a_guest_does_something(self, data: st.DataObject, index: int) -> None:
        self._go(data, list(guest_moves(self.world, index)) if index < len(self.world.aways) else [])

    @rule(data=st.data(), times=st.integers(1, 8))
    def it_goes_on(self, data: st.DataObject, times: int) -> None:
        for _time in range(times):
            left = self.world.left
            self._go(data, progress(self.world))
            self.world = self.world._replace(left=left)

    @precondition(lambda self: self.world.polling and self.world.keeper)
    @rule(data=st.data())
    def somebody_wishes(self, data: st.DataObject) -> None:
        self._go(data, list(commands(self.world)))

    @rule(data=st.data())
    def a_link_breaks(self, data: st.DataObject) -> None:
        self._go(data, list(broken_links(self.world)))

    @rule(data=st.data())
    def somebody_dies(self, data: st.DataObject) -> None:
        self._go(data, list(deaths(self.world)))

    @invariant()
    def nothing_is_wrong(self) -> None:
        check(self.world)
        if at_rest(self.world):
            check_rest(self.world)

    def teardown(self) -> None:
        """Left alone it comes to rest, one way or the other."""
        for _step in range(1000):
            if at_rest(self.world):
                break
            _name, self.world = progress(self.world)[0]
            check(self.world)
        check_rest(self.world)


TestLongStory = LongStory.TestCase
TestLongStory.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


# -- the tables as people read them ---------------------------------------------------------------------

DOCUMENT = "# A\n<!-- home table -->\nold\n<!-- end -->\ntext\n<!-- guest table -->\n<!-- end -->\n"


def test_the_tables_can_be_read() -> None:
    written = protocol_table.render(DOCUMENT)
    assert protocol_table.render(written) == written
    assert written.startswith("# A\n<!-- home table -->\n| state | event |")
    assert "old" not in written
    assert "| WAITING | READY: the other side has built it | STARTING | tell the guest to run |" in written
    lines = protocol_table.home_table().splitlines()[2:]
    assert sum(line.partition(" | ")[0].count(",") + 1 for line in lines) == len(HOME_TABLE)
    for state in (*Home, *Guest):
        assert state.name in written


def test_a_document_without_markers() -> None:
    with pytest.raises(ValueError, match="guest table"):
        protocol_table.render(DOCUMENT.replace("<!-- guest table -->", ""))


def test_architecture_md_has_the_tables_as_they_are() -> None:
    document = (Path(__file__).parents[2] / "ARCHITECTURE.md").read_text()
    remedy = "python -m omtools.migration.protocol_table ARCHITECTURE.md"
    assert protocol_table.render(document) == document, remedy
