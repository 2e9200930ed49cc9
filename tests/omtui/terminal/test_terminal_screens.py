"""Real programs on real terminals inside of the application, and what is beside them."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pilots import application, piloted, screen_text, until

from omtools.errors import LabNotUp
from omtools.lab.metal import plan
from omtools.lab.metal.lab import MetalLab
from omtools.shell import library
from omtools.shell.markdown import Style
from omtools.shell.progress import Progress, StepRecord, Store
from omtui.simulated import SimulatedAgent
from omtui.terminal.lesson_pane import lesson_text
from omtui.terminal.lines import Program
from omtui.terminal.screens import TerminalScreen
from omtui.terminal.view import TerminalView
from omtui.terminal.workshop import WorkshopScreen

SHELL = ["sh", "-c", "stty size; tty; while read line; do echo \"<$line>\"; stty size; done"]


async def shown(pilot: Any, app: Any, words: str) -> None:
    await until(pilot, lambda: words in screen_text(app))


async def test_a_program_has_a_terminal_and_all_keys_but_one(agent: SimulatedAgent) -> None:
    app = application(agent)
    async with piloted(app, (80, 24)) as pilot:
        app.push_screen(TerminalScreen("a shell", Program(SHELL), "It has ended."), lambda said: app.say("sh", said or ""))
        await shown(pilot, app, "23 80")
        await shown(pilot, app, "/dev/pts/")
        await pilot.press(*"q/:?1", "enter")
        await shown(pilot, app, "<q/:?1>")
        await pilot.resize_terminal(60, 20)
        await pilot.press("x", "enter")
        await shown(pilot, app, "19 60")
        assert "a shell   Ctrl-] goes back" in screen_text(app)
        await pilot.press("ctrl+c")
        await until(pilot, lambda: app.said.sentence == "It has ended.")
        assert app.page is not None
        assert app.screen is app.page
        await pilot.press("2")
        assert app.current_mode == "processes"


async def test_who_leaves_hangs_up(agent: SimulatedAgent, tmp_path: Path) -> None:
    left = tmp_path / "left"
    stubborn = Program(["sh", "-c", f"trap 'echo HUP > {left}; exit' HUP; echo ready; while :; do sleep 0.05; done"])
    app = application(agent)
    async with piloted(app) as pilot:
        app.push_screen(TerminalScreen("a shell", stubborn, ""))
        await shown(pilot, app, "ready")
        await pilot.press("ctrl+right_square_bracket")
        await until(pilot, lambda: app.screen is app.page)
        await until(pilot, left.exists)


async def test_one_that_does_not_listen_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omtui.terminal.lines._PATIENCE", 0.2)
    heard, ready = bytearray(), asyncio.Event()
    line = Program([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGHUP, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"])  # fmt: skip

    def hear(data: bytes) -> None:
        heard.extend(data)
        if b"ready" in heard:
            ready.set()

    line.open((80, 24), hear, lambda: None)
    await asyncio.wait_for(ready.wait(), 60)
    await line.close()
    line.write(b"nobody reads this")


async def test_what_is_typed_without_end_is_not_kept_without_end() -> None:
    line = Program(["sleep", "600"])
    line.open((80, 24), lambda _data: None, lambda: None)
    for _round in range(400):
        line.write(b"x" * 4096)
    assert len(line._pending) < 1 << 17
    await line.close()


class Supervisor(threading.Thread):
    """Speaks as the supervisor of a lab does: after `console` a connection carries what is drawn and typed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self.typed = b""

    def run(self) -> None:
        while True:
            connection, _address = self._listener.accept()
            with connection:
                asked = json.loads(connection.makefile("rb", buffering=0).readline() or b"{}")
                if asked.get("do") == "status":
                    connection.sendall(json.dumps({"nodes": [{"name": "mCii", "number": 1}]}).encode() + b"\n")
                elif asked.get("do") == "console":
                    connection.sendall(b'{}\n' + b"mCii login: ")
                    while data := connection.recv(100):
                        self.typed += data
                        connection.sendall(data)
                        if b"\x04" in data:
                            break
                else:
                    return

    def stop(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(path))
            last.sendall(b"{}\n")
            self.join()
        self._listener.close()


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    path = tmp_path / "control"
    found = Supervisor(path)
    found.start()
    monkeypatch.setattr(plan, "control", lambda _directory: path)
    monkeypatch.setattr(MetalLab, "find", classmethod(lambda cls: cls(tmp_path, None)))
    yield found
    found.stop(path)


