from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from omtools.cluster.simulator.plot import line, sampled
from omtools.commands import omsim

SMALL = ["forks", "--nodes", "4", "--jobs", "1"]


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert omsim.main(SMALL) == 0
    out = capsys.readouterr().out
    assert "Fork and forget" in out
    assert "4 nodes, 40 jobs" in out
    assert "with balancing" in out
    assert "without" in out
    assert "█" in out
    assert "\x1b" not in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert omsim.main([*SMALL, "--json", "--seed", "3"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["nodes"], told["jobs"], told["seed"]) == (4, 40, 3)
    balanced, still = told["results"]
    assert balanced["balanced"] is True
    assert balanced["makespan_s"] < still["makespan_s"] / 3
    assert still["migrations"] == 0
    assert len(balanced["seconds"][0]) == 6


@pytest.mark.parametrize(("option", "balanced"), [("--no-balance", False), ("--only-balance", True)])
def test_only_one_of_both(option: str, balanced: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert omsim.main([*SMALL, "--json", option]) == 0
    [result] = json.loads(capsys.readouterr().out)["results"]
    assert result["balanced"] is balanced


def test_charts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "chart.svg"
    assert omsim.main([*SMALL, "--svg", str(path)]) == 0
    assert capsys.readouterr().err == ""
    root = ET.fromstring(path.read_text())
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 6
    words = [text.text for text in root.findall("{http://www.w3.org/2000/svg}text")]
    assert "Fork and forget" in words


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert omsim.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {one.split()[0] for one in lines} >= {"random", "thousand", "forks", "memory", "failures", "files"}


@pytest.mark.parametrize(("arguments", "status", "words"), [
    (["nonsense"], 59, "nonsense"),
    (["--nodes", "0"], 2, "“0”"),
    (["--nodes", "x"], 2, "“x”"),
    (["--nodes", "99999"], 58, "too many"),
    (["--no-balance", "--only-balance"], 2, "nothing to simulate"),
    (["--seed", "x"], 2, "--seed"),
    ([*SMALL, "--svg", "/nowhere/at/all.svg"], 2, "/nowhere/at/all.svg"),
])  # fmt: skip
def test_mistakes(arguments: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert omsim.main(arguments) == status
    told = capsys.readouterr()
    assert words in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


def test_a_file_of_one_s_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('title = "Mine [1]"\n[[nodes]]\ncount = 2\n[[jobs]]\ncount = 4\ncpu_s = 5\n')
    assert omsim.main([str(mine)]) == 0
    assert "Mine [1]" in capsys.readouterr().out
    mine.write_text("[[nodes]]\nspeed = 'fast'\n")
    assert omsim.main([str(mine)]) == 58
    assert "mine.toml" in capsys.readouterr().err


def test_lines() -> None:
    assert line([0, 0.5, 1]) == " ▄█"
    assert line([2, -1]) == "█ "
    assert line([1, 1], most=0) == "  "
    assert len(line([0.5] * 1000, 60)) == 60
    assert sampled([1, 3, 5, 7], 2) == [2, 6]
