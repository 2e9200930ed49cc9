"""The protocol of a migration as two pure state machines: events in, actions out, no I/O.

`HomeSide` is the deputy's keeper: the process's home and the only one that decides where it is. `GuestSide`
is the keeper of a remote. Each row of the two tables is one line of the state table in ARCHITECTURE.md.

The commit point is STARTED: up to it the process at home is whole and resumes as if nothing had been,
whatever breaks; from it on the remote is the truth. That nothing can happen twice follows from where
effects come from: all that a remote does outside its own memory is done by the deputy, and home serves
no call before it has heard STARTED.

Coming home and moving on to a third node are the same protocol with other hands: the guest freezes and
sends (LEAVING), the receiver builds, and only DONE destroys the copy it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Home(Enum):
    """States of the deputy's keeper."""

    LINKING = "linking"        # connecting to the guest's keeper; the process is not touched yet
    FREEZING = "freezing"      # stopping it and taking its image
    SENDING = "sending"        # image and pages are on their way
    WAITING = "waiting"        # for the guest to be complete
    STARTING = "starting"      # told to run, not heard yet
    AWAY = "away"              # committed: the deputy serves
    RECALLING = "recalling"    # asked to freeze over there
    RETURNING = "returning"    # its image arrives, the deputy is filled
    HOPPING = "hopping"        # asked to freeze, its image shall go on to a third node
    RELAYING = "relaying"      # from the second node to the third
    SWITCHING = "switching"    # the third was told to run, not heard yet
    HOME = "home"              # it runs at home (final)
    ENDED = "ended"            # it is over (final)
    FAILED = "failed"          # given up, it runs at home as if nothing had been (final)


class Guest(Enum):
    """States of the remote's keeper."""

    WAITING = "waiting"      # for the image
    BUILDING = "building"    # the image arrives
    READY = "ready"          # complete, waits for GO
    RUNNING = "running"
    LEAVING = "leaving"      # frozen and sent; waits to hear what became of it
    GONE = "gone"            # nothing of it is left here (final)


class Event(Enum):
    """What can happen. Each side knows some of them."""

    LINKED = "the link stands"
    FROZEN = "the process is stopped and its image taken"
    CANNOT = "this side cannot do it"
    SENT = "all pages are sent"
    READY = "the other side has built it"
    REFUSED = "the other side cannot do it"
    STARTED = "the remote runs"
    BRING = "somebody wants it home"
    HOP = "somebody wants it on a third node"
    LEAVING = "the guest froze it and sends its image"
    REBUILT = "it is complete at home"
    NEXT_READY = "the third node has built it"
    NEXT_STARTED = "the third node runs it"
    NEXT_REFUSED = "the third node cannot have it"
    EXITED = "the process ended away from home"
    DIED = "the process at home, or its deputy, is gone"
    LOST = "the link broke"
    IMAGE = "an image arrives"
    BUILT = "the guest is complete"
    GO = "run"
    RECALL = "freeze and send"
    NEED_HOME = "it must go home, or this node wants it out"
    DONE = "it runs elsewhere"
    STAY = "it could not move"


class Action(Enum):
    """What a keeper has to do. Actions of one step are done in order."""

    FREEZE = "stop the process and take its image"
    SEND_IMAGE = "send image and pages"
    SEND_GO = "tell the guest to run"
    RELEASE = "let the process run at home as it was"
    BECOME_DEPUTY = "empty the process, serve the remote"
    SEND_RECALL = "ask the guest to freeze and send"
    REBUILD = "fill the deputy from the arriving image"
    RESUME = "let the filled deputy run"
    EMPTY_AGAIN = "empty a half-filled deputy"
    SEND_DONE = "tell the guest to destroy its copy"
    SEND_STAY = "tell the guest to go on"
    RELAY = "pass the image on to the third node"
    SEND_GO_NEXT = "tell the third node to run"
    SWITCH = "serve the third node from now on"
    DROP_NEXT = "give up the third node"
    END_DEPUTY = "let the deputy end as the remote did"
    KILL_DEPUTY = "kill the deputy: its remote is lost"
    CLOSE = "close the links"
    BUILD = "build the guest from the arriving image"
    SEND_READY = "say that it is complete"
    SEND_REFUSED = "say why it cannot be built"
    SEND_STARTED = "say that it runs"
    RUN = "let it run"
    LEAVE = "freeze it, send LEAVING, image and pages"
    SEND_EXITED = "say how it ended"
    DESTROY = "destroy the cage"


