"""Where screens get what they show from: a running cluster, or a recording of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from omtools.agent import api
from omtui.actions import Action
from omtui.model import State


class Feed(Protocol):
    """Keeps a `State` up to date and says so; `omtui.source.Source` is the one of a running cluster.

    Attributes:
        state: what the screens show; the same object for as long as the feed lives.
        want_processes: a screen shows processes; a feed may leave them out otherwise.
        want_report: a screen shows what only the node's own report has.
    """

    state: State
    want_processes: bool
    want_report: bool

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

    def cantmove(self, pid: int) -> str:
        """Why a process could not migrate now, "" if nothing is in the way."""

    async def do(self, action: Action) -> str:
        """Do something; returns the sentence that tells what came of it.

        Raises:
            OmError: it could not be done; a recording always says so.
        """
