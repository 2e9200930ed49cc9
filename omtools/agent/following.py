"""Following a keeper until its process is where it is wanted, or stays where it was.

A keeper tells every change of phase. What each phase means for somebody who waits for a certain outcome is
decided here, in functions without I/O; `arrival` feeds them.
"""

from __future__ import annotations

from dataclasses import dataclass

from omtools.agent.keepers import Followed
from omtools.errors import (
    CannotMigrate,
    KeeperLost,
    LinkLost,
    MigrationStalled,
    OmError,
    ProcessEnded,
    RestoreFailed,
)
from omtools.i18n import _
from omtools.migration.orders import State

_STAGE_PATIENCE = 30.0  # seconds for a stage in which little or nothing travels
_SLOWEST = 1_000_000  # bytes per second at which pages are at least expected to travel


@dataclass(frozen=True, slots=True)
class Goal:
    """What somebody waits for.

    Attributes:
        pid: the process, as who asked called it.
        source: number of the node it leaves.
        target: number of the node where it shall run.
        home: number of its home node.
        target_name: for messages.
        size: bytes that will travel, at a guess.
    """

    pid: int
    source: int
    target: int
    home: int
    target_name: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the wait stands.

    Attributes:
        left: the process was seen on its way, so being `away` again where it was is a failure.
    """

    left: bool = False


def judge(  # noqa: PLR0911 - one line for each phase there is
    goal: Goal, progress: Progress, state: State | None
) -> Progress | State | OmError:
    """What a keeper's word means for the goal.

    Args:
        goal: what is waited for.
        progress: what was seen before.
        state: the word; None if the keeper is gone.

    Returns:
        The state if it is reached, an error if it will not be, else the progress.
    """
    if state is None:
        if goal.source != goal.home:
            return KeeperLost(pid=goal.pid)
        return LinkLost(node=goal.target_name, why=_("the keeper of the process has ended"))
    if state.phase == "away" and state.node == goal.target and goal.target != goal.home:
        return state
    if state.phase == "home":
        if goal.target == goal.home:
            return state
        return CannotMigrate(pid=goal.pid, reason=state.reason or _("it came home at once"))
    if state.phase == "ended":
        # A guest's keeper has done its part when the process has left; it does not know what became of it.
        if state.role == "guest" and progress.left and not state.exit:
            return state
        return ProcessEnded(pid=goal.pid)
    if state.phase == "failed":
        return _given_up(goal, state)
    if state.phase == "away":
        # Away where it was: not begun yet, or tried and given up.
        return _given_up(goal, state) if progress.left or state.error else progress
    return Progress(left=True)


def _given_up(goal: Goal, state: State) -> OmError:
    if state.error:
        error = OmError.from_wire(state.error)
        if isinstance(error, RestoreFailed):  # who tried knows why, and perhaps not what the node is called
            return RestoreFailed(node=goal.target_name, why=error.fields.get("why", ""))
        return error
    why = state.reason or _("it gave no reason")
    if goal.source == goal.home:
        return LinkLost(node=goal.target_name, why=why)
    return RestoreFailed(node=goal.target_name, why=why)


async def arrival(goal: Goal, followed: Followed, first: State | None = None) -> State:
    """Wait until the goal is reached.

    Args:
        goal: what for.
        followed: the keeper's states.
        first: a state that counts although it came before them.

    Raises:
        OmError: it will not be reached; `MigrationStalled` where that is not known.
    """
    progress: Progress | State | OmError = Progress()
    state = first
    if first is not None:
        progress = judge(goal, Progress(), first)
    while isinstance(progress, Progress):
        phase = state.phase if state else "away"
        patience = _STAGE_PATIENCE + (
            goal.size / _SLOWEST if phase in ("freezing", "sending", "coming") else 0
        )
        try:
            state = await followed.next(patience)
        except TimeoutError:
            raise MigrationStalled(pid=goal.pid, seconds=round(patience), phase=phase) from None
        progress = judge(goal, progress, state)
    if isinstance(progress, OmError):
        raise progress
    return progress
