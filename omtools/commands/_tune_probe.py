"""The process that `tune` moves: it holds memory, makes system calls, and says how long they took.

It is run as a program of its own, so that it is small: nothing but the interpreter and this file.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from omtools.errors import CannotMeasure
from omtools.i18n import _

_PATIENCE_CALLS = 2000


def _serve() -> None:
    """Obey: ``fill BYTES`` and ``calls N``, one answer for each line."""
    held = b""
    while line := os.read(0, 64):
        word, number = line.split()
        if word == b"fill":
            held = os.urandom(int(number))
            answer = len(held) * 1.0
        else:
            begun = time.monotonic()
            for _call in range(int(number)):
                os.get_blocking(0)  # fcntl(F_GETFL) on a pipe: done at home, by the deputy
            answer = (time.monotonic() - begun) / int(number)
        os.write(1, b"%.9f\n" % answer)


class Probe:
    """The asking side. Use it with ``with``."""

    def __init__(self) -> None:
        # -I -S: no site, no environment; it must not import this package to be small.
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Probe:
        """It runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, wherever it is."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._process.pid

    def fill(self, size: int) -> None:
        """Have it hold so many bytes that cannot be compressed."""
        self._ask(f"fill {size}")

    def call_seconds(self) -> float:
        """How long one forwarded system call takes where it is."""
        return self._ask(f"calls {_PATIENCE_CALLS}")

    def _ask(self, order: str) -> float:
        source, target = self._process.stdout, self._process.stdin
        assert source is not None
        assert target is not None
        try:
            os.write(target.fileno(), f"{order}\n".encode())
            answer = source.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            raise CannotMeasure(node="?", why=_("the process that was moved has ended"))
        return float(answer)


def _source() -> str:
    text = Path(__file__).read_text(encoding="utf-8")
    body = text[text.index("def _serve()") : text.index("\n\nclass Probe")]
    return f"import os, time\n{body}\n_serve()\n"


_PROGRAM = _source()
