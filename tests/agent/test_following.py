from __future__ import annotations

from typing import Any

import pytest

from omtools.agent.following import Goal, Progress, judge
from omtools.errors import (
    CannotMigrate,
    LinkLost,
    NodeFull,
    OmError,
    ProcessEnded,
    RestoreFailed,
)
from omtools.migration.orders import Phase, State, Statistics

OUT = Goal(4711, 1, 2, 1, "metrakilate")
ON = Goal(4711, 2, 3, 1, "ixchel")
BACK = Goal(4711, 2, 1, 1, "mCii")


def state(phase: Phase, node: int = 1, role: Any = "deputy", **more: Any) -> State:
    return State(role, "m", 4711, 4711, 0, 1, node, phase, Statistics(), **more)


def outcome(goal: Goal, *states: State | None) -> str:
    """What becomes of it: arrived, waiting, or the error's name."""
    progress: Progress | State | OmError = Progress()
    for word in states:
        assert isinstance(progress, Progress)
        progress = judge(goal, progress, word)
    if isinstance(progress, State):
        return "arrived"
    return "waiting" if isinstance(progress, Progress) else type(progress).__name__


@pytest.mark.parametrize(("goal", "states", "expected"), [
    (OUT, [state("linking")], "waiting"),
    (OUT, [state("linking"), state("freezing"), state("sending")], "waiting"),
    (OUT, [state("sending"), state("away", 2)], "arrived"),
    (OUT, [state("away", 2)], "arrived"),
    (OUT, [state("home", reason="io_uring")], "CannotMigrate"),
    (OUT, [state("failed", error=NodeFull(node="x", free_mb=1, needed_mb=2).to_wire())], "NodeFull"),
    (OUT, [state("failed", reason="why not")], "LinkLost"),
    (OUT, [state("failed")], "LinkLost"),
    (OUT, [state("ended", exit="exited 0")], "ProcessEnded"),
    (OUT, [state("linking"), None], "LinkLost"),
    (ON, [state("away", 2)], "waiting"),  # an answer to Ask, or a late word of before
    (ON, [state("coming", 2), state("away", 3)], "arrived"),
    (ON, [state("freezing", 2), state("sending", 2), state("away", 3)], "arrived"),
    (ON, [state("coming", 2), state("away", 2)], "RestoreFailed"),
    (ON, [state("away", 2, error=NodeFull(node="x", free_mb=1, needed_mb=2).to_wire())], "NodeFull"),
    (ON, [state("coming", 2), state("home", reason="the link broke")], "CannotMigrate"),
    (ON, [state("coming", 2), state("ended")], "ProcessEnded"),
    (BACK, [state("away", 2)], "waiting"),
    (BACK, [state("coming", 2), state("home")], "arrived"),
    (BACK, [state("home")], "arrived"),
    (BACK, [state("coming", 2), state("away", 2, reason="home is full")], "RestoreFailed"),
    (BACK, [state("coming", 2), None], "KeeperLost"),
    (BACK, [state("coming", 2, "guest"), state("ended", 2, "guest")], "arrived"),
    (BACK, [state("coming", 2, "guest"), state("ended", 2, "guest", exit="killed 9")], "ProcessEnded"),
    (BACK, [state("ended", 2, "guest")], "ProcessEnded"),
])  # fmt: skip
def test_judgement(goal: Goal, states: list[State | None], expected: str) -> None:
    assert outcome(goal, *states) == expected


UNBUILT = RestoreFailed(node="", why="no page")


def test_reasons_reach_the_user() -> None:
    for error, words in (
        (judge(OUT, Progress(), state("home", reason="it uses io_uring")), "it uses io_uring"),
        (judge(OUT, Progress(), state("failed", reason="the cable")), "the cable"),
        (judge(ON, Progress(left=True), state("away", 2, reason="no room")), "no room"),
        (judge(OUT, Progress(), state("failed", error=UNBUILT.to_wire())), f"Node {OUT.target_name} could not"),
    ):
        assert isinstance(error, CannotMigrate | LinkLost | RestoreFailed | ProcessEnded)
        assert words in str(error)
