"""Looking at lessons without a lab: what is wrong with them can be seen in the text."""

from __future__ import annotations

import re
import string
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from omtools.errors import LessonError
from omtools.i18n import _
from omtools.shell import library, words
from omtools.shell.checks import KINDS
from omtools.shell.facts import SWITCHES
from omtools.shell.lesson import HINTS, CheckSpec, Lesson, Preparation, Step, placeholders
from omtools.shell.registry import Kind

_FIGURE = re.compile(r"[a-z][a-z0-9_-]*\.[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something wrong.

    Attributes:
        path: of the file.
        line: in it.
        why: one sentence without its full stop.
    """

    path: Path
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.why}."


def lint(directory: Path) -> list[Complaint]:
    """Everything that is wrong with the lessons of a directory."""
    complaints: list[Complaint] = []
    lessons: dict[str, dict[str, Lesson]] = {}
    for language in library.languages(directory):
        lessons[language] = {}
        for name, path in library.files(directory, language).items():
            try:
                lesson = library.read(path, language)
            except LessonError as error:
                complaints.append(Complaint(path, int(error.fields["line"]), str(error.fields["why"])))
                continue
            lessons[language][name] = lesson
            complaints += _lesson(lesson)
        complaints += _unique(lessons[language].values())
        complaints += _words(directory / language / "words.toml")
    if not lessons:
        complaints.append(Complaint(directory, 1, _("there are no lessons here")))
    original = lessons.pop(library.FALLBACK, {})
    for translated in lessons.values():
        for name, lesson in translated.items():
            complaints += _translation(original.get(name), lesson)
    return complaints


def _unique(lessons: Iterable[Lesson]) -> Iterator[Complaint]:
    seen: dict[str, Lesson] = {}
    numbers: dict[int, Lesson] = {}
    for lesson in lessons:
        if lesson.id in seen:
            why = _("the id {id} is also that of {other}")
            yield Complaint(lesson.path, 1, why.format(id=lesson.id, other=seen[lesson.id].path.name))
        if lesson.number in numbers:
            why = _("the number {n} is also that of {other}")
            why = why.format(n=lesson.number, other=numbers[lesson.number].path.name)
            yield Complaint(lesson.path, 1, why)
        seen[lesson.id] = numbers[lesson.number] = lesson


def _words(path: Path) -> Iterator[Complaint]:
    """Translations that lost, or invented, a placeholder."""
    try:
        found = words.read(path)
    except LessonError as error:
        yield Complaint(path, 1, str(error.fields["why"]))
        return
    for english, own in found.items():
        if _fields(english) != _fields(own):
            yield Complaint(path, 1, _("“{own}” has other placeholders than the English").format(own=own))


def _fields(text: str) -> set[str] | None:
    try:
        return {name for _text, name, _spec, _conversion in string.Formatter().parse(text) if name}
    except ValueError:
        return None


# ----------------------------------------------------------------------------------------- one lesson


def _lesson(lesson: Lesson) -> Iterator[Complaint]:
    known: set[str] = set()
    labels: set[str] = set()
    yield from _preparation(lesson, lesson.setup)
    for step in lesson.steps:
        for spec in step.checks:
            yield from (Complaint(lesson.path, spec.line, why) for why in _check(spec, known))
            if spec.label in labels:
                yield Complaint(lesson.path, spec.line, _("the label {l} is used twice").format(l=spec.label))
            if spec.label:
                labels.add(spec.label)
                known |= {f"{spec.label}.{figure}" for figure in _figures(spec)}
        yield from (Complaint(lesson.path, step.line, why) for why in _step(step, known))
        yield from _preparation(lesson, step.setup)


def _step(step: Step, known: set[str]) -> Iterator[str]:
    if len(step.hints) != HINTS:
        yield _("{step} has {n} hints, not {most}").format(step=step.id, n=len(step.hints), most=HINTS)
    if not step.after:
        yield _("{step} lacks “After:”").format(step=step.id)
    for name in sorted(set(placeholders(step.after)) - known):
        why = _("{step} asks for {{{figure}}}, which no check so far measures")
        yield why.format(step=step.id, figure=name)
    for text in (step.goal, step.text, *step.hints):
        for name in placeholders(text):
            yield _("{step} asks for {{{figure}}} before it is solved").format(step=step.id, figure=name)
    asks = any(spec.name == "answer" for spec in step.checks)
    for command in (*step.commands, *step.solution):
        if command.startswith(":"):
            if not asks or not command.startswith(":answer "):
                yield _("{step}: “{command}” is no command").format(step=step.id, command=command)
        elif why := _syntax(command):
            yield f"{step.id}: {why}"


def _preparation(lesson: Lesson, preparation: Preparation) -> Iterator[Complaint]:
    for script in preparation.scripts:
        if why := _syntax(script.text):
            yield Complaint(lesson.path, script.line, why)


def _syntax(command: str) -> str:
    """What bash has against a command; "" if nothing. ``on NODE`` before it is omsh's own."""
    words = command.split(None, 2)
    if words[:1] == ["on"]:
        command = words[2] if len(words) > 2 else ":"
    done = subprocess.run(
        ["bash", "-n", "-c", command],
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return done.stderr.strip().split("\n")[0] if done.returncode else ""


# ------------------------------------------------------------------------------------------ one check


def _figures(spec: CheckSpec) -> set[str]:
    """What a check measures."""
    kind = KINDS.get(spec.name)
    if kind is None:
        return set()
    found = set(kind.figures)
    for argument in kind.groups:
        try:
            found |= set(re.compile(spec.arguments.get(argument, "")).groupindex)
        except re.error:
            continue
    return found


def _check(spec: CheckSpec, known: set[str]) -> Iterator[str]:
    kind = KINDS.get(spec.name)
    if kind is None:
        yield _("there is no check {name}; there are {all}").format(
            name=spec.name, all=", ".join(sorted(KINDS))
        )
        return
    for name in kind.needed:
        if name not in spec.arguments:
            yield _("{check} needs {argument}=").format(check=spec.name, argument=name)
    for name, value in spec.arguments.items():
        if why := _argument(kind, name, value, known):
            yield f"{spec.name}: {why}"


def _argument(kind: Kind, name: str, value: str, known: set[str]) -> str:
    what = kind.needed.get(name) or kind.optional.get(name)
    if what is None:
        return _("it knows no {argument}=").format(argument=name)
    wrong = _("{argument}={value} is no {kind}").format(argument=name, value=value, kind=what)
    if (
        (what == "number" and not value.isdigit())
        or (what == "switch" and value not in ("yes", "no", "on", "off"))
        or (what == "mosctl" and value not in SWITCHES)
        or (what == "path" and not value.startswith(("/", "~/")))
    ):
        return wrong
    if what == "figure" and (not _FIGURE.fullmatch(value) or value not in known):
        return _("no check so far measures {figure}").format(figure=value)
    if what == "pattern":
        try:
            re.compile(value)
        except re.error as error:
            return f"{wrong}: {error}"
    return ""


# ---------------------------------------------------------------------------------------- translations


def _translation(original: Lesson | None, lesson: Lesson) -> Iterator[Complaint]:
    """What must be the same in all languages: ids, checks, solutions, and what is prepared."""
    if original is None:
        yield Complaint(lesson.path, 1, _("there is no such lesson in English"))
        return
    if (original.id, original.node, original.needs) != (lesson.id, lesson.node, lesson.needs):
        yield Complaint(lesson.path, 1, _("id, node or needs differ from the English lesson"))
    names = [step.id for step in lesson.steps]
    if names != [step.id for step in original.steps]:
        yield Complaint(lesson.path, 1, _("its steps are not those of the English lesson"))
        return
    if _prepared(original.setup) != _prepared(lesson.setup):
        yield Complaint(lesson.path, 1, _("it prepares something else than the English lesson"))
    for theirs, own in zip(original.steps, lesson.steps, strict=True):
        if [_essence(spec) for spec in theirs.checks] != [_essence(spec) for spec in own.checks]:
            yield Complaint(lesson.path, own.line, _("{step}: the checks differ").format(step=own.id))
        if _prepared(theirs.setup) != _prepared(own.setup):
            yield Complaint(lesson.path, own.line, _("{step}: the preparation differs").format(step=own.id))
        if theirs.solution != own.solution:
            yield Complaint(lesson.path, own.line, _("{step}: the solutions differ").format(step=own.id))


def _essence(spec: CheckSpec) -> tuple[str, str, dict[str, str]]:
    return spec.label, spec.name, dict(spec.arguments)


def _prepared(preparation: Preparation) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Where what is put; a program's comments may be translated, so of files only the places count."""
    return (
        [(script.node, script.text) for script in preparation.scripts],
        [(file.node, file.path) for file in preparation.files],
    )
