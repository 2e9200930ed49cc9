"""Reading lessons.

::

    +++
    id = "migrating"
    title = "Processes that move"
    about = "One sentence."
    minutes = 10
    +++
    Text that introduces the lesson, `setup` and `file` blocks that are done whenever it is entered.

    ## first-step: Its title

    Goal: one sentence.

    Explanation. Commands to try stand in a block of their own:

    ```try
    mps -o pid,args
    ```

    ```check
    here: process_on node=mCii command=omcount
    ```

    Hint: a nudge.

    Hint: more.

    Hint: nearly everything.

    ```solution
    python3 omcount.py &
    ```

    After: what happened, with figures: {here.pid}.

Blocks: ``try`` and ``solution`` (one command a line), ``check`` (``[label:] name key=value …``, words as a
shell splits them), ``setup NODE`` (a bash script that omsh runs there, unseen), ``file NODE ~/PATH`` (a file
that it puts there). Every other block is shown as it is. After ``After:`` everything up to the next step
belongs to it.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from omtools.errors import LessonError
from omtools.i18n import _
from omtools.shell.lesson import CheckSpec, Lesson, LessonFile, Preparation, Script, Step

_NAME = re.compile(r"(\d{2})-[a-z0-9-]+\.md")
_STEP = re.compile(r"##\s+([a-z][a-z0-9-]*):\s+(\S.*)")
_LABELLED = re.compile(r"(Goal|Hint|After):\s*(.*)")
_ID = re.compile(r"[a-z][a-z0-9-]*")
_BLOCKS = ("try", "check", "solution", "setup", "file")
_KEYS: dict[str, type] = {"id": str, "title": str, "about": str, "minutes": int, "node": str, "needs": str}


@dataclass
class _Fence:
    """A block between two lines of backticks."""

    kind: str
    words: list[str]
    line: int
    lines: list[str] = field(default_factory=list)


@dataclass
class _Part:
    """A step, or what stands before the first one, while it is read."""

    name: str = ""
    title: str = ""
    line: int = 0
    goal: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    hints: list[list[str]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    solution: list[str] = field(default_factory=list)
    checks: list[CheckSpec] = field(default_factory=list)
    scripts: list[Script] = field(default_factory=list)
    files: list[LessonFile] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    target: list[str] | None = None  # None: the text
    ending: bool = False

    def setup(self) -> Preparation:
        return Preparation(tuple(self.files), tuple(self.scripts))


class _Reader:
    """Reads one file, line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts = [_Part()]
        self._fence: _Fence | None = None

    def fail(self, line: int, why: str) -> LessonError:
        return LessonError(path=str(self.path), line=line, why=why)

    def body(self, lines: Iterable[str], first: int) -> None:
        for number, line in enumerate(lines, first):
            if self._fence is not None:
                self._in_fence(line)
            elif line.startswith("```"):
                self._open(line, number)
            elif line.startswith("## "):
                self._step(line, number)
            else:
                self._line(line, number)
        if self._fence is not None:
            raise self.fail(self._fence.line, _("the block that begins here has no end"))

    def _step(self, line: str, number: int) -> None:
        found = _STEP.fullmatch(line.strip())
        if found is None:
            raise self.fail(number, _("a step begins as “## its-id: Its title”"))
        if any(part.name == found[1] for part in self.parts):
            raise self.fail(number, _("there is a step {name} already").format(name=found[1]))
        self.parts.append(_Part(found[1], found[2].strip(), number))

    def _line(self, line: str, number: int) -> None:
        part = self.parts[-1]
        found = _LABELLED.fullmatch(line.strip())
        if found and not part.ending:
            if not part.name:
                raise self.fail(number, _("“{word}:” belongs into a step").format(word=found[1]))
            self._label(part, found[1], found[2], number)
        elif not line.strip() and not part.ending and part.target is not None:
            part.target = None  # the paragraph ends
        else:
            (part.text if part.target is None else part.target).append(line.rstrip())

    def _label(self, part: _Part, word: str, rest: str, number: int) -> None:
        if word == "Hint":
            part.hints.append([rest])
            part.target = part.hints[-1]
            return
        if word in part.seen:
            raise self.fail(number, _("a second “{word}:” in one step").format(word=word))
        part.seen.add(word)
        part.target = part.goal if word == "Goal" else part.after
        part.target.append(rest)
        part.ending = word == "After"

    def _open(self, line: str, number: int) -> None:
        try:
            words = shlex.split(line.strip().strip("`"))
        except ValueError:
            words = []
        kind = words[0] if words and words[0] in _BLOCKS else ""
        self._fence = _Fence(kind, words[1:], number)
        if not kind:
            self._keep(line)
        elif self.parts[-1].ending:
            raise self.fail(number, _("“{kind}” stands before “After:”").format(kind=kind))

    def _keep(self, line: str) -> None:
        part = self.parts[-1]
        (part.after if part.ending else part.text).append(line.rstrip())

    def _in_fence(self, line: str) -> None:
        fence = self._fence
        assert fence is not None
        if line.rstrip() != "```":
            fence.lines.append(line.rstrip("\n"))
            if not fence.kind:
                self._keep(line)
            return
        self._fence = None
        if not fence.kind:
            self._keep(line)
            return
        self._close(fence, self.parts[-1])

    def _close(self, fence: _Fence, part: _Part) -> None:
        part.target = None
        if fence.kind in ("setup", "file"):
            self._prepare(fence, part)
            return
        if not part.name:
            raise self.fail(fence.line, _("“{kind}” belongs into a step").format(kind=fence.kind))
        lines = [line.strip() for line in fence.lines if line.strip() and not line.lstrip().startswith("#")]
        if fence.kind == "check":
            for place, line in enumerate(fence.lines, fence.line + 1):
                if line.strip():
                    part.checks.append(self._check(line, place))
        elif fence.kind == "solution":
            part.solution += lines
        else:
            part.commands += lines
            part.text += ["```try", *fence.lines, "```"]

    def _prepare(self, fence: _Fence, part: _Part) -> None:
        if len(fence.words) != (1 if fence.kind == "setup" else 2):
            raise self.fail(fence.line, _("write “setup NODE” or “file NODE ~/PATH”"))
        node, text = fence.words[0], "\n".join(fence.lines) + "\n"
        if fence.kind == "setup":
            part.scripts.append(Script(node, text, fence.line))
            return
        if not fence.words[1].startswith("~/") or ".." in fence.words[1].split("/"):
            raise self.fail(fence.line, _("files are put below a node's home, ~/"))
        part.files.append(LessonFile(node, fence.words[1], text))

    def _check(self, line: str, number: int) -> CheckSpec:
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise self.fail(number, str(error)) from None
        label = ""
        if words[0].endswith(":"):
            label = words.pop(0)[:-1]
            if not _ID.fullmatch(label):
                raise self.fail(number, _("“{label}” cannot be a label").format(label=label))
        if not words:
            raise self.fail(number, _("a label, but no check"))
        arguments: dict[str, str] = {}
        for word in words[1:]:
            key, equals, value = word.partition("=")
            if not equals or key in arguments:
                raise self.fail(number, _("“{word}” is not one key=value").format(word=word))
            arguments[key] = value
        return CheckSpec(words[0], arguments, label, number)

    def steps(self) -> tuple[Step, ...]:
        return tuple(self._made(part) for part in self.parts[1:])

    def _made(self, part: _Part) -> Step:
        missing = [
            name
            for name, have in (("Goal:", part.goal), ("check", part.checks), ("solution", part.solution))
            if not have
        ]
        if missing:
            why = _("the step {name} lacks {what}")
            raise self.fail(part.line, why.format(name=part.name, what=", ".join(missing)))
        return Step(
            id=part.name,
            title=part.title,
            goal=_joined(part.goal),
            text="\n".join(part.text).strip(),
            commands=tuple(part.commands),
            checks=tuple(part.checks),
            hints=tuple(_joined(hint) for hint in part.hints),
            solution=tuple(part.solution),
            after="\n".join(part.after).strip(),
            setup=part.setup(),
            line=part.line,
        )


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines if line.strip())


