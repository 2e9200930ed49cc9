"""What an agent remembers over a restart: its switches, and which processes are locked."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from omtools.agent import log


class Memory(msgspec.Struct):
    """The content of ``<run>/memo.json``.

    Attributes:
        switches: those that somebody has set.
        locks: by pid: whether it is locked, and when that process began (pids are used again).
    """

    switches: dict[str, bool] = {}
    locks: dict[str, tuple[bool, int]] = {}


class Memo:
    """The memory of one run directory."""

    def __init__(self, run: Path) -> None:
        self._path = run / "memo.json"
        try:
            self._memory = msgspec.json.decode(self._path.read_bytes(), type=Memory)
        except FileNotFoundError:
            self._memory = Memory()
        except (OSError, msgspec.MsgspecError) as error:
            log.warn("what the agent remembered cannot be read", file=self._path, why=error)
            self._memory = Memory()

    def switch(self, name: str, configured: bool) -> bool:
        """How a switch stands: as somebody has set it, else as the configuration says."""
        return self._memory.switches.get(name, configured)

    def set_switch(self, name: str, on: bool) -> None:
        """Remember how a switch was set."""
        self._memory.switches[name] = on
        self._keep()

    def lock(self, pid: int, locked: bool) -> None:
        """Remember that of a process, and forget those that are no more.

        Raises:
            FileNotFoundError: there is no such process.
        """
        begun = _begun(pid)
        if begun is None:
            raise FileNotFoundError(pid)
        self._memory.locks = {
            key: value for key, value in self._memory.locks.items() if _begun(int(key)) == value[1]
        }
        self._memory.locks[str(pid)] = (locked, begun)
        self._keep()

    def unlocked(self) -> list[int]:
        """The processes that somebody has unlocked, and that still live."""
        return [
            int(key)
            for key, (locked, begun) in self._memory.locks.items()
            if not locked and _begun(int(key)) == begun
        ]

    def locked(self, pid: int) -> bool:
        """Whether that process is locked: by its own entry, or its nearest ancestor's that has one."""
        for _step in range(1000 if self._memory.locks else 0):
            entry = self._memory.locks.get(str(pid))
            if entry is not None and _begun(pid) == entry[1]:
                return entry[0]
            if (parent := _parent(pid)) in (None, 0):
                break
            pid = parent or 0
        return False

    def _keep(self) -> None:
        new = self._path.with_suffix(".new")
        try:
            new.write_bytes(msgspec.json.encode(self._memory))
            os.replace(new, self._path)
        except OSError as error:
            log.warn("what the agent should remember cannot be written", file=self._path, why=error)


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the state on (proc_pid_stat(5) counts it as the third)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _begun(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[19]) if len(fields) > 19 else None


def _parent(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[1]) if len(fields) > 1 else None
