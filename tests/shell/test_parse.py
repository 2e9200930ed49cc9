from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from omtools.errors import LessonError
from omtools.shell.lesson import Lesson, LessonFile, Script, fill, placeholders
from omtools.shell.parse import parse

from .samples import HEAD, STEP, text

PATH = Path("01-sample.md")


def parsed(content: str, path: Path = PATH) -> Lesson:
    return parse(path, content, "en")


def test_all_parts_of_a_lesson() -> None:
    content = HEAD + '```setup mCii\ntrue\n```\n```file mCii ~/a.py\nx = 1\n\ny = 2\n```\n' + STEP.format(name="one")
    found = parsed(content)
    assert (found.id, found.number, found.minutes, found.node, found.needs) == ("sample", 1, 1, "mCii", "")
    assert found.intro == "Intro."
    assert [script.text for script in found.setup.scripts] == ["true\n"]
    assert found.setup.files == (LessonFile("mCii", "~/a.py", "x = 1\n\ny = 2\n"),)
    (step,) = found.steps
    assert (step.id, step.title, step.goal) == ("one", "Title of one", "the goal of one.")
    assert step.hints == ("one", "two", "three")
    assert step.commands == ("touch one",)
    assert step.solution == ("touch one", "echo x > one")
    assert step.after == "Found {one.word}."
    assert step.text == "Text of one.\n\n```try\ntouch one\n```"
    (check,) = step.checks
    assert (check.name, check.label) == ("file_contains", "one")
    assert check.arguments == {"node": "mCii", "path": "~/one", "pattern": "(?P<word>x*)"}


def test_a_step_of_its_own_preparation_and_after_with_paragraphs() -> None:
    content = text("one").replace("Goal:", "```setup metrakilate\necho hi\n```\n\nGoal:")
    content += "\nSecond paragraph.\n\n```\nHint: literal\n## not a step\n```\n"
    (step,) = parsed(content).steps
    assert step.setup.scripts == (Script("metrakilate", "echo hi\n", 11),)
    assert step.after.startswith("Found {one.word}.\n\nSecond paragraph.")
    assert "## not a step" in step.after


@pytest.mark.parametrize(
    ("content", "line", "why"),
    [
        ("no front matter", 1, "begins with"),
        ("+++\nid = 1", 1, "no second line"),
        ('+++\nid = "a\n+++\n', 1, "Unterminated"),
        (HEAD.replace("minutes = 1", 'minutes = "1"'), 1, "minutes"),
        (HEAD.replace("minutes = 1\n", ""), 1, "minutes"),
        (HEAD.replace('"sample"', '"Sample!"'), 1, "cannot be an id"),
        (HEAD, 8, "at least one step"),
        (HEAD + "Goal: too early\n", 8, "belongs into a step"),
        (HEAD + "```check\nnode_up node=a\n```\n", 8, "belongs into a step"),
        (HEAD + "## No id\n", 8, "a step begins as"),
        (text("one", "one"), 36, "already"),
        (text("one").replace("After:", "Goal: again\n\nAfter:"), 34, "second"),
        (text("one").replace("node=mCii", "mCii"), 20, "key=value"),
        (text("one").replace("node=mCii", "node=a node=b"), 20, "key=value"),
        (text("one").replace('x*)"', "x*)"), 20, "No closing quotation"),
        (text("one").replace("one: file_contains", "1: file_contains"), 20, "label"),
        (text("one") + "```try\nls\n```\n", 35, "before"),
        (text("one").replace("```solution", "```setup"), 29, "NODE"),
        (text("one").replace("```solution", "```file mCii /etc/passwd"), 29, "below a node's home"),
        (text("one").replace("```solution", "```file mCii ~/../x"), 29, "below a node's home"),
        (text("one").replace("Goal: the goal of one.", ""), 9, "lacks Goal:"),
        (text("one").replace("```solution", "```"), 9, "lacks solution"),
        (text("one") + "```\nopen\n", 35, "no end"),
    ],
)  # fmt: skip
def test_errors_name_file_line_and_what(content: str, line: int, why: str) -> None:
    with pytest.raises(LessonError) as error:
        parsed(content)
    assert error.value.fields["path"] == str(PATH)
    assert why in str(error.value.fields["why"])
    assert error.value.fields["line"] == line


def test_a_file_name_without_number() -> None:
    with pytest.raises(LessonError, match="named as"):
        parsed(text("one"), Path("sample.md"))


words = st.text("abcdefghij ", min_size=1, max_size=30).map(str.strip).filter(bool)
names = st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), min_size=1, max_size=4, unique=True)


@given(names, st.lists(words, min_size=3, max_size=3), st.lists(words, max_size=4), words)
def test_what_is_written_is_read(steps: list[str], hints: list[str], paragraphs: list[str], goal: str) -> None:
    content = HEAD
    for name in steps:
        content += f"\n## {name}: {goal}\n\nGoal: {goal}\n\n" + "\n\n".join(paragraphs) + "\n\n"
        content += "\n\n".join(f"Hint: {hint}" for hint in hints)
        content += f"\n\n```check\nnode_up node={name}\n```\n\n```solution\n{goal}\n```\n\nAfter: {goal}\n"
    found = parsed(content)
    assert [step.id for step in found.steps] == steps
    for step in found.steps:
        assert step.hints == tuple(hints)
        assert (step.goal, step.after, step.solution) == (goal, goal, (goal,))
        assert step.text.split() == " ".join(paragraphs).split()


@given(st.text(max_size=300))
def test_any_text_is_a_lesson_or_a_lesson_error(content: str) -> None:
    for whole in (content, HEAD + content, text("one") + content):
        try:
            parsed(whole)
        except LessonError as error:
            assert 1 <= int(error.fields["line"]) <= whole.count("\n") + 1  # noqa: PT017 - what it says counts


def test_figures_are_filled_in() -> None:
    sentence = "{a.ms} ms, {a.mb:1} MB, {a.who}, {b.unknown}, {no placeholder}"
    assert fill(sentence, {"a.ms": 37.4, "a.mb": 10.76, "a.who": "x"}) == "37 ms, 10.8 MB, x, ?, {no placeholder}"
    assert list(placeholders(sentence)) == ["a.ms", "a.mb", "a.who", "b.unknown"]