H, G, E, A = Home, Guest, Event, Action

_HomeMove = tuple[Home, tuple[Action, ...]]
HomeTable = Mapping[tuple[Home, Event], _HomeMove]
GuestTable = Mapping[tuple[Guest, Event], tuple[Guest, tuple[Action, ...]]]

_COMMITTED = (H.AWAY, H.RECALLING, H.RETURNING, H.HOPPING, H.RELAYING, H.SWITCHING)
_GIVE_UP: _HomeMove = (H.FAILED, (A.RELEASE, A.CLOSE))
_BEFORE_COMMIT: dict[tuple[Home, Event], _HomeMove] = {
    (state, event): _GIVE_UP
    for state in (H.FREEZING, H.SENDING, H.WAITING, H.STARTING)
    for event in (E.LOST, E.REFUSED, E.CANNOT, E.BRING)
}
_OVER: dict[tuple[Home, Event], _HomeMove] = {
    (state, E.DIED): (H.ENDED, (A.CLOSE,))
    for state in H
    if state not in (H.HOME, H.ENDED, H.FAILED)
}
# Up to NEXT_STARTED the guest is the truth, also while a third node is being filled.
_LOST_AFTER_COMMIT: dict[tuple[Home, Event], _HomeMove] = {
    (state, E.LOST): (H.ENDED, (A.KILL_DEPUTY, A.CLOSE)) for state in _COMMITTED
}
_ENDED_AWAY: dict[tuple[Home, Event], _HomeMove] = {
    (state, E.EXITED): (H.ENDED, (A.END_DEPUTY, A.CLOSE)) for state in _COMMITTED
}
# A wish may come when another one is already being done: home wins over a third node.
_WISHES: dict[tuple[Home, Event], _HomeMove] = {
    (H.AWAY, E.BRING): (H.RECALLING, (A.SEND_RECALL,)),
    (H.RECALLING, E.BRING): (H.RECALLING, ()),
    (H.RETURNING, E.BRING): (H.RETURNING, ()),
    (H.HOPPING, E.BRING): (H.RECALLING, (A.DROP_NEXT,)),
    (H.RELAYING, E.BRING): (H.RECALLING, (A.DROP_NEXT, A.SEND_STAY, A.SEND_RECALL)),
    (H.SWITCHING, E.BRING): (H.RECALLING, (A.DROP_NEXT, A.SEND_STAY, A.SEND_RECALL)),
    (H.AWAY, E.HOP): (H.HOPPING, (A.SEND_RECALL,)),
    (H.RECALLING, E.HOP): (H.RECALLING, (A.DROP_NEXT,)),
    (H.RETURNING, E.HOP): (H.RETURNING, (A.DROP_NEXT,)),
}