def parse(path: Path, text: str, language: str) -> Lesson:
    """Read a lesson.

    Args:
        path: where it is from; its name begins with the lesson's number.
        text: its content.
        language: of the text.

    Raises:
        LessonError: it is not written as it should be; names file and line.
    """
    named = _NAME.fullmatch(path.name)
    reader = _Reader(path)
    if named is None:
        raise reader.fail(1, _("a lesson's file is named as 07-migrating.md"))
    lines = text.split("\n")
    head, first = _front_matter(reader, lines)
    reader.body(lines[first - 1 :], first)
    steps = reader.steps()
    if not steps:
        raise reader.fail(len(lines), _("a lesson has at least one step"))
    return Lesson(
        number=int(named[1]),
        id=str(head["id"]),
        title=str(head["title"]),
        about=str(head["about"]),
        minutes=int(head["minutes"]),
        node=str(head.get("node", "mCii")),
        needs=str(head.get("needs", "")),
        language=language,
        intro="\n".join(reader.parts[0].text).strip(),
        setup=reader.parts[0].setup(),
        steps=steps,
        path=path,
    )


def _front_matter(reader: _Reader, lines: list[str]) -> tuple[dict[str, str | int], int]:
    """The settings at the top, and the number of the first line behind them."""
    if lines[0].strip() != "+++":
        raise reader.fail(1, _("a lesson begins with a line +++"))
    try:
        end = next(at for at, line in enumerate(lines[1:], 1) if line.strip() == "+++")
    except StopIteration:
        raise reader.fail(1, _("the settings have no second line +++")) from None
    try:
        found = tomllib.loads("\n".join(lines[1:end]))
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"line (\d+)", str(error))
        raise reader.fail(1 + int(at[1]) if at else 1, str(error)) from None
    for key, value in found.items():
        if type(value) is not _KEYS.get(key):
            raise reader.fail(1, _("the setting {key} is unknown, or of a wrong type").format(key=key))
    lacking = [key for key in _KEYS if key not in found and key not in ("node", "needs")]
    if lacking:
        raise reader.fail(1, _("the settings lack {keys}").format(keys=", ".join(lacking)))
    if not _ID.fullmatch(found["id"]):
        raise reader.fail(1, _("“{id}” cannot be an id").format(id=found["id"]))
    return found, end + 2
