"""Translation of everything that people read.

Wrap a string that is shown at once in ``_()``; one that is only declared (a class attribute, a table)
in ``N_()`` and translate it where it is shown. Catalogues are ``locale/LANGUAGE/PART.toml`` beside this file,
``"English" = "translation"``; the language comes from ``LANGUAGE``, ``LC_ALL``, ``LC_MESSAGES`` or ``LANG``,
in this order, as gettext(3) has it. What no catalogue has is shown as it is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

CATALOGUES = Path(__file__).parent / "locale"

_VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
_words: dict[str, str] | None = None  # None: nobody has asked yet


def _(message: str) -> str:
    """The message in the user's language, or as it is."""
    if _words is None:
        speak(languages())
    return message if _words is None else _words.get(message, message)


def N_(message: str) -> str:  # noqa: N802 - gettext's own name for "mark, do not translate yet"
    """Mark a message for the catalogues without translating it."""
    return message


def languages() -> list[str]:
    """What the environment asks for, the best first: ``es_MX`` means Spanish too, if there is no Mexican."""
    given = next((value for name in _VARIABLES if (value := os.environ.get(name))), "")
    found: list[str] = []
    for word in given.split(":"):
        plain = word.partition(".")[0].partition("@")[0]
        found += [plain, plain.partition("_")[0]]
    return found


def speak(wanted: Sequence[str]) -> None:
    """From now on answer in the first of these languages that is known; English is always known."""
    global _words  # noqa: PLW0603 - a program speaks one language
    for language in wanted:
        if language in ("en", "C", "POSIX"):
            break
        if language.isidentifier() and (words := read(CATALOGUES / language)):
            _words = words
            return
    _words = {}


def read(directory: Path) -> dict[str, str]:
    """All catalogues of a language; none that can be read: nothing."""
    parts = sorted(directory.glob("*.toml"))
    if not parts:
        return {}
    import tomllib  # noqa: PLC0415 - who reads English need not wait for it

    words: dict[str, str] = {}
    for part in parts:
        words.update(tomllib.loads(part.read_text(encoding="utf-8")))
    return words
