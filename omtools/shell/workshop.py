"""The workshop on a lab: prepares steps, watches their checks, keeps the progress."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from omtools.errors import OmError
from omtools.i18n import N_
from omtools.shell import events
from omtools.shell.bench import Bench
from omtools.shell.checks import evaluate_all
from omtools.shell.course import Course
from omtools.shell.facts import Facts, Ran
from omtools.shell.lesson import METAL, Lesson, Step
from omtools.shell.progress import Progress, Store
from omtools.shell.registry import Figures, Finding
from omtools.shell.screen import Screen
from omtools.shell.teller import Teller
from omtools.shell.words import tr

PERIOD = 0.3  # seconds between two looks; a solved step is noticed within one second


_NO_MACHINES = N_(
    "This lesson needs two machines. Without them there are the nodes of the lab, which are namespaces and "
    "cannot be switched on or booted: `:sandbox` gives you those, `:list` shows the other lessons."
)


class Desk(Protocol):
    """What the workshop asks of whoever sits in front of it."""

    def go(self, node: str) -> None:
        """Take the learner's shell to a node."""

    def type(self, line: str) -> None:
        """Run a line as if the learner had typed it."""

    def confirm(self, question: str) -> bool:
        """Ask yes or no."""

    def bench(self, tell: threading.Event, *, metal: bool) -> Bench:
        """Go to the lab of that kind, which is started if it is not up; raises OmError or OSError."""

    def rebuild_lab(self) -> None:
        """Take the lab down; the next `bench` starts it anew."""

    def leave(self) -> None:
        """End after this."""

    @property
    def node(self) -> str:
        """Where the learner's shell is."""


class _Watch:
    """What the watching thread is to look at; replaced as a whole."""

    def __init__(self, lesson: Lesson, step: Step, known: Figures) -> None:
        self.lesson, self.step, self.known = lesson, step, known


