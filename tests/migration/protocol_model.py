"""A world around the two state machines: keepers, links, copies of a process, and all that may go wrong.

A world is a value. `moves` lists what may happen next, each with the world it leads to; so one model serves
a search through all that can happen (within bounds) and a random walk without bounds. `Broken` is raised
where something happens that must not.

What the keepers do is taken from `home_keeper` and `guest_keeper`: one event after the other, local events
before frames, long actions (freezing, sending, building) as a time in which nothing else is dealt with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from omtools.migration.protocol import (
    GUEST_TABLE,
    HOME_TABLE,
    Action,
    Event,
    Guest,
    GuestSide,
    Home,
    HomeSide,
)

A, E = Action, Event

# What the copy of the process in some place is like.
RUNS, FROZEN, DEPUTY, HALF, FULL, DEAD, NONE, GONE = (
    "runs", "frozen", "deputy", "half filled", "filled", "dead", "none", "gone",
)  # fmt: skip
WHOLE = (RUNS, FROZEN, FULL)

SERVING = (Home.AWAY, Home.RECALLING, Home.HOPPING)
BEFORE_COMMIT = (Home.LINKING, Home.FREEZING, Home.SENDING, Home.WAITING, Home.STARTING)
ARRIVED = tuple(state for state in Home if state not in BEFORE_COMMIT and state not in HomeSide.final)

HOME_LONG = (A.FREEZE, A.SEND_IMAGE, A.REBUILD, A.RELAY)
GUEST_LONG = (A.BUILD, A.LEAVE)

# What a side says by which action, and what the other hears.
SAYS_TO_GUEST = {A.SEND_GO: E.GO, A.SEND_GO_NEXT: E.GO, A.SEND_RECALL: E.RECALL, A.SEND_DONE: E.DONE,
                 A.SEND_STAY: E.STAY}  # fmt: skip
SAYS_TO_HOME = {A.SEND_READY: E.READY, A.SEND_REFUSED: E.REFUSED, A.SEND_STARTED: E.STARTED,
                A.SEND_EXITED: E.EXITED}  # fmt: skip
FROM_NEXT = {E.READY: E.NEXT_READY, E.STARTED: E.NEXT_STARTED, E.REFUSED: E.NEXT_REFUSED,
             E.LOST: E.NEXT_REFUSED, E.BRING: E.NEXT_REFUSED}  # fmt: skip


class Broken(AssertionError):
    """The protocol has done what it must never do."""


class Away(NamedTuple):
    """A guest's keeper, its copy, and its link to home."""

    state: Guest = Guest.WAITING
    copy: str = NONE
    local: tuple[Event, ...] = ()
    busy: Action | None = None
    to_guest: tuple[Event, ...] = ()
    to_home: tuple[Event, ...] = ()
    guest_end: bool = True   # nobody has closed it
    home_end: bool = True
    broken: bool = False


class Bounds(NamedTuple):
    """How often things may happen."""

    wishes: int = 2    # bring, hop, expel
    troubles: int = 2  # cannot, need home, time out
    deaths: int = 1    # of a process, or of a keeper
    breaks: int = 1    # of links
    guests: int = 2


class World(NamedTuple):
    """All of it at one moment."""

    left: Bounds
    home: Home = Home.LINKING
    copy: str = RUNS
    local: tuple[Event, ...] = (E.LINKED,)
    busy: tuple[Action, ...] = ()   # a long action, and what is to be done after it
    polling: bool = False           # between two events it looks what comes first
    keeper: bool = True             # the deputy's keeper lives
    current: int = 0
    next: int = -1
    aways: tuple[Away, ...] = (Away(),)

    def spend(self, what: str) -> World | None:
        """The same world with one less of that left, None if there is none left."""
        left = getattr(self.left, what)
        return self._replace(left=self.left._replace(**{what: left - 1})) if left else None

    def put(self, index: int, away: Away) -> World:
        """With another guest at that place."""
        return self._replace(aways=(*self.aways[:index], away, *self.aways[index + 1 :]))


Move = tuple[str, World]


# -- links ----------------------------------------------------------------------------------------------


def say_to_guest(away: Away, word: Event) -> Away:
    return away if away.broken or not away.guest_end else away._replace(to_guest=(*away.to_guest, word))


def say_to_home(away: Away, word: Event) -> Away:
    return away if away.broken or not away.home_end else away._replace(to_home=(*away.to_home, word))


def close_home_end(away: Away) -> Away:
    if not away.home_end:
        return away
    return say_to_guest(away, E.LOST)._replace(home_end=False, to_home=())


