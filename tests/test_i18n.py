"""omtools.i18n: catalogues are complete, and their fields are those of the English."""

from __future__ import annotations

import ast
import functools
import os
import re
import string
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from omtools import i18n
from omtools.errors import CannotMigrate

ROOT = Path(__file__).parents[1]
PARTS = {
    "omtui": ["omtui"],
    "errors": ["omtools/errors"],
    "commands": ["omtools/commands"],
    "engine": [f"omtools/{floor}" for floor in ("agent", "cluster", "omfs", "migration", "image", "linux")],
    "lab": ["omtools/lab"],
    "shell": ["omtools/shell"],
}
LANGUAGES = sorted(path.name for path in i18n.CATALOGUES.iterdir())


@functools.cache
def messages(*folders: str) -> frozenset[str]:
    """Everything in _() and N_() in the files of some folders."""
    found = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("_", "N_")
                and isinstance(node.args[0], ast.Constant)
            ):
                found.add(str(node.args[0].value))
    return frozenset(found)


def fields(text: str) -> list[tuple[str | None, str | None]]:
    named: list[tuple[str | None, str | None]] = [
        (name, spec) for _text, name, spec, _conv in string.Formatter().parse(text) if name
    ]
    return sorted(named + [(field, None) for field in re.findall(r"%(?:\(\w+\))?[sr]", text)])  # argparse's


def catalogue(language: str, part: str) -> dict[str, str]:
    return tomllib.loads((i18n.CATALOGUES / language / f"{part}.toml").read_text())


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_on_screens_is_translated(language: str) -> None:
    assert messages("omtui") - catalogue(language, "omtui").keys() == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_on_screens_is_translated_that_nobody_says(language: str) -> None:
    assert catalogue(language, "omtui").keys() - messages("omtui") == set()


def known(language: str) -> set[str]:
    """Everything that is translated, also by the workshop's own words."""
    words = tomllib.loads((ROOT / "lessons" / language / "words.toml").read_text())
    return set(words).union(*(catalogue(language, part) for part in PARTS))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("part", PARTS)
def test_what_is_said_is_translated(language: str, part: str) -> None:
    """A sentence that was worded anew is English until somebody has translated it; the list says which are."""
    missing = messages(*PARTS[part]) - known(language)
    assert len(missing) <= len(messages(*PARTS[part])) // 20, "\n".join(sorted(missing))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("part", PARTS)
def test_what_nobody_says_any_more_is_taken_out(language: str, part: str) -> None:
    stale = catalogue(language, part).keys() - messages(*(folder for folders in PARTS.values() for folder in folders))
    assert len(stale) <= len(catalogue(language, part)) // 20, "\n".join(sorted(stale))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("part", PARTS)
def test_translations_have_the_same_fields(language: str, part: str) -> None:
    for english, own in catalogue(language, part).items():
        assert fields(english) == fields(own), own
        assert english.endswith(".") == own.endswith("."), own


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"LANG": "es_ES.UTF-8"}, "No existe el proceso 7. `mps` muestra los suyos."),
        ({"LANG": "en_GB.UTF-8", "LANGUAGE": "es_MX:en"}, "No existe el proceso 7. `mps` muestra los suyos."),
        ({"LANG": "es_ES", "LC_ALL": "C.UTF-8"}, "There is no process 7. `mps` lists yours."),
        ({"LANG": "eo:es"}, "No existe el proceso 7. `mps` muestra los suyos."),
        ({"LANG": "en:es"}, "There is no process 7. `mps` lists yours."),
        ({"LANG": "../es"}, "There is no process 7. `mps` lists yours."),
        ({}, "There is no process 7. `mps` lists yours."),
    ],
)
def test_the_environment_chooses(environment: dict[str, str], said: str) -> None:
    kept = {k: v for k, v in os.environ.items() if k not in ("LANGUAGE", "LANG") and not k.startswith("LC_")}
    code = "from omtools.errors import NoSuchProcess; print(NoSuchProcess(pid=7))"
    env = {**kept, **environment, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said


@pytest.mark.parametrize(
    ("english", "told"),
    [
        ("it is the init of this machine", "es el init de esta máquina"),
        ("it has 7 threads, and only one can move in this version", "tiene 7 hilos, y en esta versión solo se muda uno"),
        ("guests use 12 % of its processors, and their limit is 5 %",
         "los huéspedes usan el 12 % de sus procesadores, y su límite es el 5 %"),
        ("what nobody has ever said", "what nobody has ever said"),
        ("off", "off"),
        ("/a/path of {odd} name", "/a/path of {odd} name"),
    ],
)  # fmt: skip
def test_what_an_english_agent_said_is_retold(monkeypatch: pytest.MonkeyPatch, english: str, told: str) -> None:
    monkeypatch.setattr(i18n, "_words", i18n.read(i18n.CATALOGUES / "es"))
    assert i18n.retold(english) == told
    assert told in str(CannotMigrate(pid=1, reason=english))


@pytest.mark.parametrize("text", [
    "", "# nothing\n", '"a" = "b"', '"a b" = "c\\nd"\n\n# e\n"f" = ""\n', '"a" = "say \\"b\\""\n', '"\\\\n" = "c"\n',
    '"a" = """\nb\nc"""\n', "'a' = 'b'\n", 'a = "b"\n', '"a"="b"  # "c"\n', '"a" = "b" # c"\n', '"ñ" = "\\u00f1"\n',
    '"a" = "b"\r\n"c" = "d"\r\n',
])  # fmt: skip
def test_a_catalogue_is_read_as_toml_is(text: str) -> None:
    assert i18n.parse(text) == tomllib.loads(text)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_catalogues_need_no_parser_of_toml(
    language: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, whole = (i18n.CATALOGUES / language / f"{part}.toml").read_text(), catalogue(language, part)
    monkeypatch.setattr(tomllib, "loads", None)
    assert i18n.parse(text) == whole