class Workshop:
    """A course on a lab.

    Args:
        lessons: in order.
        store: of the progress.
        desk: the session.
        screen: the learner's terminal.
    """

    def __init__(self, lessons: Sequence[Lesson], store: Store, desk: Desk, screen: Screen) -> None:
        self._desk = desk
        self._screen = screen
        self._store = store
        self.teller = Teller(screen)
        self.course = Course(lessons, self._kept())
        self.latest = Facts()
        self.hears, self._says = os.pipe()
        self._news: queue.SimpleQueue[events.Found] = queue.SimpleQueue()
        self._watch: _Watch | None = None
        self._ending = False
        self._typed: list[str] = []
        self._look = threading.Event()
        self.bench = desk.bench(self._look, metal=False)
        self._thread = threading.Thread(target=self._watching, name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._ending = True
        self._look.set()
        self._thread.join()
        self.bench.close()
        os.close(self.hears)
        os.close(self._says)

    def _kept(self) -> Progress:
        try:
            return self._store.read()
        except OSError as error:
            self._not_kept(error)
            return Progress()

    def _not_kept(self, error: OSError) -> None:
        sentence = tr(N_("Your progress could not be kept in {path}: {why}. The course goes on without."))
        self._screen.say(sentence.format(path=self._store.path, why=error.strerror))

    # --------------------------------------------------------------------------------------- watching

    def _watching(self) -> None:
        solved: _Watch | None = None
        while not self._ending:
            self._look.wait(PERIOD)
            self._look.clear()
            watch, bench = self._watch, self.bench
            try:
                self.latest = bench.facts(watch.step if watch else None, self._desk.node)
            except (OSError, ValueError, OmError):  # the lab goes away under us
                self._look.wait(PERIOD)
                continue
            if watch is None or watch is solved:
                continue
            findings, figures = evaluate_all(watch.step.checks, self.latest, watch.known)
            if all(finding.ok for finding in findings) and watch is self._watch:
                solved = watch
                self._news.put(self._found(watch, findings, figures))
                os.write(self._says, b"x")

    def heard(self) -> None:
        """Take note that `hears` was readable; `news` is to be called then."""
        os.read(self.hears, 4096)

    def news(self) -> None:
        """Handle what the watching thread has found."""
        while not self._news.empty():
            self.handle(self._news.get())

    def test(self, *, asked: bool) -> None:
        """Make the checks of the present step now."""
        watch = self._watch
        step, lesson = self.course.step, self.course.lesson
        if step is None or (watch is None and not asked):
            return
        known = self.course.progress.figures(lesson.id)
        try:
            facts = self.latest = self.bench.facts(step, self._desk.node)
        except OmError as error:  # the lab is gone
            self._screen.say(str(error))
            return
        findings, figures = evaluate_all(step.checks, facts, known)
        self.handle(self._found(_Watch(lesson, step, known), findings, figures, asked=asked))

    def _found(
        self, watch: _Watch, findings: Sequence[Finding], figures: Figures, *, asked: bool = False
    ) -> events.Found:
        typed = tuple(self._typed)
        return events.Found(watch.lesson.id, watch.step.id, tuple(findings), figures, asked, typed)

    def typed(self, line: str) -> None:
        """The learner has typed a line, for whomever it is."""
        self._typed.append(line)

    def ran(self, what: Ran | str) -> None:
        """The learner ran a command, or answered; look at once."""
        self.bench.add(what)
        self.test(asked=isinstance(what, str))

    # ---------------------------------------------------------------------------------------- actions

    def handle(self, event: events.Event) -> None:
        """Give an event to the course and do what it says."""
        for action in self.course.handle(event, time.time()):
            self._do(action)

    def _do(self, action: events.Action) -> None:
        match action:
            case events.Prepare():
                self._prepare(action)
            case events.StopWatching():
                self._watch = None
            case events.Save():
                try:
                    self.course.progress = self._store.update(action.changes)
                except OSError as error:
                    self._not_kept(error)
            case events.CheckNow():
                self.test(asked=True)
            case events.Type():
                self._desk.type(action.command)
            case events.Ask():
                self.handle(events.Reply(self._desk.confirm(self.teller.question(action.scope))))
            case events.RebuildLab():
                self._rebuild()
            case events.Leave():
                self._desk.leave()
            case _:
                self.teller.tell(action)

    def _prepare(self, action: events.Prepare) -> None:
        self._watch = None
        if not self._is_at(action.lesson):
            return
        try:
            self.bench.prepare(action.lesson.setup)
            self.bench.prepare(action.step.setup)
        except (OmError, OSError, TimeoutError) as error:
            sentence = tr(N_("The step could not be prepared: {why}. `:reset lab` gives you a fresh lab."))
            self._screen.say(sentence.format(why=error))
        if action.node:
            self._desk.go(action.node)
        self.bench.clear()
        self._typed = []
        known = self.course.progress.figures(action.lesson.id)
        self._watch = _Watch(action.lesson, action.step, known)
        self._look.set()

    def _is_at(self, lesson: Lesson) -> bool:
        """Go to the lab that the lesson is held in, and say whether that went well."""
        wanted = lesson.needs == METAL
        if self.bench.metal == wanted:
            return True
        try:
            self._move(metal=wanted)
        except (OmError, OSError) as error:
            self._screen.say(str(error))
            self._screen.say(tr(_NO_MACHINES) if wanted else "")
            return False
        return True

    def _move(self, *, metal: bool) -> None:
        before = self.bench
        self.bench = self._desk.bench(self._look, metal=metal)
        before.close()

    def rebuild(self) -> None:
        """A fresh lab, and the step prepared on it."""
        self._rebuild()
        step = self.course.step
        if step is not None and not self.course.sandbox:
            self._prepare(events.Prepare(self.course.lesson, step, self.course.lesson.node))

    def _rebuild(self) -> None:
        metal = self.bench.metal
        self.bench.close()
        self._desk.rebuild_lab()
        self.bench = self._desk.bench(self._look, metal=metal)


def result_to(path: Path, progress: Progress, lab: str, lessons: Sequence[Lesson]) -> None:
    """Write the result file for a teacher; raises OSError."""
    from omtools.shell.progress import result, write  # noqa: PLC0415 - only at the end

    steps = {lesson.id: tuple(step.id for step in lesson.steps) for lesson in lessons}
    write(path, result(progress, lab, steps))
