"""While a line runs on a node: keys go there and output comes back, byte by byte, and the course goes on."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from typing import Any

from omtools.shell.facts import Ran
from omtools.shell.node_shell import NodeShell
from omtools.shell.screen import Screen

_PIECE = 4096
# News of the course waits so long for the end of the command, so that what that prints comes first; one that
# takes longer is not waited for.
_LAST_WORDS_S = 0.3


class HungUpError(Exception):
    """The learner's terminal is gone."""


@contextlib.contextmanager
def _raw_terminal(terminal: int | None) -> Iterator[None]:
    if terminal is None:
        yield
        return
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # it may be gone
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _sizes(shell: NodeShell, screen: Screen) -> Iterator[None]:
    """Tell the far end of every change of the window's size."""

    def changed(*_: Any) -> None:
        shell.resize(*screen.size)

    before = signal.signal(signal.SIGWINCH, changed)
    try:
        changed()
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def relay(shell: NodeShell, line: str, screen: Screen, wake: int, awake: Callable[[], None]) -> Ran:
    """Run a line on a node, joined to our terminal.

    Args:
        shell: the shell that runs it.
        line: the command line.
        screen: our terminal.
        wake: descriptor that becomes readable when the course has news; -1: there is no course.
        awake: called then.

    Raises:
        NodeShellError: the shell has ended.
        HungUpError: our terminal has.
    """
    terminal = sys.stdin.fileno() if sys.stdin.isatty() else None
    with _sizes(shell, screen), _raw_terminal(terminal), screen.raw():
        shell.begin(line)
        due: float | None = None
        while True:
            sources = [shell.fileno()] if wake < 0 or due is not None else [shell.fileno(), wake]
            if terminal is not None and not shell.waiting:
                sources.append(terminal)
            left = None if due is None else max(0.0, due - time.monotonic())
            ready, writable, _x = select.select(sources, [shell.fileno()] if shell.waiting else [], [], left)
            if writable:
                shell.flush()
            if shell.fileno() in ready:
                data, ran = shell.read()
                screen.pass_on(data)
                if ran is not None:
                    screen.fresh_line()
                    return ran
            if wake in ready:
                due = time.monotonic() + _LAST_WORDS_S
            if due is not None and time.monotonic() >= due:
                due = None
                awake()
            if terminal in ready:
                shell.type(_keys(terminal))


def _keys(terminal: int | None) -> bytes:
    assert terminal is not None
    try:
        typed = os.read(terminal, _PIECE)
    except OSError:
        typed = b""
    if not typed:
        raise HungUpError
    return typed
