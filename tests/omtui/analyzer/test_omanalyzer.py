"""omanalyzer as a program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from recordings import recorded
from terminals import program


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    recorded(directory / "recording.sqlite", 120, nodes=3)
    return directory


def omanalyzer(run: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return program("omtui.analyzer.main", run, *words, **more)


def test_as_text_and_as_files(run: Path, tmp_path: Path) -> None:
    text = omanalyzer(run, COLUMNS="60").stdout
    assert "1 mCii: load" in text
    assert "3 ixchel: load" in text
    assert max(map(len, text.splitlines())) <= 60
    assert "█" in omanalyzer(run, "--what", "memory", "--node", "metrakilate", "--since", "2m").stdout
    assert "carga" in omanalyzer(run, "--since", "the middle", LANGUAGE="es").stdout
    assert omanalyzer(run, "--days", "2", "-o", str(tmp_path / "p.svg")).returncode == 0
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
    assert "Nothing was recorded" in omanalyzer(run, "--until", "1999-01-01 10:00").stdout


def test_what_cannot_be(run: Path, tmp_path: Path) -> None:
    for words, status in (
        (["--node", "nobody"], 2),
        (["--since", "soon"], 2),
        (["--since", "+1m"], 2),
        (["--hours", "1", "--days", "1"], 2),
        (["-o", "plot.gif"], 2),
        (["--file", str(tmp_path / "none")], 120),
        (["--file", __file__], 121),
    ):
        done = omanalyzer(run, *words)
        assert (done.returncode, done.stderr.count("\n"), done.stdout) == (status, 1, ""), words
