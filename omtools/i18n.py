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


def retold(text: str) -> str:
    """A sentence that another process worded in English, in the user's language, or as it is.

    Errors travel with their fields, and some of these are sentences: why a process cannot move. Which one
    it is of those that the catalogues know with fields of their own, its fixed words tell.
    """
    if " " not in text:  # a name, not a sentence
        return text
    told = _(text)
    if told != text or not _words:
        return told
    import re  # noqa: PLC0415 - only for who reads another language

    for english, own in _words.items():
        head, brace, _rest = english.partition("{")
        tail = english.rpartition("}")[2]
        if not brace or not (head or tail) or not (text.startswith(head) and text.endswith(tail)):
            continue
        parts = re.split(r"\{(\w+)[^}]*\}", english)
        named, pattern = set[str](), re.escape(parts[0])
        for name, fixed in zip(parts[1::2], parts[2::2], strict=True):
            pattern += (f"(?P={name})" if name in named else f"(?P<{name}>.+?)") + re.escape(fixed)
            named.add(name)
        fixed_words = "".join(parts[::2]).split()
        if len(fixed_words) > 1 and (found := re.fullmatch(pattern, text)):
            fields = found.groupdict()
            return re.sub(r"\{(\w+)[^}]*\}", lambda one, fields=fields: fields.get(one[1], one[0]), own)  # type: ignore[misc]
    return text


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
    words: dict[str, str] = {}
    for part in parts:
        words.update(parse(part.read_text(encoding="utf-8")))
    return words


def parse(text: str) -> dict[str, str]:
    """The entries of a catalogue: TOML.

    Mostly each stands on a line of its own, with no escape but that of a line's end, and is read as such:
    every command does this before its first word, and tomllib takes thirty times as long.
    """
    words: dict[str, str] = {}
    plain = "\\" not in text.replace("\\n", "")
    for line in text.split("\n") if plain else ():
        if not line or line[0] == "#":
            continue
        english, equals, own = line[1:-1].partition('" = "')
        if not equals or line[0] + line[-1] != '""' or '"' in english or '"' in own:
            plain = False
            break
        words[english.replace("\\n", "\n")] = own.replace("\\n", "\n")
    if plain:
        return words
    import tomllib  # noqa: PLC0415 - see above

    return tomllib.loads(text)
