"""Finding the lessons, in the reader's language where there is one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from omtools.errors import LessonError, NoSuchLesson
from omtools.shell.lesson import METAL, Lesson
from omtools.shell.parse import parse

FALLBACK = "en"


def lessons_directory() -> Path:
    """Where the lessons are: beside the package in a checkout, else where they were installed.

    ``OMSH_LESSONS`` names another directory, for authors.
    """
    if given := os.environ.get("OMSH_LESSONS"):
        return Path(given)
    checkout = Path(__file__).resolve().parents[2] / "lessons"
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "omtools" / "lessons"


def user_language() -> str:
    """The language of the environment, as gettext(3) looks for it."""
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return value.split(":")[0].split(".")[0].split("_")[0].casefold()
    return FALLBACK


def languages(directory: Path) -> list[str]:
    """The languages in which there are lessons."""
    try:
        return sorted(path.name for path in directory.iterdir() if any(path.glob("[0-9][0-9]-*.md")))
    except OSError:
        return []


def files(directory: Path, language: str) -> dict[str, Path]:
    """The files of one language by their names."""
    return {path.name: path for path in sorted((directory / language).glob("[0-9][0-9]-*.md"))}


def read(path: Path, language: str) -> Lesson:
    """Read one lesson; raises LessonError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LessonError(path=str(path), line=1, why=str(error)) from None
    return parse(path, text, language)


def load(language: str, directory: Path | None = None) -> list[Lesson]:
    """All lessons in order, each in that language or else in English.

    Raises:
        LessonError: one is not written as it should be.
        NoSuchLesson: there are none at all.
    """
    place = directory or lessons_directory()
    english, own = files(place, FALLBACK), files(place, language)
    found = [
        read(own[name], language) if name in own else read(english[name], FALLBACK)
        for name in sorted({**english, **own})
    ]
    if not found:
        raise NoSuchLesson(lesson="1", where=str(place))
    return found


def possible(lessons: list[Lesson], mode: str) -> list[Lesson]:
    """Those that can be held where labs are of that mode, and those that have machines of their own."""
    return [lesson for lesson in lessons if lesson.needs in ("", METAL, mode)]


def choose(lessons: list[Lesson], word: str) -> Lesson:
    """The lesson of that number or id; raises NoSuchLesson."""
    for lesson in lessons:
        if word in (lesson.id, str(lesson.number), f"{lesson.number:02}"):
            return lesson
    raise NoSuchLesson(lesson=word, where=str(lessons[0].path.parent.parent))
