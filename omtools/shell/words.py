"""The workshop's own words in the language of the lessons, which need not be that of the environment.

A language's folder of lessons holds ``words.toml``: English sentence = its translation. What is not there is
looked up in the catalogues as everything else.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from omtools.errors import LessonError
from omtools.i18n import _

_words: dict[str, str] = {}


def tr(message: str) -> str:
    """The message in the lessons' language; declare it with ``N_()``."""
    return _words.get(message) or _(message)


def read(path: Path) -> dict[str, str]:
    """The words of one language; none if there is no such file. Raises LessonError."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LessonError(path=str(path), line=1, why=str(error)) from None
    return {english: str(own) for english, own in found.items()}


def speak(directory: Path, language: str) -> None:
    """From now on answer in that language."""
    _words.clear()
    _words.update(read(directory / language / "words.toml"))
