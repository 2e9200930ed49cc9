"""What a learner has done: the record, the changes to it, and the file that keeps it.

One file per lab, ``$XDG_STATE_HOME/openmosix/workshop/LAB.json``. Every change is applied to what the file
holds *then*, under a lock, and written beside it and renamed: two omsh on one lab add to one record, and a
full disk or a crash leaves the old one.

The same structure is what ``omsh --result FILE`` writes for teachers, as `Result`.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

VERSION = 1

Figure = str | float


class StepRecord(msgspec.Struct, frozen=True):
    """What happened in one step.

    Attributes:
        solved: when, as ISO 8601 in UTC; "" if it is not.
        seconds: from its first sight to the solution, as long as omsh ran.
        hints: how many were shown.
        solution: whether the solution was shown, or typed for the learner, before it was solved.
        figures: measured by its checks, as label.figure.
    """

    solved: str = ""
    seconds: float = 0.0
    hints: int = 0
    solution: bool = False
    figures: dict[str, Figure] = {}


class Progress(msgspec.Struct, frozen=True):
    """Everything that is kept.

    Attributes:
        lesson: id of the lesson that the learner is in.
        step: id of its step.
        records: by lesson and step.
    """

    version: int = VERSION
    lesson: str = ""
    step: str = ""
    records: dict[str, dict[str, StepRecord]] = {}

    def of(self, lesson: str, step: str) -> StepRecord:
        """The record of one step, an empty one if there is none."""
        return self.records.get(lesson, {}).get(step, StepRecord())

    def solved(self, lesson: str, step: str) -> bool:
        """Whether the step was solved."""
        return bool(self.of(lesson, step).solved)

    def figures(self, lesson: str) -> dict[str, Figure]:
        """All that was measured in a lesson."""
        found: dict[str, Figure] = {}
        for record in self.records.get(lesson, {}).values():
            found.update(record.figures)
        return found


class At(msgspec.Struct, frozen=True):
    """The learner is at this step now."""

    lesson: str
    step: str


class Keep(msgspec.Struct, frozen=True):
    """This is the record of a step from now on."""

    lesson: str
    step: str
    record: StepRecord


class Forget(msgspec.Struct, frozen=True):
    """These steps were reset."""

    lesson: str
    steps: tuple[str, ...]


Change = At | Keep | Forget


def apply(progress: Progress, change: Change) -> Progress:
    """The progress after a change. A solved step stays solved until it is forgotten."""
    if isinstance(change, At):
        return msgspec.structs.replace(progress, lesson=change.lesson, step=change.step)
    records = {lesson: dict(steps) for lesson, steps in progress.records.items()}
    steps = records.setdefault(change.lesson, {})
    if isinstance(change, Forget):
        for step in change.steps:
            steps.pop(step, None)
    else:
        had = steps.get(change.step, StepRecord())
        if not (had.solved and not change.record.solved):
            steps[change.step] = change.record
    return msgspec.structs.replace(progress, records=records)


def state_directory() -> Path:
    """Where the workshop keeps its things."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(base) / "openmosix" / "workshop"


class Store:
    """The file of one lab's progress."""

    def __init__(self, lab: str, directory: Path | None = None) -> None:
        self._directory = directory or state_directory()
        self.path = self._directory / f"{lab}.json"

    def read(self) -> Progress:
        """What is kept; an unreadable file is put aside and nothing is.

        Raises:
            OSError: it may not be read.
        """
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Progress)
        except FileNotFoundError:
            return Progress()
        except msgspec.MsgspecError:
            with contextlib.suppress(OSError):
                self.path.replace(self.path.with_suffix(".unreadable"))
            return Progress()

    def update(self, changes: tuple[Change, ...]) -> Progress:
        """Apply changes to what is kept now, and keep the result.

        Raises:
            OSError: it could not be kept (a full disk, say); what was kept before still is.
        """
        with self._locked():
            progress = self.read()
            for change in changes:
                progress = apply(progress, change)
            write(self.path, msgspec.json.format(msgspec.json.encode(progress)))
        return progress

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def write(path: Path, content: bytes) -> None:
    """Replace a file by another content at one instant, or not at all."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(new, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


class Result(msgspec.Struct, frozen=True):
    """The result file.

    Attributes:
        version: of this format.
        user: login name.
        lab: its name.
        written: when, ISO 8601 in UTC.
        steps: how many there are in each lesson.
        solved: how many of them are solved.
        records: as in `Progress`.
    """

    version: int
    user: str
    lab: str
    written: str
    steps: dict[str, int]
    solved: dict[str, int]
    records: dict[str, dict[str, StepRecord]]


def result(progress: Progress, lab: str, lessons: Mapping[str, tuple[str, ...]]) -> bytes:
    """The result file's content, for a teacher.

    Args:
        progress: of the learner.
        lab: its name.
        lessons: the ids of the steps of each lesson.
    """
    solved = {name: sum(progress.solved(name, step) for step in steps) for name, steps in lessons.items()}
    made = Result(
        VERSION,
        _user(),
        lab,
        timestamp(datetime.now(UTC).timestamp()),
        {name: len(steps) for name, steps in lessons.items()},
        solved,
        progress.records,
    )
    return msgspec.json.format(msgspec.json.encode(made)) + b"\n"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        return str(os.getuid())


def timestamp(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
