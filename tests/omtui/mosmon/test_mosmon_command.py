"""mosmon as a program."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from terminals import Terminal, environment, program, simulated_agent

MOSMON = ["-m", "omtui.mosmon.main"]


def mosmon(run: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return program(MOSMON[1], run, *words, **more)


def test_one_picture_as_text(run: Path) -> None:
    with simulated_agent(run, "--nodes", "5"):
        done = mosmon(run, "--once", "-mt", "+2", COLUMNS="60", LINES="12")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.rstrip("\n").split("\n")
        assert lines[0] == "MEMORY (MB)"
        assert lines[1].startswith("5 of 5 nodes")
        assert len(lines) == 11
        plain = mosmon(run, "--once", LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
        assert plain.returncode == 0, plain.stderr
        assert "#" in plain.stdout
        assert mosmon(run).returncode == 61
        assert "--once" in mosmon(run).stderr


def test_without_an_agent_it_ends_with_a_sentence(run: Path) -> None:
    done = mosmon(run, "-t")
    assert done.returncode == 30
    assert "No omagentd answers" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_wrong_words(run: Path) -> None:
    for word in ("-h", "-H", "--help"):
        done = mosmon(run, word)
        assert done.returncode == 0
        assert "utilizability" in done.stdout
    assert mosmon(run, "--nonsense").returncode == 2


def test_wrong_keys_are_said(run: Path) -> None:
    (run / "omtui-keys.toml").write_text("x = [1]\n")
    with simulated_agent(run), Terminal(MOSMON, environment(run)) as terminal:
        assert terminal.end() == 60
        assert b"omtui-keys.toml" in terminal.written


@pytest.mark.parametrize("how", ["q", "ctrl-c", "SIGTERM"])
def test_it_leaves_the_terminal_as_it_was(run: Path, how: str) -> None:
    with simulated_agent(run), Terminal(MOSMON, environment(run)) as terminal:
        terminal.wait_for("LOAD")
        assert terminal.settings() != terminal.before
        if how == "SIGTERM":
            terminal.process.send_signal(signal.SIGTERM)
        else:
            terminal.press({"q": "q", "ctrl-c": "\x03"}[how])
        assert terminal.end() == (128 + signal.SIGTERM if how == "SIGTERM" else 0)
        assert b"\x1b[?1049l" in terminal.written  # xterm: back to the normal screen
        assert terminal.settings() == terminal.before
