"""What a lesson is: texts, commands, and checks by name. Data only.

A lesson is a Markdown file with a TOML front matter between two lines ``+++``; see `omtools.shell.parse`
for how it is written, and `omtools.shell.checks` for the checks there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

HINTS = 3
METAL = "metal"  # what a lesson needs that is held on two emulated machines

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_-]*\.[a-z][a-z0-9_]*)(?::(\d))?\}")


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """One line of a ``check`` block.

    Attributes:
        name: of the check in the registry.
        arguments: as written.
        label: under which its figures are found, "" if nobody asks for them.
        line: of the file, for messages.
    """

    name: str
    arguments: Mapping[str, str]
    label: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Script:
    """Commands that omsh itself runs on a node, unseen, before the learner's turn.

    Attributes:
        node: its name.
        text: for bash.
        line: of the file.
    """

    node: str
    text: str
    line: int = 0


@dataclass(frozen=True, slots=True)
class LessonFile:
    """A file that is put on a node.

    Attributes:
        node: its name.
        path: below the node's home (``~/…``).
        text: its content.
    """

    node: str
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is done on the nodes before something begins."""

    files: tuple[LessonFile, ...] = ()
    scripts: tuple[Script, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Attributes:
        id: unique in the lesson, the same in all languages.
        title: for lists.
        goal: one sentence.
        text: the explanation, Markdown; commands to try are fenced as ``try``.
        commands: those of the ``try`` blocks.
        checks: all must be true.
        hints: three, each saying more than the one before.
        solution: command lines that lead to the goal; ``:answer x`` for a question.
        after: what just happened; may name figures as ``{label.figure}``.
        setup: makes the step possible, and unsolved, whatever was before.
        line: of the file.
    """

    id: str
    title: str
    goal: str
    text: str
    commands: tuple[str, ...]
    checks: tuple[CheckSpec, ...]
    hints: tuple[str, ...]
    solution: tuple[str, ...]
    after: str
    setup: Preparation = field(default_factory=Preparation)
    line: int = 0


@dataclass(frozen=True, slots=True)
class Lesson:
    """A lesson in one language.

    Attributes:
        number: from the file's name; the order of lessons.
        id: the same in all languages.
        title: for lists.
        about: one sentence.
        minutes: how long it takes, about.
        node: where the learner's shell starts.
        needs: "namespaces" if a lab of plain processes does not do, "metal" for two machines, else "".
        language: of the text.
        intro: shown at its beginning, Markdown.
        setup: done whenever the lesson is entered.
        steps: in order.
        path: of the file.
    """

    number: int
    id: str
    title: str
    about: str
    minutes: int
    node: str
    needs: str
    language: str
    intro: str
    setup: Preparation
    steps: tuple[Step, ...]
    path: Path

    def step(self, name: str) -> int:
        """The place of the step with that id; ValueError if there is none."""
        return [step.id for step in self.steps].index(name)


def placeholders(text: str) -> Iterator[str]:
    """The figures that a text asks for, as label.figure."""
    for found in _PLACEHOLDER.finditer(text):
        yield found.group(1)


def fill(text: str, figures: Mapping[str, str | float]) -> str:
    """The text with its figures.

    A number is shown without decimals, or with as many as ``{label.figure:2}`` says; a figure that is not
    known becomes a question mark.
    """

    def value(found: re.Match[str]) -> str:
        figure = figures.get(found.group(1), "?")
        if isinstance(figure, str):
            return figure
        return f"{figure:,.{found.group(2) or 0}f}"

    return _PLACEHOLDER.sub(value, text)