@pytest.mark.parametrize("read_only", [False, True])
async def test_the_console_of_a_machine(agent: SimulatedAgent, supervisor: Supervisor, read_only: bool) -> None:
    app = application(agent, read_only=read_only)
    async with piloted(app, (80, 24)) as pilot:
        app.obey("console mCii")
        await shown(pilot, app, "mCii login:")
        await pilot.press(*"root", "enter")
        if read_only:
            assert "READ-ONLY" in screen_text(app)
            await pilot.press("ctrl+right_square_bracket")
            await until(pilot, lambda: app.screen is app.page)
            assert supervisor.typed == b""
        else:
            await shown(pilot, app, "mCii login: root")
            await pilot.press("ctrl+d")
            await until(pilot, lambda: app.said.sentence == "The console of mCii has ended.")
            assert supervisor.typed == b"root\r\x04"


async def test_without_machines_it_is_a_sentence(agent: SimulatedAgent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("OMLAB_NAME", "none-is-up")
    app = application(agent)
    async with piloted(app) as pilot:
        app.obey("console")
        await until(pilot, lambda: app.said.bad)
        assert app.said.sentence == str(LabNotUp())
        assert app.said.command == "omlab console"
        app.obey("console a b")
        assert "console NODE" in app.said.sentence


async def test_who_may_only_look_has_no_shell(agent: SimulatedAgent) -> None:
    app = application(agent, read_only=True)
    async with piloted(app) as pilot:
        app.obey("workshop")
        await until(pilot, lambda: "`omsh` was not done" in app.said.sentence)
        assert not isinstance(app.screen, TerminalScreen)


async def test_the_lesson_follows_what_is_solved(agent: SimulatedAgent, tmp_path: Path) -> None:
    lessons = library.load("en")
    lesson = lessons[0]
    first, second = lesson.steps[:2]
    store = Store("lab", tmp_path)
    app = application(agent)
    async with piloted(app, (120, 40)) as pilot:
        screen = WorkshopScreen(Program(["cat"]), store, lessons)
        app.push_screen(screen)
        await shown(pilot, app, lesson.title)
        await pilot.press(*"hello", "enter")
        await shown(pilot, app, "hello")
        done = Progress(lesson=lesson.id, step=second.id, records={lesson.id: {first.id: StepRecord(solved="now")}})
        store.path.write_bytes(json.dumps({"lesson": done.lesson, "step": done.step, "records": {lesson.id: {first.id: {"solved": "now"}}}}).encode())
        await shown(pilot, app, f"✓ 1 {first.title[:20]}")
        await shown(pilot, app, f"▸ 2 {second.title[:20]}")
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: screen.query_one(TerminalView).size.width == 80)
        await pilot.press("ctrl+right_square_bracket")
        await until(pilot, lambda: app.screen is app.page)


def test_the_text_of_a_lesson_in_any_width() -> None:
    lessons = library.load("es")
    for width in (20, 50):
        text = lesson_text(lessons, Progress(), Style(width))
        assert lessons[0].title in text
        assert lessons[0].steps[0].title in text
    assert lesson_text([], Progress(), Style(40))


async def test_omsh_on_its_terminal_says_why_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real program: here with a name that no lab can have, so that none is started."""
    from omtui.terminal.workshop import omsh

    monkeypatch.setenv("OMLAB_NAME", "not a name!")
    heard, over = bytearray(), asyncio.Event()
    line = omsh()
    line.open((80, 24), heard.extend, over.set)
    await asyncio.wait_for(over.wait(), 60)
    await line.close()
    assert b"OMLAB_NAME" in heard
    assert b"Traceback" not in heard
