"""What both keepers of a process have in common, and how their states are told to the outside."""

from __future__ import annotations

import os
import time
from collections import deque

from omtools.linux.events import ChildEvents
from omtools.migration.control import Control
from omtools.migration.log import Log
from omtools.migration.orders import DeputyOrder, GuestOrder, Phase, State, Statistics
from omtools.migration.protocol import Event, Guest, GuestSide, Home, HomeSide

_TELL_EVERY_S = 0.1  # how far a move is

PHASES: dict[Home | Guest, Phase] = {
    Home.LINKING: "linking",
    Home.FREEZING: "freezing",
    Home.SENDING: "sending",
    Home.WAITING: "sending",
    Home.STARTING: "sending",
    Home.AWAY: "away",
    Home.RECALLING: "coming",
    Home.RETURNING: "coming",
    Home.HOPPING: "coming",
    Home.RELAYING: "coming",
    Home.SWITCHING: "coming",
    Home.HOME: "home",
    Home.ENDED: "ended",
    Home.FAILED: "failed",
    Guest.WAITING: "linking",
    Guest.BUILDING: "sending",
    Guest.READY: "sending",
    Guest.RUNNING: "away",
    Guest.LEAVING: "coming",
    Guest.GONE: "ended",
}


_LEAVING = ("linking", "freezing", "sending")


class Keeper:
    """One half of a migrated process, driven by one side of the protocol.

    Attributes:
        machine: that side.
        state: what the agent is told.
    """

    machine: HomeSide | GuestSide

    def __init__(
        self, order: DeputyOrder | GuestOrder, children: ChildEvents, control: Control, log: Log
    ) -> None:
        self.state = _first_state(order)
        self._children = children
        self._control = control
        self._log = log
        self._events: deque[Event] = deque()
        self._told = 0.0

    def _pages(self, done: int, amount: int) -> None:
        """So many bytes have travelled: told now and then, as a thousand small pieces are no news."""
        now = time.monotonic()
        if now - self._told < _TELL_EVERY_S:
            return
        self._told = now
        figures = self.state.statistics
        figures.sent, figures.to_send = done, amount
        self.state.phase = PHASES[self.machine.state]
        self._control.tell(self.state)
        figures.sent = figures.to_send = 0  # what is told next is another phase

    def _report(self) -> None:
        self._told = time.monotonic()
        self.state.phase = PHASES[self.machine.state]
        if self.state.phase not in _LEAVING:
            self.state.target = 0
        self._control.tell(self.state)

    def _note(self, before: Home | Guest, event: Event) -> None:
        self._log.debug(f"{before.name} {event.name} -> {self.machine.state.name}")


def _first_state(order: DeputyOrder | GuestOrder) -> State:
    """What a keeper tells before anything has happened."""
    deputy = isinstance(order, DeputyOrder)
    return State(
        role="deputy" if deputy else "guest", migration=order.migration, pid=order.pid,
        local_pid=order.pid if deputy else 0, uid=order.uid, home=order.home,
        node=order.home if isinstance(order, DeputyOrder) else order.node, phase="linking",
        statistics=Statistics(), keeper=os.getpid(),
        target=order.target if isinstance(order, DeputyOrder) else 0,
    )  # fmt: skip