HOME_TABLE: HomeTable = {
    (H.LINKING, E.LINKED): (H.FREEZING, (A.FREEZE,)),
    (H.LINKING, E.LOST): (H.FAILED, (A.CLOSE,)),
    (H.LINKING, E.REFUSED): (H.FAILED, (A.CLOSE,)),
    (H.LINKING, E.CANNOT): (H.FAILED, (A.CLOSE,)),
    (H.FREEZING, E.FROZEN): (H.SENDING, (A.SEND_IMAGE,)),
    (H.SENDING, E.SENT): (H.WAITING, ()),
    (H.WAITING, E.READY): (H.STARTING, (A.SEND_GO,)),
    (H.STARTING, E.STARTED): (H.AWAY, (A.BECOME_DEPUTY,)),
    **_BEFORE_COMMIT,
    **_WISHES,
    (H.AWAY, E.LEAVING): (H.RETURNING, (A.REBUILD,)),
    (H.RECALLING, E.LEAVING): (H.RETURNING, (A.REBUILD,)),
    (H.RETURNING, E.REBUILT): (H.HOME, (A.RESUME, A.SEND_DONE, A.CLOSE)),
    (H.RETURNING, E.CANNOT): (H.AWAY, (A.EMPTY_AGAIN, A.SEND_STAY)),
    (H.AWAY, E.REFUSED): (H.AWAY, ()),
    (H.RECALLING, E.REFUSED): (H.AWAY, ()),
    (H.HOPPING, E.REFUSED): (H.AWAY, (A.DROP_NEXT,)),
    (H.HOPPING, E.LEAVING): (H.RELAYING, (A.RELAY,)),
    (H.HOPPING, E.NEXT_REFUSED): (H.RECALLING, (A.DROP_NEXT,)),
    (H.RECALLING, E.NEXT_REFUSED): (H.RECALLING, ()),  # it was dropped already, for home
    (H.RELAYING, E.NEXT_READY): (H.SWITCHING, (A.SEND_GO_NEXT,)),
    (H.RELAYING, E.NEXT_REFUSED): (H.AWAY, (A.DROP_NEXT, A.SEND_STAY)),
    (H.SWITCHING, E.NEXT_STARTED): (H.AWAY, (A.SEND_DONE, A.SWITCH)),
    (H.SWITCHING, E.NEXT_REFUSED): (H.AWAY, (A.DROP_NEXT, A.SEND_STAY)),
    **_LOST_AFTER_COMMIT,
    **_ENDED_AWAY,
    **_OVER,
}

GUEST_TABLE: GuestTable = {
    (G.WAITING, E.IMAGE): (G.BUILDING, (A.BUILD,)),
    (G.BUILDING, E.BUILT): (G.READY, (A.SEND_READY,)),
    (G.BUILDING, E.CANNOT): (G.GONE, (A.SEND_REFUSED, A.DESTROY)),
    (G.READY, E.GO): (G.RUNNING, (A.SEND_STARTED, A.RUN)),
    (G.RUNNING, E.RECALL): (G.LEAVING, (A.LEAVE,)),
    (G.RUNNING, E.NEED_HOME): (G.LEAVING, (A.LEAVE,)),
    (G.RUNNING, E.EXITED): (G.GONE, (A.SEND_EXITED, A.DESTROY)),
    (G.LEAVING, E.EXITED): (G.GONE, (A.SEND_EXITED, A.DESTROY)),
    (G.LEAVING, E.CANNOT): (G.RUNNING, (A.SEND_REFUSED, A.RUN)),
    (G.LEAVING, E.RECALL): (G.LEAVING, ()),
    (G.LEAVING, E.NEED_HOME): (G.LEAVING, ()),
    (G.LEAVING, E.STAY): (G.RUNNING, (A.RUN,)),
    (G.LEAVING, E.DONE): (G.GONE, (A.DESTROY,)),
    **{(state, E.LOST): (G.GONE, (A.DESTROY,)) for state in G if state is not G.GONE},
    **{(state, E.EXITED): (G.GONE, (A.SEND_REFUSED, A.DESTROY))
       for state in (G.WAITING, G.BUILDING, G.READY)},
}


class Unexpected(Exception):
    """An event that has no row in the table: the other side is out of step, the link counts as broken."""


class HomeSide:
    """The deputy's keeper's state and its moves."""

    final = frozenset({Home.HOME, Home.ENDED, Home.FAILED})

    def __init__(self) -> None:
        self.state = Home.LINKING

    def handle(self, event: Event) -> tuple[Action, ...]:
        """Take the event, return what to do; raises Unexpected."""
        try:
            self.state, actions = HOME_TABLE[self.state, event]
        except KeyError:
            raise Unexpected(f"{event.name} in state {self.state.name}") from None
        return actions


class GuestSide:
    """The remote's keeper's state and its moves."""

    final = frozenset({Guest.GONE})

    def __init__(self) -> None:
        self.state = Guest.WAITING

    def handle(self, event: Event) -> tuple[Action, ...]:
        """Take the event, return what to do; raises Unexpected."""
        try:
            self.state, actions = GUEST_TABLE[self.state, event]
        except KeyError:
            raise Unexpected(f"{event.name} in state {self.state.name}") from None
        return actions
