"""The processes of this machine: what the API does not tell (names, parents, states), signals, priorities.

Source: proc(5), /proc/PID/stat and /proc/PID/cmdline.
"""

from __future__ import annotations

import os
import signal
from typing import NamedTuple, Protocol

from omtools.errors import NoSuchProcess, OmError
from omtools.i18n import _
from omtools.linux.proc import PF_KTHREAD
from omtui.actions import SignalName

_PIECE = 4096  # of a command line; nobody reads more on a screen
_SPARE = 1000  # processes that have ended are forgotten when there are so many
# proc(5): fields of /proc/PID/stat, counted from the state, which is the third
_PPID, _FLAGS, _STARTTIME, _STARTCODE = 1, 6, 19, 23


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


class Machine(Protocol):
    """Where processes live; `ThisMachine` is the real one."""

    def processes(self) -> list[LocalProcess]:
        """All that can be seen now."""

    def signal(self, pid: int, name: SignalName) -> None:
        """Send a signal.

        Raises:
            OmError: it cannot be sent.
        """

    def renice(self, pid: int, nice: int) -> None:
        """Set a nice value.

        Raises:
            OmError: it cannot be set.
        """


class ThisMachine:
    """The machine on which this program runs."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}

    def processes(self) -> list[LocalProcess]:
        """All that /proc shows, except kernel threads."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    process = _look(int(name), self._known)
                except (OSError, ValueError, IndexError):  # it has ended meanwhile
                    continue
                if process is not None:
                    found.append(process)
        if len(self._known) > 2 * len(found) + _SPARE:
            here = {process.pid for process in found}
            self._known = {pid: known for pid, known in self._known.items() if pid in here}
        return found

    def signal(self, pid: int, name: SignalName) -> None:
        """As kill(2). Raises OmError."""
        try:
            os.kill(pid, signal.Signals[f"SIG{name}"])
        except OSError as error:
            raise _refused(pid, error) from None

    def renice(self, pid: int, nice: int) -> None:
        """As setpriority(2). Raises OmError."""
        try:
            os.setpriority(os.PRIO_PROCESS, pid, nice)
        except OSError as error:
            raise _refused(pid, error) from None


def _refused(pid: int, error: OSError) -> OmError:
    if isinstance(error, ProcessLookupError):
        return NoSuchProcess(pid=pid)
    return OmError(detail=_("Process {pid}: {why}.").format(pid=pid, why=error.strerror or str(error)))


class _Known(NamedTuple):
    """A process that was seen before; what tells whether it is still the same program."""

    identity: tuple[bytes, bytes, bytes]
    command: str


def _look(pid: int, known: dict[int, _Known]) -> LocalProcess | None:
    with open(f"/proc/{pid}/stat", "rb") as file:
        uid = os.fstat(file.fileno()).st_uid
        line = file.read()
    name = line[line.index(b"(") + 1 : line.rindex(b")")]
    rest = line[line.rindex(b")") + 2 :].split()
    if int(rest[_FLAGS]) & PF_KTHREAD:
        return None
    identity = (rest[_STARTTIME], rest[_STARTCODE], name)
    seen = known.get(pid)
    if seen is None or seen.identity != identity:
        seen = known[pid] = _Known(identity, _command(pid, name))
    return LocalProcess(pid, int(rest[_PPID]), uid, rest[0].decode(), seen.command)


def _command(pid: int, name: bytes) -> str:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read(_PIECE)
    command = words.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    return printable(command) or f"[{printable(name.decode(errors='replace'))}]"


def printable(text: str) -> str:
    """The text without what would move the cursor."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "·" for c in text)
