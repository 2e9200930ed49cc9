"""News of the course while a command runs: after its last words, unless it takes its time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import cast

import pytest

from omtools.shell import relay as relaying
from omtools.shell.facts import Ran
from omtools.shell.node_shell import NodeShell
from omtools.shell.screen import Screen

DONE = Ran("mCii", "true", 0, 0.0, "")


class Shell:
    """A command that ends when its pipe is written to; when it begins, the course has news."""

    waiting = False

    def __init__(self) -> None:
        self.hears, self.says = os.pipe()
        self.wake, self.tells = os.pipe()

    def fileno(self) -> int:
        return self.hears

    def begin(self, line: str) -> None:
        os.write(self.tells, line.encode())

    def resize(self, rows: int, columns: int) -> None:
        assert rows
        assert columns

    def read(self) -> tuple[bytes, Ran | None]:
        return os.read(self.hears, 100), DONE

    def end(self) -> None:
        os.write(self.says, b"last words\n")

    def close(self) -> None:
        for descriptor in (self.hears, self.says, self.wake, self.tells):
            os.close(descriptor)


@pytest.fixture
def shell() -> Iterator[Shell]:
    made = Shell()
    yield made
    made.close()


def run(shell: Shell, awake: list[str], *, then: bool) -> Ran:
    def news() -> None:
        os.read(shell.wake, 100)
        awake.append("news")
        if then:
            shell.end()

    return relaying.relay(cast("NodeShell", shell), "true", Screen(), shell.wake, news)


def test_a_short_command_speaks_first(shell: Shell, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(relaying, "_LAST_WORDS_S", 3600.0)
    told: list[str] = []
    ending = threading.Timer(0.05, shell.end)
    ending.start()
    assert run(shell, told, then=False) is DONE
    ending.join()
    assert told == []  # whoever called tells it now
    assert "last words" in capfd.readouterr().out


def test_a_long_command_is_not_waited_for(shell: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    assert run(shell, told, then=True) is DONE
    assert told == ["news"]
    assert "last words" in capfd.readouterr().out
