"""Playing lessons without a learner: every step is unsolved before, and solved by its own solution.

What the authors promise is proved on a real lab: after the step's preparation its checks are not all true;
after its solution's commands, typed into the same kind of shell that a learner has, they are. Then the step
is prepared once more, as `:reset` does it, and must be unsolved again before it is solved a last time if
`thorough` is asked for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from omtools.errors import NodeShellError, OmError
from omtools.i18n import _
from omtools.shell.checks import evaluate_all
from omtools.shell.cluster import place
from omtools.shell.grounds import Grounds
from omtools.shell.lesson import METAL, Lesson, Step, fill, placeholders
from omtools.shell.node_shell import DEFAULT_SIZE, NodeShell
from omtools.shell.registry import Figures, Finding

_COMMAND_PATIENCE = 120.0
_CHECK_PATIENCE = 180.0  # a machine that boots on a busy computer
_LOOK = 0.05


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a step.

    Attributes:
        problem: what is wrong, "" if nothing.
        seconds: it took.
        after: what the learner would be told at its end.
    """

    lesson: Lesson
    step: Step
    problem: str
    seconds: float
    after: str = ""


class Player:
    """Plays on a lab that is up.

    Args:
        grounds: the labs; they may be changed by the lessons.
        thorough: solve every step a second time, after a reset.
        said: called with what each command printed.
    """

    def __init__(self, grounds: Grounds, *, thorough: bool, said: Callable[[str], None]) -> None:
        self._grounds = grounds
        self._thorough = thorough
        self._said = said
        self._news = threading.Event()
        self._cluster = grounds.cluster(metal=False)
        self._bench = grounds.bench(self._cluster, self._news)
        self._shells: dict[str, NodeShell] = {}
        self._node = next(iter(self._cluster.nodes))

    def close(self) -> None:
        """Let go of the lab."""
        for shell in self._shells.values():
            shell.close()
        self._shells.clear()
        self._bench.close()

    def _go(self, lesson: Lesson) -> None:
        """To the lab that the lesson is held in; raises OmError or OSError."""
        self._node = lesson.node
        if self._bench.metal == (lesson.needs == METAL):
            return
        cluster = self._grounds.cluster(metal=not self._bench.metal)
        self.close()
        self._grounds.leave(self._cluster)
        self._cluster = cluster
        self._bench = self._grounds.bench(cluster, self._news)

    def play(self, lessons: Sequence[Lesson]) -> Iterator[Played]:
        """Play lessons, step by step."""
        for lesson in lessons:
            figures: dict[str, str | float] = {}
            self._go(lesson)
            for step in lesson.steps:
                begun = time.monotonic()
                problem = self._step(lesson, step, figures)
                if not problem and self._thorough:
                    problem = self._step(lesson, step, figures)
                    problem = problem and _("after a reset: {problem}").format(problem=problem)
                after = fill(step.after, figures)
                lacking = [name for name in placeholders(step.after) if name not in figures]
                if not problem and lacking:
                    problem = _("no figure for {names}").format(names=", ".join(lacking))
                yield Played(lesson, step, problem, time.monotonic() - begun, after)

    def _step(self, lesson: Lesson, step: Step, figures: dict[str, str | float]) -> str:
        """Prepare and solve a step; what is wrong with it, "" if nothing."""
        try:
            self._bench.prepare(lesson.setup)
            self._bench.prepare(step.setup)
        except (OmError, OSError, TimeoutError) as error:
            return _("its preparation fails: {why}").format(why=error)
        self._bench.clear()
        findings, _measured = self._look(step, figures)
        if all(finding.ok for finding in findings):
            return _("it is solved before anything was done")
        for command in step.solution:
            try:
                self._command(command)
            except NodeShellError as error:
                return _("“{command}”: {why}").format(command=command, why=error)
            except TimeoutError:
                return _("“{command}” does not come to its end").format(command=command)
        return self._await(step, figures)

    def _await(self, step: Step, figures: dict[str, str | float]) -> str:
        deadline = time.monotonic() + _CHECK_PATIENCE
        while True:
            findings, measured = self._look(step, figures)
            missing = [finding for finding in findings if not finding.ok]
            if not missing:
                figures.update(measured)
                return ""
            if time.monotonic() > deadline:
                why = _("its solution does not solve it: expected {expected}; seen: {seen}")
                return why.format(expected=missing[0].expected, seen=missing[0].seen)
            self._news.wait(_LOOK)
            self._news.clear()

    def _look(self, step: Step, figures: Figures) -> tuple[list[Finding], dict[str, str | float]]:
        return evaluate_all(step.checks, self._bench.facts(step, self._node), figures)

    def _shell(self, node: str) -> NodeShell:
        if node not in self._shells:
            self._shells[node] = self._cluster.shell(node, DEFAULT_SIZE)
        return self._shells[node]

    def _command(self, line: str) -> None:
        if line.startswith(":answer "):
            self._bench.add(line.partition(" ")[2])
            return
        node, command = place(line, self._cluster, self._node)
        if not command:
            self._node = node
            return
        self._said(f"{node}$ {command}\n")
        try:
            ran = self._shell(node).run(command, _COMMAND_PATIENCE)
        except NodeShellError:
            if self._cluster.alive(node) and node == self._node:
                raise
            self._shells.pop(node).close()  # a machine was switched off and on since: somebody else's shell
            ran = self._shell(node).run(command, _COMMAND_PATIENCE)
        self._said(ran.output)
        self._bench.add(ran)
