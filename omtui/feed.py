"""Where screens get what they show from: a running cluster, or a recording of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from omtools.agent import api
from omtui.actions import Action
from omtui.model import State

Progress = Callable[[int, int], None]  # how many processes of how many have been sent home


class Feed(Protocol):
    """Keeps a `State` up to date and says so; `omtui.source.Source` is the one of a running cluster.

    Attributes:
        want_processes: a screen shows processes; a feed may leave them out otherwise.
        want_report: the node whose own report a screen shows, "" for the one that is asked; None: none.
        want_calls: pid of the process of which a screen shows how long its calls take; 0: none.
    """

    want_processes: bool
    want_report: str | None
    want_calls: int

    @property
    def state(self) -> State:
        """What the screens show; another object when another time is shown."""

    def listen(self, changed: Callable[[], None]) -> None:
        """Be told whenever the state has changed."""

    def forget(self, changed: Callable[[], None]) -> None:
        """Not any more."""

    def nudge(self) -> None:
        """Take the next picture now."""

    async def run(self) -> None:
        """Until cancelled: one picture after the other. What goes wrong stands in the state's trouble."""

    async def report_of(self, word: str) -> api.NodeReport:
        """How a node does, by its own account.

        Raises:
            OmError: it cannot be asked.
        """

    async def cantmove(self, pid: int) -> str:
        """Why a process could not migrate now, "" if nothing is in the way.

        Raises:
            OmError: nobody can tell.
        """

    async def do(self, action: Action, progress: Progress | None = None) -> str:
        """Do something; returns the sentence that tells what came of it.

        Args:
            action: what.
            progress: is told how far expelling or bringing is.

        Raises:
            OmError: it could not be done; a recording always says so.
        """
