"""The workshop's own lessons: well written, and each step does what it promises, in both languages."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from omtools.shell import library, words
from omtools.shell.lint import lint

ROOT = Path(__file__).parents[2]
LESSONS = ROOT / "lessons"


def test_nothing_is_wrong_with_them() -> None:
    assert [str(complaint) for complaint in lint(LESSONS)] == []
    assert library.languages(LESSONS) == ["en", "es"]
    assert library.files(LESSONS, "en").keys() == library.files(LESSONS, "es").keys()


def test_the_workshop_s_own_words_are_all_in_spanish() -> None:
    said = set()
    for path in (ROOT / "omtools" / "shell").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "N_":
                said.add(ast.literal_eval(node.args[0]))
    assert said == set(words.read(LESSONS / "es" / "words.toml"))


def test_a_missing_translation_is_english(tmp_path: Path) -> None:
    for language, names in (("en", ["00-omsh.md", "01-parallel.md"]), ("es", ["00-omsh.md"])):
        (tmp_path / language).mkdir()
        for name in names:
            (tmp_path / language / name).write_text((LESSONS / language / name).read_text())
    assert [lesson.language for lesson in library.load("es", tmp_path)] == ["es", "en"]
    assert [lesson.language for lesson in library.load("fr", tmp_path)] == ["en", "en"]


# Checks, preparations and solutions are the same in all languages, as lint sees to: what takes minutes, because
# machines boot or processes have to become old enough to be judged, is played in one of them.
@pytest.mark.alone
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("language", "left_out"), [("en", ()), ("es", ("03", "04", "05", "06", "09", "10", "11", "12", "13", "14"))])
def test_every_step_is_unsolved_before_and_solved_by_its_solution(language: str, left_out: tuple[str, ...]) -> None:
    lessons = [one for one in library.load(language, LESSONS) if f"{one.number:02}" not in left_out]
    environment = {**os.environ, "OMLAB_NAME": f"p{os.getpid()}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "omtools.commands.omsh", "--play", "all", "--lang", language,
         "--lesson", ",".join(str(one.number) for one in lessons)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is left out" not in done.stdout
    assert done.stdout.count(" ok ") == sum(len(lesson.steps) for lesson in lessons)
