"""The workshop's own lessons: well written, and each step does what it promises, in both languages."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from omtools.shell import library, words
from omtools.shell.lesson import Lesson, Preparation
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


def _done(lesson: Lesson) -> list[object]:
    """All that is done in a lesson and looked at, without its texts."""
    steps = [
        (step.id, _plain(step.setup), step.solution, [(one.label, one.name, one.arguments) for one in step.checks])
        for step in lesson.steps
    ]
    return [lesson.number, lesson.id, lesson.node, lesson.needs, _plain(lesson.setup), steps]


def _plain(preparation: Preparation) -> tuple[object, ...]:
    return preparation.files, [(script.node, script.text) for script in preparation.scripts]


def test_both_languages_do_the_same_and_only_say_it_differently() -> None:
    """To the byte: so a step that was played in one language is proved for the other."""
    english, spanish = (library.load(language, LESSONS) for language in ("en", "es"))
    assert {lesson.language for lesson in spanish} == {"es"}
    assert [_done(lesson) for lesson in spanish] == [_done(lesson) for lesson in english]


# All of the course is played in English, and in Spanish what neither boots machines nor has to wait until processes
# are old enough to be judged; the test above says why that is enough. Beside the machines, which boot, go the lessons
# that mostly wait; those that measure have the machine for themselves.
ROUNDS = {
    "machines": (("en 3,4,5",), ("en 6,12,13,14", "es 12")),
    "measured": (("en 0,1,2,7,8,9,10,11", "es 0,2,7,8"),),
}


def _play(lab: str, courses: tuple[str, ...]) -> list[str]:
    """Play on a lab of that name, one course after the other; what was wrong."""
    environment = {**os.environ, "OMLAB_NAME": lab, "PYTHONPATH": str(ROOT)}
    problems = []
    for course in courses:
        language, numbers = course.split()
        done = subprocess.run(
            [sys.executable, "-m", "omtools.commands.omsh", "--play", "all", "--lang", language, "--lesson", numbers],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        wanted = [one for one in library.load(language, LESSONS) if str(one.number) in numbers.split(",")]
        solved = sum(f" {language} " in line and " ok " in line for line in done.stdout.splitlines())
        if done.returncode or "is left out" in done.stdout or solved != sum(len(lesson.steps) for lesson in wanted):
            problems.append(f"{course}: {done.returncode}, {solved} solved\n{done.stdout}{done.stderr}")
    return problems


@pytest.fixture
def labs() -> Iterator[Callable[[int], str]]:
    """Names of labs; those that are still up in the end are taken down."""
    given: list[str] = []

    def name(number: int) -> str:
        given.append(f"p{os.getpid()}-{number}")
        return given[-1]

    yield name
    for lab in given:
        environment = {**os.environ, "OMLAB_NAME": lab, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-m", "omtools.commands.omlab", "down"], env=environment, check=False)


def test_the_rounds_are_the_whole_course() -> None:
    played = [int(n) for one in ROUNDS.values() for lab in one for course in lab if course[:2] == "en"
              for n in course[3:].split(",")]  # fmt: skip
    assert sorted(played) == [lesson.number for lesson in library.load("en", LESSONS)]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("which", [
    pytest.param("machines", marks=pytest.mark.machines),
    pytest.param("measured", marks=pytest.mark.alone),
])  # fmt: skip
def test_every_step_is_unsolved_before_and_solved_by_its_solution(which: str, labs: Callable[[int], str]) -> None:
    beside = ROUNDS[which]
    with ThreadPoolExecutor(len(beside)) as threads:
        names = [labs(number) for number in range(len(beside))]
        problems = [one for found in threads.map(_play, names, beside) for one in found]
    assert not problems, "\n".join(problems)