def close_guest_end(away: Away) -> Away:
    if not away.guest_end:
        return away
    return say_to_home(away, E.LOST)._replace(guest_end=False, to_guest=())


def broken_links(world: World) -> Iterator[Move]:
    """A link breaks; what is on its way arrives, or does not."""
    for index, away in enumerate(world.aways):
        if away.broken or not (away.home_end and away.guest_end):
            continue
        spent = world.spend("breaks")
        if spent is None:
            return
        for kept in (True, False):
            guest, home = (away.to_guest, away.to_home) if kept else ((), ())
            cut = away._replace(broken=True, to_guest=(*guest, E.LOST), to_home=(*home, E.LOST))
            yield f"link {index} breaks, {'all' if kept else 'nothing'} arrives", spent.put(index, cut)


# -- home -----------------------------------------------------------------------------------------------


def home_takes(world: World, event: Event) -> World:
    """The deputy's keeper handles an event."""
    try:
        state, actions = HOME_TABLE[world.home, event]
    except KeyError:
        raise Broken(f"home does not expect {event.name} in {world.home.name}") from None
    return home_does(world._replace(home=state), actions)


def home_does(world: World, actions: tuple[Action, ...]) -> World:
    for position, action in enumerate(actions):
        if action in HOME_LONG:
            return world._replace(busy=actions[position:])
        world = HOME_ACTIONS[action](world, action)
    return world._replace(busy=(), polling=not world.local)


def _say(world: World, action: Action) -> World:
    index = world.next if action is A.SEND_GO_NEXT else world.current
    away = world.aways[index]
    if away.broken and world.home not in HomeSide.final:  # it notices at once (else when it reads)
        lost = E.NEXT_REFUSED if action is A.SEND_GO_NEXT else E.LOST
        world = world._replace(local=(*world.local, lost))
    return world.put(index, say_to_guest(away, SAYS_TO_GUEST[action]))


def _release(world: World, _action: Action) -> World:
    return world._replace(copy=_unless_dead(world, (RUNS, FROZEN), RUNS))


def _become_deputy(world: World, _action: Action) -> World:
    if world.aways[world.current].state not in (Guest.RUNNING, Guest.LEAVING, Guest.GONE):
        raise Broken("the process at home is emptied before the remote runs")
    return world._replace(copy=_unless_dead(world, (FROZEN,), DEPUTY))


def _resume(world: World, _action: Action) -> World:
    return world._replace(copy=_unless_dead(world, (FULL,), RUNS))


def _empty_again(world: World, _action: Action) -> World:
    return world._replace(copy=_unless_dead(world, (HALF,), DEPUTY))


def _unless_dead(world: World, expected: tuple[str, ...], then: str) -> str:
    if world.copy == DEAD:
        return DEAD
    if world.copy not in expected:
        raise Broken(f"the process at home is {world.copy}")
    return then


def _end_deputy(world: World, _action: Action) -> World:
    if world.copy in (RUNS, FROZEN):
        raise Broken("a whole process is ended")
    return world._replace(copy=DEAD)


def _close(world: World, _action: Action) -> World:
    for index in {world.current, world.next} - {-1}:
        world = world.put(index, close_home_end(world.aways[index]))
    return world._replace(next=-1)


def _switch(world: World, _action: Action) -> World:
    world = world.put(world.current, close_home_end(world.aways[world.current]))
    return world._replace(current=world.next, next=-1)


def _drop_next(world: World, _action: Action) -> World:
    if world.next >= 0:
        world = world.put(world.next, close_home_end(world.aways[world.next]))
    return world._replace(next=-1)


HOME_ACTIONS: dict[Action, Callable[[World, Action], World]] = {
    **dict.fromkeys(SAYS_TO_GUEST, _say),
    A.RELEASE: _release, A.BECOME_DEPUTY: _become_deputy, A.RESUME: _resume, A.EMPTY_AGAIN: _empty_again,
    A.END_DEPUTY: _end_deputy, A.KILL_DEPUTY: _end_deputy, A.CLOSE: _close, A.SWITCH: _switch,
    A.DROP_NEXT: _drop_next,
}  # fmt: skip


