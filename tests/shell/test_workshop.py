"""The workshop on a real lab: what it sees, how soon, and what it keeps."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from omtools.errors import MetalProgramMissing
from omtools.lab.lab import Lab
from omtools.shell import events
from omtools.shell.bench import Bench, LabBench
from omtools.shell.checks import evaluate
from omtools.shell.lesson import CheckSpec, LessonFile, Preparation, Script
from omtools.shell.node_shell import on_lab_node
from omtools.shell.parse import parse
from omtools.shell.progress import Store
from omtools.shell.screen import Screen
from omtools.shell.workshop import Workshop

from . import samples

PROGRAM = "import os\nwhile True:\n    for _ in range(200000): pass\n    os.kill(os.getppid(), 0)\n"


@pytest.fixture
def bench(lab: Lab) -> Iterator[LabBench]:
    made = LabBench(lab, threading.Event())
    yield made
    made.close()


def await_(bench: LabBench, name: str, **arguments: str) -> dict[str, str | float]:
    """Wait until a check is so, and return its figures."""
    found = None
    for _ in range(600):
        found = evaluate(CheckSpec(name, arguments), bench.observer.facts("mCii", reaches=name == "reaches"), {})
        if found.ok:
            return dict(found.figures)
        threading.Event().wait(0.05)
    raise AssertionError(found)


def test_the_journey_of_a_process_is_seen(lab: Lab, bench: LabBench) -> None:
    bench.prepare(Preparation((LessonFile("mCii", "~/prog.py", PROGRAM),), (Script("mCii", "mkdir -p sub; test -s prog.py"),)))
    shell = on_lab_node(lab, "mCii")
    try:
        shell.run("python3 prog.py > out.txt &", 30)
        pid = await_(bench, "process_on", node="mCii", command="prog.py")["pid"]
        bench.chronicle.add(shell.run("migrate $! metrakilate", 30))
        assert await_(bench, "process_on", node="metrakilate", command="prog.py", calls="1")["pid"] == pid
        moved = await_(bench, "moved", node="metrakilate", command="prog.py")
        assert float(moved["frozen_ms"]) > 0
        assert float(moved["mb"]) > 1
        assert await_(bench, "command_ran", command="^migrate", status="0", output=r"frozen (?P<ms>\d+)")["ms"]
        bench.chronicle.clear()
        assert not evaluate(CheckSpec("moved", {"command": "prog.py"}), bench.observer.facts(), {}).ok
        bench.chronicle.add(shell.run("migrate $! home", 30))
        assert float(await_(bench, "migrated_home", command="prog.py")["calls"]) > 0
        shell.run("migrate $! metrakilate; kill $!", 30)
        await_(bench, "ended_away", command="prog.py")
        await_(bench, "no_process", command="prog.py")
        await_(bench, "file_lines", node="mCii", path="~/prog.py", at_least="4")
    finally:
        shell.close()


def test_nodes_switches_and_cables(lab: Lab, bench: LabBench) -> None:
    shell = on_lab_node(lab, "metrakilate")
    try:
        await_(bench, "reaches", node="mCii", other="metrakilate")
        shell.run("mosctl block", 30)
        await_(bench, "switch_set", node="metrakilate", switch="block")
        shell.run("mosctl noblock", 30)
        await_(bench, "switch_set", node="metrakilate", switch="block", on="no")
        assert shell.run("cable show", 30).output == "The cable of metrakilate is plugged in.\n"
        assert shell.run("cable pull; cable show", 30).output.count("is pulled") == 2
        await_(bench, "reaches", node="mCii", other="metrakilate", reaches="no")
        shell.run("cable plug", 30)
        await_(bench, "reaches", node="mCii", other="metrakilate")
        assert shell.run("cable", 30).status == 2
    finally:
        shell.close()


class Desk:
    """Nobody sits there."""

    node = "mCii"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def bench(self, tell: threading.Event, *, metal: bool) -> Bench:
        if metal:
            raise MetalProgramMissing(what="qemu", purpose="it emulates them", package="qemu")
        return LabBench(self._lab, tell)

    def go(self, node: str) -> None:
        self.node = node

    def type(self, line: str) -> None:
        raise AssertionError(line)

    def confirm(self, question: str) -> bool:
        return bool(question)

    def rebuild_lab(self) -> None:
        raise AssertionError

    def leave(self) -> None:
        raise AssertionError


def test_a_solved_step_is_noticed_by_itself(lab: Lab, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lesson = samples.lesson("one", "two")
    store = Store("lab", tmp_path)
    workshop = Workshop([lesson], store, Desk(lab), Screen(colour=False))
    try:
        workshop.handle(events.Begin())
        (lab.node("mCii").files.home / "one").write_text("xxx")
        ready, _w, _x = select.select([workshop.hears], [], [], 30)
        assert ready
        workshop.heard()
        workshop.news()
    finally:
        workshop.close()
    assert store.read().of("sample", "one").figures == {"one.word": "xxx"}
    shown = capfd.readouterr().out
    assert "Goal: the goal of one." in shown
    assert "Found xxx." in shown


def test_a_failing_preparation_is_told(lab: Lab, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    broken = samples.text("one").replace("Goal:", "```setup mCii\necho no luck; false\n```\n\nGoal:")
    lesson = parse(Path("01-sample.md"), broken, "en")
    workshop = Workshop([lesson], Store("lab", tmp_path), Desk(lab), Screen(colour=False))
    try:
        workshop.handle(events.Begin())
    finally:
        workshop.close()
    assert "The step could not be prepared: There is no shell on mCii: no luck (1)" in capfd.readouterr().out


def test_without_an_emulator_a_lesson_about_machines_says_what_is_missing(
    lab: Lab, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = samples.text("one").replace("minutes", 'needs = "metal"\nminutes')
    workshop = Workshop([parse(Path("03-sample.md"), text, "en")], Store("lab", tmp_path), Desk(lab), Screen(colour=False))
    try:
        workshop.handle(events.Begin())
        assert not workshop.bench.metal
    finally:
        workshop.close()
    shown = " ".join(capfd.readouterr().out.split())
    assert "qemu" in shown
    assert "cannot be switched on or booted" in shown
