from __future__ import annotations

from pathlib import Path

import pytest

from omtools.commands import lessons
from omtools.shell.lint import lint

from .samples import text


def written(directory: Path, **files: str) -> Path:
    for name, content in files.items():
        language, _underscore, rest = name.partition("_")
        path = directory / language / (rest.replace("_", "-") + ".md")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    return directory


def said(directory: Path) -> list[str]:
    return [f"{complaint.line}: {complaint.why}" for complaint in lint(directory)]


def test_good_lessons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = text("one", "two")
    written(tmp_path, en_01_a=good, es_01_a=good.replace("the goal", "el objetivo"))
    assert said(tmp_path) == []
    assert lessons.main(["lint", str(tmp_path)]) == 0
    assert "en 1, es 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("Hint: three\n", "", "one has 2 hints, not 3"),
        ("After: Found {one.word}.", "", "lacks “After:”"),
        ("{one.word}", "{one.size}", "{one.size}, which no check"),
        ("Hint: two", "Hint: {one.word}", "before it is solved"),
        ("file_contains", "file_smells", "there is no check file_smells"),
        ("path=~/one ", "", "needs path="),
        ("path=~/one", "path=one", "path=one is no path"),
        ("path=~/one", "path=~/one size=3", "it knows no size="),
        ("(?P<word>x*)", "(", "is no pattern"),
        ("echo x > one", "echo x >", "syntax error"),
        ("touch one", ":next", "is no command"),
        ("file_contains node=mCii", "node_up up=maybe node=mCii", "up=maybe is no switch"),
    ],
)
def test_what_is_wrong_with_a_lesson(
    old: str, new: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, en_01_a=text("one").replace(old, new))
    assert any(complaint in line for line in said(tmp_path)), said(tmp_path)
    assert lessons.main(["lint", str(tmp_path)]) == 1
    assert complaint in capsys.readouterr().out


def test_broken_files_ids_and_places(tmp_path: Path) -> None:
    assert said(tmp_path) == ["1: there are no lessons here"]
    written(tmp_path, en_01_a=text("one"), en_01_b=text("one"), en_03_c="nothing")
    found = said(tmp_path)
    assert "1: a lesson begins with a line +++" in found
    assert any("the id sample is also that of 01-a.md" in line for line in found)
    assert any("the number 1 is also that of 01-a.md" in line for line in found)


def test_translations(tmp_path: Path) -> None:
    written(tmp_path, en_01_a=text("one", "two"))
    for old, new, complaint in (
        ("## two", "## drei", "its steps are not"),
        ("path=~/two", "path=~/zwei", "two: the checks differ"),
        ("echo x > two\n", "", "two: the solutions differ"),
        ("Goal: the goal of one.", "```setup mCii\ntrue\n```\n\nGoal: one.", "one: the preparation differs"),
        ("Intro.", "```file mCii ~/x\n```", "it prepares something else"),
        ('"sample"', '"other"', "id, node or needs differ"),
    ):
        written(tmp_path, es_01_a=text("one", "two").replace(old, new))
        assert any(complaint in line for line in said(tmp_path)), (complaint, said(tmp_path))
    written(tmp_path, es_01_a=text("one", "two"), es_02_b=text("one").replace('"sample"', '"more"'))
    assert said(tmp_path) == ["1: there is no such lesson in English"]


def test_words_keep_their_placeholders(tmp_path: Path) -> None:
    written(tmp_path, en_01_a=text("one"), es_01_a=text("one"))
    (tmp_path / "es" / "words.toml").write_text('"{n} calls" = "{m} llamadas"\n')
    assert said(tmp_path) == ["1: “{m} llamadas” has other placeholders than the English"]
    (tmp_path / "es" / "words.toml").write_text("x")
    assert len(said(tmp_path)) == 1


def test_authors_are_told_of_all_checks(capsys: pytest.CaptureFixture[str]) -> None:
    assert lessons.main(["checks"]) == 0
    shown = capsys.readouterr().out
    assert "process_on node=NODE command=PATTERN [count=NUMBER] [calls=NUMBER]" in shown
    assert "figures: seconds, status, node, named groups of output" in shown
