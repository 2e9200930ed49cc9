"""The manual's pages as text, and what commands say of themselves."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SCRIPTS: dict[str, str] = PROJECT["project"]["scripts"]
LANGUAGES = ("en", "es")
_ESCAPES = {"-": "-", "e": "\\", "&": "", "(aq": "'", "(ga": "`", "(ti": "~", "(ha": "^"}

# Runs in a process of its own: `--help` of a command, then of each of its verbs, as {"verb ...": text}.
_ASK = """\
import contextlib, importlib, io, json, re, sys
name, module, function = sys.argv[1:]
main = getattr(importlib.import_module(module), function)
found = {}
def ask(verbs):
    sys.argv = [name, *verbs, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            status = main()
        except SystemExit as ended:
            status = ended.code
    assert not status, (sys.argv, status)
    text = found[" ".join(verbs)] = said.getvalue()
    listed = re.search(r"^positional arguments:\\n(.*?)(?:\\n\\n|\\Z)", text, re.M | re.S)
    for verb in re.findall(r"^    ([a-z]\\S*)", listed[1] if listed else "", re.M):
        ask([*verbs, verb])
ask([])
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        path: of its source.
        language: "en" or "es".
        name: of what it describes.
        section: its number.
    """

    path: Path
    language: str
    name: str
    section: int

    @property
    def source(self) -> str:
        """As groff reads it."""
        return self.path.read_text()

    @property
    def text(self) -> str:
        """As people read it, more or less: without fonts and macros."""
        found = _plain(re.sub(r"^\.\\\".*\n", "", self.source, flags=re.M))
        return re.sub(r"^\.(?:S[HS] )?[A-Z]*", "", found, flags=re.M)

    def examples(self) -> list[str]:
        """What stands in it letter by letter."""
        return [_plain(block) for block in re.findall(r"^\.EX\n(.*?)^\.EE$", self.source, re.M | re.S)]

    def described(self) -> set[str]:
        """The options that it describes, in a section of their own."""
        sections = re.split(r"^\.SH ", self.source, flags=re.M)
        tags = [tag for section in sections if section.startswith(('OPTIONS', '"OPTIONS', "OPCIONES", '"OPCIONES'))
                for tag in re.findall(r"^\.TP\n(.*)", section, re.M)]  # fmt: skip
        return options_in(_plain(" ".join(tags)))

    def shape(self) -> list[str]:
        """Its macros in their order: what two languages have in common."""
        return re.findall(r"^\.(?:SH|SS|TP|EX)\b", self.source, re.M)


def _plain(source: str) -> str:
    """Without fonts, and with the letters that escapes stand for."""
    return re.sub(r"\\(\(..|.)", lambda match: _ESCAPES[match[1]], re.sub(r"\\f[BIR]", "", source))


@cache
def pages(language: str) -> dict[str, Page]:
    """All pages of a language, as "name.section"."""
    found = {}
    for path in sorted((ROOT / "man" / language).glob("man?/*")):
        name, _dot, section = path.name.rpartition(".")
        assert path.parent.name == f"man{section}"
        found[path.name] = Page(path, language, name, int(section))
    return found


def page_of(command: str, language: str) -> Page:
    """The page of a command."""
    found = [page for page in pages(language).values() if page.name == command and page.section in (1, 8)]
    assert len(found) == 1, f"{command} needs a page in man/{language}/man1 or man8"
    return found[0]


@cache
def help_of(command: str) -> dict[str, str]:
    """What a command and its verbs say with --help, by verb."""
    module, _colon, function = SCRIPTS[command].partition(":")
    done = subprocess.run(
        [sys.executable, "-c", _ASK, command, module, function],
        capture_output=True, text=True, check=False, timeout=100, cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "250", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent",
             "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def options_in(text: str) -> set[str]:
    """The options that a help text names; of -jLIST, where a value follows at once, only -j."""
    found = re.findall(r"(?<![\w-])(--[a-z][\w-]*|-[A-Za-z](?=[A-Z]+\b)|-[A-Za-z]\w*)", text)
    return set(found)
