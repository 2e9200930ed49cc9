"""omtui as a program."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from recordings import recorded
from terminals import Terminal, environment, program, simulated_agent

OMTUI = ["-m", "omtui.main"]


def omtui(run: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return program(OMTUI[1], run, *words, **more)


def test_what_needs_no_terminal(run: Path) -> None:
    assert "processes.migrate" in omtui(run, "--list-keys").stdout
    assert omtui(run, "--page", "nonsense").returncode == 2
    lost = omtui(run)
    assert (lost.returncode, lost.stdout) == (30, "")
    assert "No omagentd answers" in lost.stderr
    assert "Ningún omagentd" in omtui(run, LANGUAGE="es").stderr
    with simulated_agent(run, "--nodes", "3"):
        text = omtui(run, "--once").stdout
        assert "3 of 3 nodes up" in text
        assert "2 metrakilate: UP, load" in text
        none = omtui(run)
        assert none.returncode == 61
        assert "omtui --once" in none.stderr


@pytest.mark.parametrize("how", ["q", "ctrl-c", "SIGTERM"])
def test_it_leaves_the_terminal_as_it_was(run: Path, how: str) -> None:
    with Terminal([*OMTUI, "--demo", "--page", "migmon"], environment(run)) as terminal:
        terminal.wait_for("metrakilate")
        if how == "SIGTERM":
            terminal.process.send_signal(signal.SIGTERM)
        else:
            terminal.press({"q": "q", "ctrl-c": "\x03"}[how])
        assert terminal.end() == (128 + signal.SIGTERM if how == "SIGTERM" else 0)
        assert b"\x1b[?1049l" in terminal.written  # xterm: back to the normal screen
        assert b"Traceback" not in terminal.written
        assert terminal.settings() == terminal.before


def test_a_recording_needs_no_agent(run: Path) -> None:
    recorded(run / "r", 30)
    with Terminal([*OMTUI, "--recording", str(run / "r"), "--node", "1"], environment(run), 120) as terminal:
        terminal.wait_for("calakmul")
        terminal.wait_for("the present")
        terminal.press("q")
        assert terminal.end() == 0
        assert b"Traceback" not in terminal.written
    missing = omtui(run, "--recording", str(run / "none"))
    assert (missing.returncode, missing.stderr.count("\n")) == (120, 1)
    (run / "text").write_text("no recording" * 100)
    assert omtui(run, "--recording", str(run / "text")).returncode == 121


def test_a_demonstration_has_a_past(run: Path) -> None:
    with Terminal([*OMTUI, "--demo"], environment(run), 120) as terminal:
        terminal.wait_for("metrakilate")
        terminal.press("{")
        terminal.wait_for("PAST")
        terminal.press("q")
        assert terminal.end() == 0
    assert not list(run.iterdir())


def test_own_keys_that_mean_nothing(run: Path) -> None:
    (run / "omtui-keys.toml").write_text('"processes.fly" = "m"\n')
    with Terminal([*OMTUI, "--demo"], environment(run)) as terminal:
        assert terminal.end() == 60
        assert "“processes.fly”".encode() in terminal.written


def test_without_colours_none_are_written(run: Path) -> None:
    with Terminal([*OMTUI, "--demo"], {**environment(run), "NO_COLOR": "1"}) as terminal:
        terminal.wait_for("metrakilate")
        terminal.press("q")
        assert terminal.end() == 0
        colours = [part.split(b"m")[0] for part in terminal.written.split(b"\x1b[38;2;")[1:]]
        assert all(len(set(colour.split(b";"))) == 1 for colour in colours)  # grey at most