def outcomes_at_home(world: World) -> Iterator[tuple[str, World, tuple[Event, ...]]]:
    """How the long action may end: a name, the world, the events it makes."""
    action = world.busy[0]
    away = world.aways[world.current]
    if world.copy == DEAD and action is not A.RELAY:
        yield "the process has died", world, (E.DIED,)
        return
    trouble = world.spend("troubles")
    if action is A.FREEZE:
        yield "frozen", world._replace(copy=FROZEN), (E.FROZEN,)
        if trouble:
            yield "cannot", trouble._replace(copy=FROZEN), (E.CANNOT,)
    elif action is A.SEND_IMAGE:
        sent = world.put(world.current, say_to_guest(away, E.IMAGE))
        yield "sent", sent, (E.SENT,)
        if away.broken:
            yield "lost", world, (E.LOST,)
        if trouble:
            yield "cannot", trouble, (E.CANNOT,)
    elif action is A.REBUILD:
        yield "rebuilt", world._replace(copy=FULL), (E.REBUILT,)
        if trouble:
            yield "cannot", trouble._replace(copy=HALF), (E.CANNOT,)
        if away.to_home[:1] == (E.LOST,):
            yield "cut", world._replace(copy=HALF), (E.LOST,)
    else:
        beyond = world.aways[world.next]
        relayed = world.put(world.next, say_to_guest(beyond, E.IMAGE))
        yield "relayed", relayed, ()
        if beyond.broken or not beyond.guest_end:
            yield "refused", world, (E.NEXT_REFUSED,)
        if away.to_home[:1] == (E.LOST,):
            yield "cut", world, (E.LOST,)


def home_moves(world: World) -> Iterator[Move]:
    if world.home in HomeSide.final or not world.keeper:
        return
    if world.busy:
        for name, after, events in outcomes_at_home(world):
            done = after._replace(local=(*after.local, *events))
            yield f"home: {world.busy[0].name} {name}", home_does(done, world.busy[1:])
        return
    if world.home is Home.LINKING and (trouble := world.spend("troubles")):
        for event in (E.LOST, E.REFUSED, E.CANNOT):
            yield f"home: {event.name}", home_takes(trouble._replace(local=()), event)
    if world.local:
        event, *rest = world.local
        yield f"home: {event.name}", home_takes(world._replace(local=tuple(rest), polling=False), event)
    if not world.polling:
        return
    for index in sorted({world.current, world.next} - {-1}):
        away = world.aways[index]
        greeted = index != world.next or E.HOP not in world.local  # it listens there from its next turn on
        if away.to_home and greeted:
            yield f"home hears {away.to_home[0].name} of {index}", home_hears(world, index)
    yield from commands(world)
    if world.copy == DEAD and E.DIED not in world.local:
        yield "home notices the death", world._replace(local=(*world.local, E.DIED))
    if world.home in (Home.WAITING, Home.STARTING, Home.RELAYING, Home.SWITCHING):
        patience = world.spend("troubles")
        if patience and not patience.local:
            yield "home loses patience", home_takes(patience, E.LOST if world.next < 0 else E.NEXT_REFUSED)


def home_hears(world: World, index: int) -> World:
    away = world.aways[index]
    event = away.to_home[0]
    world = world.put(index, away._replace(to_home=away.to_home[1:]))
    if index == world.next:
        event = FROM_NEXT.get(event, event)
    elif event is E.BRING and world.home not in ARRIVED:
        event = E.REFUSED  # it is thrown out before it has arrived
    return home_takes(world._replace(polling=False), event)


def commands(world: World) -> Iterator[Move]:
    wished = world.spend("wishes")
    if wished is None:
        return
    yield "bring", wished._replace(local=(*world.local, E.BRING))
    more = wished.spend("guests")
    if world.home is Home.AWAY and world.next < 0 and more is not None:
        yield "hop", more._replace(
            local=(*world.local, E.HOP), next=len(world.aways), aways=(*world.aways, Away())
        )


# -- guests ---------------------------------------------------------------------------------------------


def guest_takes(world: World, index: int, event: Event) -> World:
    """A guest's keeper handles an event."""
    away = world.aways[index]
    try:
        state, actions = GUEST_TABLE[away.state, event]
    except KeyError:
        raise Broken(f"guest does not expect {event.name} in {away.state.name}") from None
    away = away._replace(state=state)
    for action in actions:
        away = guest_does(world, index, away, action, event)
    return world.put(index, away)


