from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from omtools.cluster.simulator.scenario import Jobs, Spread, draw, load, names, parse, resized
from omtools.errors import BadScenario, NoSuchScenario

NODES = "[[nodes]]\ncount = 3\n"


def test_the_docstring_s_example() -> None:
    text = 'title = "Forty forks"\n[[nodes]]\ncount = 8\nspeed = 10000\n[[jobs]]\ncount = 1\nforks = 40\ncpu_s = 30\n'
    scenario = parse(text, "x")
    assert scenario.jobs[0].total == 41
    assert Jobs(2, forks=3, depth=2).total == 2 * (1 + 3 + 9)


@pytest.mark.parametrize(("text", "why"), [
    ("", "nodes"),
    ("nodes = 5", "nodes"),
    ("x = = 5", "line 1"),
    (NODES + "sped = 5\n", "sped"),
    (NODES + "cpus = 0\n", "at least 1"),
    (NODES + "speed = [1, 2, 3]\n", "speed"),
    (NODES + "later = true\n", "no node is there"),
    ("[[nodes]]\ncount = 20000\n[[nodes]]\ncount = 1\n", "too many"),
    (NODES + "[[jobs]]\nforks = 1000\ndepth = 3\n", "too many"),
    (NODES + "[[jobs]]\non = [4]\n", "node 4"),
    (NODES + "[[jobs]]\nfiles_on = 9\n", "node 9"),
    (NODES + "[[jobs]]\ncpu_s = 0\n", "cpu_s"),
    (NODES + "[[jobs]]\nat = [-1, 5]\n", "not below 0"),
    (NODES + '[[jobs]]\ncpu_s = { mean = 5, spread = "odd" }\n', "spread"),
    (NODES + '[[events]]\nat = 5\nwhat = "explode"\n', "explode"),
    (NODES + '[[events]]\nat = 5\nwhat = "die"\nnodes = [7]\n', "node 7"),
])  # fmt: skip
def test_mistakes_are_named(text: str, why: str) -> None:
    with pytest.raises(BadScenario) as caught:
        parse(text, "mine.toml")
    sentence = str(caught.value)
    assert why in sentence
    assert "mine.toml" in sentence
    assert "\n" not in sentence


def test_files_and_names(tmp_path: Path) -> None:
    assert "random" in names()
    good, odd = tmp_path / "a.toml", tmp_path / "b.toml"
    good.write_text(NODES)
    odd.write_bytes(b"\xff\xfe\x00")
    assert load(str(good)).nodes[0].count == 3
    with pytest.raises(BadScenario):
        load(str(odd))
    with pytest.raises(BadScenario):
        load(str(tmp_path))
    with pytest.raises(NoSuchScenario, match="random"):
        load("no such thing")


def test_figures() -> None:
    random = Random(1)
    assert draw(5, random) == 5.0
    assert all(2 <= draw([2, 3], random) <= 3 for _try in range(100))
    for spread in ("fixed", "uniform", "exponential", "pareto"):
        values = [draw(Spread(10, spread, 1000), random) for _try in range(4000)]
        assert sum(values) / len(values) == pytest.approx(10, rel=0.2)
        assert max(values) <= 1000


def test_other_sizes_keep_the_proportions() -> None:
    scenario = resized(load("random"), 10, 77)
    assert [group.count for group in scenario.nodes] == [6, 4]
    assert sum(group.count for group in scenario.jobs) == 77
    assert resized(load("random"), None, None) == load("random")
    with pytest.raises(BadScenario):
        resized(load("random"), 30000, None)
    with pytest.raises(BadScenario):
        resized(load("files"), None, 5_000_000)
