"""The processes of this machine, as /proc shows them: what the API does not tell (names, parents, states).

Source: proc(5), /proc/PID/stat and /proc/PID/cmdline.
"""

from __future__ import annotations

import os
from typing import NamedTuple

_PIECE = 4096  # of a command line; nobody reads more on a screen


class LocalProcess(NamedTuple):
    """A process of this machine.

    Attributes:
        pid: here.
        ppid: its parent's.
        uid: its owner.
        state: one letter, as ps has it.
        command: its command line, or its name in brackets.
    """

    pid: int
    ppid: int
    uid: int
    state: str
    command: str


def local_processes() -> list[LocalProcess]:
    """All that can be seen now, except kernel threads."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                process = _look(int(name))
            except (OSError, ValueError, IndexError):  # it has ended meanwhile
                continue
            if process is not None:
                found.append(process)
    return found


def _look(pid: int) -> LocalProcess | None:
    with open(f"/proc/{pid}/stat", "rb") as file:
        uid = os.fstat(file.fileno()).st_uid
        line = file.read()
    name = line[line.index(b"(") + 1 : line.rindex(b")")].decode(errors="replace")
    rest = line[line.rindex(b")") + 2 :].split()
    ppid = int(rest[1])
    if pid == 2 or ppid == 2:  # kthreadd and its children
        return None
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read(_PIECE)
    command = words.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    return LocalProcess(pid, ppid, uid, rest[0].decode(), printable(command) or f"[{printable(name)}]")


def printable(text: str) -> str:
    """The text without what would move the cursor."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "·" for c in text)