def guest_does(world: World, index: int, away: Away, action: Action, event: Event) -> Away:
    if action in GUEST_LONG:
        return away._replace(busy=action)
    if action in SAYS_TO_HOME:
        return say_to_home(away, SAYS_TO_HOME[action])
    if action is A.RUN:
        return away if away.copy == DEAD else away._replace(copy=RUNS)
    if action is not A.DESTROY:
        raise Broken(f"not a guest's: {action.name}")
    later = [other.state for at, other in enumerate(world.aways) if at > index]
    elsewhere = world.copy in (RUNS, DEAD) or set(later) & {Guest.RUNNING, Guest.LEAVING, Guest.GONE}
    if event is E.DONE and not elsewhere:
        raise Broken("a copy is destroyed, and there is no other")
    return close_guest_end(away._replace(copy=GONE, local=()))


def guest_moves(world: World, index: int) -> Iterator[Move]:
    away = world.aways[index]
    if away.state in GuestSide.final:
        return
    if away.busy:
        for name, after, events in outcomes_away(world, index):
            moved = after.aways[index]
            yield (f"guest {index}: {away.busy.name} {name}",
                   after.put(index, moved._replace(busy=None, local=(*moved.local, *events))))  # fmt: skip
        return
    if away.local:
        event, *rest = away.local
        taken = world.put(index, away._replace(local=tuple(rest)))
        yield f"guest {index}: {event.name}", guest_takes(taken, index, event)
    if away.to_guest:  # a frame may be read before what has been noted in the same turn
        event = away.to_guest[0]
        heard = world.put(index, away._replace(to_guest=away.to_guest[1:]))
        yield f"guest {index} hears {event.name}", guest_takes(heard, index, event)
    trouble = world.spend("troubles")
    if trouble and away.copy == RUNS and not away.local:
        yield f"guest {index} needs home", trouble.put(index, away._replace(local=(E.NEED_HOME,)))
    wished = world.spend("wishes")
    if wished:
        yield f"guest {index} is expelled", wished.put(index, say_to_home(away, E.BRING))


def outcomes_away(world: World, index: int) -> Iterator[tuple[str, World, tuple[Event, ...]]]:
    away = world.aways[index]
    trouble = world.spend("troubles")
    if away.busy is A.BUILD:
        if away.to_guest[:1] == (E.LOST,):
            yield "cut", world, (E.LOST,)
        if away.copy != DEAD:
            yield "built", world.put(index, away._replace(copy=FROZEN)), (E.BUILT,)
        if trouble or away.copy == DEAD:
            yield "cannot", trouble or world, (E.CANNOT,)
    elif away.copy == DEAD:
        yield "the process has ended", world, (E.EXITED,)
    else:
        yield "sent", world.put(index, say_to_home(away._replace(copy=FROZEN), E.LEAVING)), ()
        if away.broken or not away.home_end:
            yield "lost", world.put(index, away._replace(copy=FROZEN)), (E.LOST,)
        if trouble:
            yield "cannot", trouble.put(index, away._replace(copy=FROZEN)), (E.CANNOT,)


# -- deaths ---------------------------------------------------------------------------------------------


def deaths(world: World) -> Iterator[Move]:
    """The deputy, a remote or a keeper dies."""
    spent = world.spend("deaths")
    if spent is None:
        return
    if world.copy != DEAD:
        yield "the process at home dies", spent._replace(copy=DEAD)
    if world.keeper and world.home not in HomeSide.final:
        yield "the deputy's keeper dies", _keeper_dies(spent)
    for index, away in enumerate(world.aways):
        if away.state in GuestSide.final:
            continue
        if away.copy not in (DEAD, GONE):
            note = () if away.busy else (E.EXITED,)
            yield f"remote {index} dies", spent.put(
                index, away._replace(copy=DEAD, local=(*away.local, *note))
            )
        yield f"guest {index}'s keeper dies", spent.put(
            index, close_guest_end(away._replace(state=Guest.GONE, copy=GONE, local=(), busy=None))
        )


def _keeper_dies(world: World) -> World:
    """Its links close; the kernel lets a whole process go on, and ends a deputy."""
    copy = {FROZEN: RUNS, DEPUTY: DEAD, HALF: DEAD, FULL: DEAD}.get(world.copy, world.copy)
    world = _close(world._replace(copy=copy, busy=(), local=()), A.CLOSE)
    return world._replace(keeper=False)


# -- all of it ------------------------------------------------------------------------------------------


def moves(world: World) -> Iterator[Move]:
    """Everything that may happen next."""
    yield from home_moves(world)
    for index in range(len(world.aways)):
        yield from guest_moves(world, index)
    yield from broken_links(world)
    yield from deaths(world)


def progress(world: World) -> list[Move]:
    """What happens by itself, without new wishes or mishaps."""
    return list(moves(world._replace(left=Bounds(0, 0, 0, 0, 0))))
