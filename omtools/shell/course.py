"""The course as a state machine: what the learner asks for and what the checks find go in, actions come out.

No I/O: `Course.handle` takes an event and the time; the session carries out what it returns, in order.
"""

from __future__ import annotations

from collections.abc import Sequence

from omtools.shell import progress as record
from omtools.shell.events import (
    Action,
    Ask,
    Begin,
    Celebrate,
    CheckNow,
    Contents,
    Event,
    Found,
    Goto,
    Hint,
    Introduce,
    Leave,
    LessonDone,
    Next,
    Prepare,
    Present,
    Quit,
    RebuildLab,
    Reply,
    Reset,
    Sandbox,
    Save,
    Scope,
    Show,
    Solution,
    StopWatching,
    Tell,
    TellContents,
    TellFindings,
    TellHint,
    TellSolution,
    Test,
    Type,
    TypeIt,
)
from omtools.shell.lesson import HINTS, Lesson, Step
from omtools.shell.progress import At, Change, Forget, Keep, Progress, StepRecord


class Course:
    """Where the learner is.

    Attributes:
        progress: as far as this course knows it.
        lesson: the present one.
        at: number of its step; as many as there are steps: at its end.
        sandbox: no lesson for now.
    """

    def __init__(self, lessons: Sequence[Lesson], progress: Progress) -> None:
        self._lessons = {lesson.id: lesson for lesson in lessons}
        self.progress = progress
        self.lesson = lessons[0]
        self.at = 0
        self.sandbox = False
        self._begun = 0.0
        self._typed = 0
        self._warned = False
        self._asked: Scope | None = None

    @property
    def step(self) -> Step | None:
        """The present step, None at the end of a lesson."""
        return self.lesson.steps[self.at] if self.at < len(self.lesson.steps) else None

    @property
    def solved(self) -> bool:
        """Whether the present step is."""
        return self.step is not None and self.progress.solved(self.lesson.id, self.step.id)

    @property
    def record(self) -> StepRecord:
        """Of the present step."""
        return self.progress.of(self.lesson.id, self.step.id) if self.step else StepRecord()

    def handle(self, event: Event, now: float) -> list[Action]:  # noqa: PLR0911 - one line for each event
        """What to do about an event.

        Args:
            event: what happened.
            now: seconds since 1970.
        """
        warned, self._warned = self._warned, False
        if isinstance(event, Reply):
            return self._reply(event, now)
        if not isinstance(event, Found):
            self._asked = None
        match event:
            case Begin():
                return self._begin(event, now)
            case Found():
                self._warned = warned  # it comes by itself
                return self._found(event, now)
            case Goto():
                return self._goto(event.lesson, event.step, now)
            case Next():
                return self._next(now, warned)
            case Contents():
                step = self.step.id if self.step else ""
                listed = tuple(self._lessons.values())
                return [TellContents(listed, self.progress, self.lesson.id, step)]
            case Sandbox():
                return self._toggle_sandbox(now)
            case Reset():
                self._asked = event.scope
                return [Ask(event.scope)]
            case Quit():
                return [StopWatching(), Tell("kept"), Leave()]
        if self.sandbox or self.step is None:
            return [Tell("sandbox" if self.sandbox else "no step")]
        return self._about_step(event, self.step)

    def _about_step(self, event: TypeIt | Hint | Solution | Test | Show, step: Step) -> list[Action]:
        match event:
            case Show():
                return [Present(self.lesson, step, self.solved)]
            case Test():
                return [CheckNow()]
            case Hint():
                return self._hint()
            case Solution():
                return self._solution()
            case TypeIt():
                return self._type()

    # ------------------------------------------------------------------------------------- getting about

    def _begin(self, event: Begin, now: float) -> list[Action]:
        if event.lesson:
            return self._goto(event.lesson, "", now)
        lesson = self._lessons.get(self.progress.lesson)
        if lesson is None:
            return self._goto(next(iter(self._lessons)), "", now)
        names = [step.id for step in lesson.steps]
        here = self.progress.step
        if here in names and not self.progress.solved(lesson.id, here):
            return self._goto(lesson.id, here, now)
        return self._goto(lesson.id, "", now)

    def _goto(self, name: str, step: str, now: float) -> list[Action]:
        self.sandbox = False
        self.lesson = self._lessons[name]
        self.at = self.lesson.step(step) if step else self._first_unsolved()
        opening: list[Action] = [Introduce(self.lesson)] if self.at == 0 else []
        return opening + self._enter(now, self.lesson.node)

    def _first_unsolved(self) -> int:
        """The first step that is not solved; the very first if all are."""
        for at, step in enumerate(self.lesson.steps):
            if not self.progress.solved(self.lesson.id, step.id):
                return at
        return 0

    def _enter(self, now: float, node: str = "") -> list[Action]:
        self._begun, self._typed = now, 0
        step = self.step
        if step is None:
            return self._end_of_lesson()
        saving = self._change(At(self.lesson.id, step.id))
        # First prepared: that may take a moment, and what is shown last is what one reads.
        return [saving, Prepare(self.lesson, step, node), Present(self.lesson, step, self.solved)]

    def _end_of_lesson(self) -> list[Action]:
        unsolved = tuple(s for s in self.lesson.steps if not self.progress.solved(self.lesson.id, s.id))
        return [StopWatching(), LessonDone(self.lesson, unsolved, self._following())]

    def _following(self) -> Lesson | None:
        names = list(self._lessons)
        place = names.index(self.lesson.id) + 1
        return self._lessons[names[place]] if place < len(names) else None

    def _next(self, now: float, warned: bool) -> list[Action]:
        if self.sandbox:
            return self._toggle_sandbox(now)
        if self.step is None:
            following = self._following()
            return self._goto(following.id, "", now) if following else [Tell("all done")]
        if not self.solved and not warned:
            self._warned = True
            return [Tell("unsolved")]
        self.at += 1
        return self._enter(now)

    def _toggle_sandbox(self, now: float) -> list[Action]:
        self.sandbox = not self.sandbox
        if self.sandbox:
            return [StopWatching(), Tell("sandbox")]
        return self._enter(now)

    # ---------------------------------------------------------------------------------------- the step

    def _hint(self) -> list[Action]:
        assert self.step is not None
        had = self.record.hints
        if had >= HINTS or had >= len(self.step.hints):
            return self._solution()
        kept = self._keep(hints=had + 1)
        return [*kept, TellHint(had + 1, self.step.hints[had])]

    def _solution(self) -> list[Action]:
        assert self.step is not None
        return [*self._keep(solution=True), TellSolution(self.step.solution)]

    def _type(self) -> list[Action]:
        """The commands of the text are shown anyway; where they do not do, it is the solution."""
        assert self.step is not None
        commands = self.step.solution
        if self._typed >= len(commands):
            self._typed = 0
            return [Tell("typed out")]
        self._typed += 1
        return [*self._keep(solution=True), Type(commands[self._typed - 1], self._typed, len(commands))]

    def _keep(self, *, hints: int | None = None, solution: bool = False) -> list[Action]:
        """Note help that was given; after the solution it does not matter any more."""
        assert self.step is not None
        old = self.record
        if old.solved:
            return []
        new = StepRecord(
            hints=old.hints if hints is None else hints,
            solution=old.solution or solution,
            seconds=old.seconds,
        )
        return [self._change(Keep(self.lesson.id, self.step.id, new))] if new != old else []

    def _found(self, event: Found, now: float) -> list[Action]:
        step = self.step
        if self.sandbox or step is None or (event.lesson, event.step) != (self.lesson.id, step.id):
            return []
        if self.solved or not all(finding.ok for finding in event.findings):
            return [TellFindings(event.findings)] if event.asked else []
        old = self.record
        labels = {spec.label for spec in step.checks}
        solved = StepRecord(
            solved=record.timestamp(now),
            seconds=round(max(0.0, now - self._begun) + old.seconds, 1),
            hints=old.hints,
            solution=old.solution,
            figures={name: value for name, value in event.figures.items() if name.split(".")[0] in labels},
        )
        known = _within(step.solution, event.typed)
        kept = self._change(Keep(self.lesson.id, step.id, solved))
        return [kept, StopWatching(), Celebrate(self.lesson, step, event.figures, known)]

    # -------------------------------------------------------------------------------------------- again

    def _reply(self, event: Reply, now: float) -> list[Action]:
        scope, self._asked = self._asked, None
        if scope is None or not event.yes:
            return []
        step, steps = self.step, self.lesson.steps
        if scope == "lesson" or step is None:
            forget = self._change(Forget(self.lesson.id, tuple(one.id for one in steps)))
            self.at = 0
        else:
            forget = self._change(Forget(self.lesson.id, (step.id,)))
        self.sandbox = False
        rebuild: list[Action] = [StopWatching(), RebuildLab()] if scope == "lab" else []
        return [forget, *rebuild, *self._enter(now, self.lesson.node)]

    def _change(self, change: Change) -> Save:
        self.progress = record.apply(self.progress, change)
        return Save((change,))


def _within(solution: Sequence[str], typed: Sequence[str]) -> bool:
    """Whether every line of the solution was typed, in that order."""
    rest = iter(typed)
    return all(line in rest for line in solution)
