"""What goes into the course (events) and what comes out of it (actions)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omtools.shell.lesson import Lesson, Step
from omtools.shell.progress import Change, Progress
from omtools.shell.registry import Figures, Finding

Scope = Literal["step", "lesson", "lab"]

# ------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Begin:
    """The course begins, or goes on where it was left.

    Attributes:
        lesson: id to begin with; "" goes on.
    """

    lesson: str = ""


@dataclass(frozen=True, slots=True)
class Next:
    """To the next step; out of a finished lesson to the next one."""


@dataclass(frozen=True, slots=True)
class TypeIt:
    """Type the next command of the step for me."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A hint, please; after the last one the solution."""


@dataclass(frozen=True, slots=True)
class Solution:
    """The solution, please."""


@dataclass(frozen=True, slots=True)
class Test:
    """Say what is still missing."""


@dataclass(frozen=True, slots=True)
class Show:
    """The step's text once more."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The list of lessons and steps."""


@dataclass(frozen=True, slots=True)
class Goto:
    """To that lesson, and in it to a step (by id, "" is the first unsolved one)."""

    lesson: str
    step: str = ""


@dataclass(frozen=True, slots=True)
class Reset:
    """Begin something again."""

    scope: Scope = "step"


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to the question that was asked."""

    yes: bool


@dataclass(frozen=True, slots=True)
class Sandbox:
    """No lesson for now; the same again goes back to it."""


@dataclass(frozen=True, slots=True)
class Found:
    """The checks were made.

    Attributes:
        lesson: for which step; what is late is not mistaken for the present one.
        asked: the learner asked for it, so it is told also if nothing is new.
        typed: what was typed since the step began.
    """

    lesson: str
    step: str
    findings: tuple[Finding, ...]
    figures: Figures
    asked: bool = False
    typed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quit:
    """Enough for today."""


Event = (
    Begin | Next | TypeIt | Hint | Solution | Test | Show | Contents | Goto | Reset | Reply | Sandbox | Found
    | Quit
)  # fmt: skip

# ------------------------------------------------------------------------------------------ actions


@dataclass(frozen=True, slots=True)
class Introduce:
    """Show the lesson's head and introduction."""

    lesson: Lesson


@dataclass(frozen=True, slots=True)
class Present:
    """Show a step; it is solved already if `solved`."""

    lesson: Lesson
    step: Step
    solved: bool = False


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make the step possible on the nodes, then watch its checks.

    Attributes:
        node: move the learner's shell there first, "" leaves it.
    """

    lesson: Lesson
    step: Step
    node: str = ""


@dataclass(frozen=True, slots=True)
class StopWatching:
    """Make no checks for now."""


@dataclass(frozen=True, slots=True)
class TellHint:
    """Show hint number `number`, counted from 1."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class TellSolution:
    """Show the solution."""

    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TellFindings:
    """Show what was expected and what was seen."""

    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Celebrate:
    """The step is solved: say so, what happened, and the solution for comparison.

    Attributes:
        known: the solution is what was typed: it needs no showing.
    """

    lesson: Lesson
    step: Step
    figures: Figures
    known: bool = False


@dataclass(frozen=True, slots=True)
class LessonDone:
    """The whole lesson is solved, or at its end; `following` is the next one."""

    lesson: Lesson
    unsolved: tuple[Step, ...]
    following: Lesson | None


@dataclass(frozen=True, slots=True)
class Type:
    """Type a command for the learner and run it."""

    command: str
    number: int
    of: int


@dataclass(frozen=True, slots=True)
class TellContents:
    """Show the list."""

    lessons: tuple[Lesson, ...]
    progress: Progress
    lesson: str
    step: str


@dataclass(frozen=True, slots=True)
class CheckNow:
    """Make the checks now and tell the outcome."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the learner whether really; answered by `Reply`."""

    scope: Scope


@dataclass(frozen=True, slots=True)
class RebuildLab:
    """Take the lab down and up again."""


@dataclass(frozen=True, slots=True)
class Tell:
    """A remark: one of the words below."""

    what: Literal["unsolved", "sandbox", "no step", "all done", "typed out", "kept"]


@dataclass(frozen=True, slots=True)
class Save:
    """Keep these changes."""

    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    """End."""


Action = (
    Introduce | Present | Prepare | StopWatching | TellHint | TellSolution | TellFindings | Celebrate
    | LessonDone | Type | TellContents | CheckNow | Ask | RebuildLab | Tell | Save | Leave
)  # fmt: skip
