"""What an agent remembers over a restart: its switches, its decay, and the settings of processes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from omtools.agent import log
from omtools.cluster.process_settings import NO_SETTINGS, NodeDecay, ProcessSettings

_GENERATIONS = 1000  # more ancestors than that no process has


class Memory(msgspec.Struct):
    """The content of ``<run>/memo.json``.

    Attributes:
        switches: those that somebody has set.
        decay: of this node.
        processes: by pid: when that process began (pids are used again), and its own settings.
        guests: by migration: the settings that a guest has at its home.
        moves: by pid: when that process began, and how often it has moved on journeys that are over.
    """

    switches: dict[str, bool] = {}
    decay: NodeDecay = NodeDecay()
    processes: dict[str, tuple[int, ProcessSettings]] = {}
    guests: dict[str, ProcessSettings] = {}
    moves: dict[str, tuple[int, int]] = {}


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

    @property
    def decay(self) -> NodeDecay:
        """How fast this node forgets what processes did."""
        return self._memory.decay

    def set_decay(self, decay: NodeDecay) -> None:
        """Remember that."""
        self._memory.decay = decay
        self._keep()

    # -- processes of this node

    def set(self, pid: int, settings: ProcessSettings) -> None:
        """Remember those settings of a process that are made, and forget processes that are no more.

        Raises:
            FileNotFoundError: there is no such process.
        """
        begun = _begun(pid)
        if begun is None:
            raise FileNotFoundError(pid)
        known = {key: entry for key, entry in self._memory.processes.items() if _begun(int(key)) == entry[0]}
        older = known.get(str(pid), (0, NO_SETTINGS))[1]
        known[str(pid)] = (begun, settings.over(older))
        self._memory.processes = known
        self._keep()

    def lock(self, pid: int, locked: bool) -> None:
        """Remember that a process is locked, or is not; raises as `set`."""
        self.set(pid, ProcessSettings(locked))

    def settings(self, pid: int, seen: dict[int, ProcessSettings] | None = None) -> ProcessSettings:
        """The settings of a process: its own, completed by those of its nearest ancestors that have any.

        Args:
            pid: of a process of this node.
            seen: what was found in the same round, by pid; many processes share their ancestors.
        """
        if not self._memory.processes:
            return NO_SETTINGS
        seen = {} if seen is None else seen
        line: list[int] = []
        found = NO_SETTINGS
        for _step in range(_GENERATIONS):
            if pid in seen:
                found = seen[pid]
                break
            line.append(pid)
            parent = _parent(pid)
            if not parent:
                break
            pid = parent
        for one in reversed(line):
            found = self._own(one).over(found)
            seen[one] = found
        return found

    def locks(self) -> dict[int, bool]:
        """What was said of processes that still live: locked or not. What they start inherits it."""
        return {
            int(key): settings.locked
            for key, (begun, settings) in self._memory.processes.items()
            if settings.locked is not None and _begun(int(key)) == begun
        }

    def unlocked(self) -> list[int]:
        """The processes that somebody has unlocked, and that still live."""
        return [pid for pid, locked in self.locks().items() if not locked]

    def locked(self, pid: int) -> bool:
        """Whether that process is locked, itself or by its nearest ancestor of which anything was said."""
        return bool(self.settings(pid).locked)

    def _own(self, pid: int) -> ProcessSettings:
        entry = self._memory.processes.get(str(pid))
        return entry[1] if entry is not None and _begun(pid) == entry[0] else NO_SETTINGS

    def moves(self, pid: int) -> int:
        """How often that process has moved, the journey left out that it is on."""
        begun, count = self._memory.moves.get(str(pid), (0, 0))
        return count if count and _begun(pid) == begun else 0

    def add_moves(self, pid: int, count: int) -> None:
        """It has come home from a journey of so many moves; forget processes that are no more."""
        begun = _begun(pid)
        if begun is None or not count:
            return
        total = self.moves(pid) + count
        known = {key: entry for key, entry in self._memory.moves.items() if _begun(int(key)) == entry[0]}
        known[str(pid)] = (begun, total)
        self._memory.moves = known
        self._keep()

    # -- guests

    def guest(self, migration: str) -> ProcessSettings:
        """The settings that a guest has at its home."""
        return self._memory.guests.get(migration, NO_SETTINGS)

    def set_guest(self, migration: str, settings: ProcessSettings) -> None:
        """Remember them."""
        if self.guest(migration) != settings:
            self._memory.guests[migration] = settings
            self._keep()

    def forget_guest(self, migration: str) -> None:
        """It is not here any more."""
        if self._memory.guests.pop(migration, None) is not None:
            self._keep()

    def _keep(self) -> None:
        new = self._path.with_suffix(".new")
        try:
            new.write_bytes(msgspec.json.encode(self._memory))
            os.replace(new, self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
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
