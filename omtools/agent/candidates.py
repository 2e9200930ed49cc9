"""Which processes of this node may move by themselves, and what they do: looked at once a second."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from omtools.agent.keepers import Keeper
from omtools.agent.memo import Memo
from omtools.cluster.constraints import Process
from omtools.cluster.decay import Sample, Statistics
from omtools.cluster.load import SETTLED_S, STANDARD_SPEED
from omtools.cluster.process_settings import ProcessSettings
from omtools.linux import proc
from omtools.migration.counts import since
from omtools.omfs.orders import Use

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LONG = 0.5  # seconds in which the kernel's ticks say enough
_YOUNG = 10.0  # what it did in all its life is what it does
_LEAST_IO = 64 * 1024.0  # bytes per second: less says nothing of where a process belongs
_CANNOT_S = 30.0  # before a process that could not move is tried again


@dataclass(slots=True)
class _Stat:
    """What /proc/PID/stat says; proc_pid_stat(5)."""

    state: str
    cpu_s: float
    begun: int
    resident: int


@dataclass(slots=True)
class _Known:
    """A process that was seen before."""

    stat: _Stat
    seen: float
    here_since: float
    statistics: Statistics = field(default_factory=Statistics)
    calls: int = 0
    io: dict[int, int] = field(default_factory=dict)
    moves: int = 0
    cannot: str = ""
    cannot_until: float = 0.0
    since: float = 0.0


class Candidates:
    """The processes that the balancer may move.

    By default those whose nearest marked ancestor (or themselves) was unlocked: what runs under mosrun, omsh
    or a login shell of the cluster. With `everything`, also what nobody has marked.

    Attributes:
        gone: how many that ran here for some time have ended or left before the last look.
        share: of a processor that this node has in each of its own (`Gauge.share`): what a process gets of
            it is all that there is.
    """

    def __init__(self, memo: Memo, everything: bool, node: int) -> None:
        self._memo = memo
        self._everything = everything
        self._node = node
        self.share = 1.0
        self.gone = 0
        self._known: dict[tuple[int, int], _Known] = {}  # by local pid and start time
        self._running: set[tuple[int, int]] = set()
        self._settings: dict[int, ProcessSettings] = {}  # of this round, by pid
        self._uses: dict[int, list[Use]] = {}  # of this round

    def look(
        self,
        now: float,
        keepers: Iterable[Keeper],
        speed: int,
        moving: frozenset[int],
        uses: Iterable[Use] = (),
    ) -> list[Process]:
        """All of them, with their figures.

        Args:
            now: of the monotonic clock.
            keepers: all of this node's.
            speed: of this node's processors.
            moving: local pids that are on their way.
            uses: what processes have done with files by way of this node's mount.
        """
        self._uses = {}
        for use in uses:
            self._uses.setdefault(use.pid, []).append(use)
        halves = {keeper.state.local_pid: keeper for keeper in keepers if not keeper.final}
        own = {os.getpid(), *(keeper.state.keeper for keeper in halves.values())}
        seen: dict[tuple[int, int], _Known] = {}
        self._settings = {}
        found = []
        for pid in (*self._local(own), *(pid for pid, keeper in halves.items() if _is_guest(keeper))):
            keeper = halves.get(pid)
            if keeper is not None and not _is_guest(keeper):
                continue  # a deputy: it runs elsewhere
            stat = _stat(pid)
            if stat is None or stat.state in "ZX":
                continue
            settings = self._settings_of(pid, keeper)
            known = self._follow(pid, stat, now, keeper)
            forgetting, hint = settings.forgetting(self._memo.decay), settings.owners_hint
            known.statistics = replace(known.statistics, decay=forgetting, hint=hint)
            seen[pid, stat.begun] = known
            found.append(self._process(pid, known, keeper, (now, speed, pid in moving, settings)))
        ran = (self._known[key] for key in self._running - seen.keys())
        self.gone = sum(now - known.since >= SETTLED_S for known in ran)
        self._running = {key for key, known in seen.items() if known.stat.state == "R"}
        away = {pid for pid, keeper in halves.items() if not _is_guest(keeper)}
        seen |= {key: known for key, known in self._known.items() if key[0] in away}
        self._known = seen
        return found

    def one(self, pid: int, now: float, keeper: Keeper | None, speed: int) -> Process | None:
        """A single process, candidate or not, with what is known of it; None if it is not there.

        Args:
            pid: of a process that runs here.
            now: of the monotonic clock.
            keeper: its keeper, if it is a guest.
            speed: of this node's processors.
        """
        stat = _stat(pid)
        if stat is None or stat.state in "ZX":
            return None
        settings = self._memo.guest(keeper.state.migration) if keeper else self._memo.settings(pid)
        known = self._known.get((pid, stat.begun))
        if known is None:  # what it did in all its life, for want of anything better
            lived = Sample(_uptime() - stat.begun / _TICK, stat.cpu_s)
            known = _Known(stat, now, now, Statistics(hint=settings.owners_hint).after(lived))
        return self._process(pid, known, keeper, (now, speed, False, settings))

    def moved(self, pid: int) -> None:
        """The balancer has moved it."""
        for known in self._of(pid):
            known.moves += 1
            known.here_since = 0.0

    def stays(self, pid: int, why: str, now: float) -> None:
        """It cannot move."""
        for known in self._of(pid):
            known.cannot, known.cannot_until = why, now + _CANNOT_S

    def clear(self, pid: int) -> None:
        """Forget what it did so far."""
        for known in self._of(pid):
            known.statistics = known.statistics.cleared()

    def _of(self, pid: int) -> list[_Known]:
        return [known for key, known in self._known.items() if key[0] == pid]

    def _local(self, own: set[int]) -> Iterator[int]:
        pids = _all_of_this_user() if self._everything else _families(self._memo.unlocked())
        for pid in pids:
            if pid not in own and (self._everything or not self._settings_of(pid, None).locked):
                yield pid

    def _settings_of(self, pid: int, keeper: Keeper | None) -> ProcessSettings:
        if keeper is not None:
            return self._memo.guest(keeper.state.migration)
        return self._memo.settings(pid, self._settings)

    def _follow(self, pid: int, stat: _Stat, now: float, keeper: Keeper | None) -> _Known:
        calls = keeper.state.statistics.calls_forwarded if keeper is not None else 0
        known = self._known.get((pid, stat.begun))
        io, new = self._io(pid, keeper, known)
        if known is None:
            return _Known(stat, now, now, calls=calls, io=io, since=now)
        seconds = now - known.seen
        if known.here_since == 0.0 or seconds > _CANNOT_S:  # it was away
            known.here_since = known.since = now
        sample = Sample(seconds, stat.cpu_s - known.stat.cpu_s, calls - known.calls, new)
        known.statistics = known.statistics.after(sample)
        known.stat, known.seen, known.calls, known.io = stat, now, calls, io
        return known

    def _io(
        self, pid: int, keeper: Keeper | None, known: _Known | None
    ) -> tuple[dict[int, int], dict[int, float]]:
        """Bytes by the node whose files they are: so far, and since it was looked at last.

        A guest's keeper tells. Of a process at home the mount tells what is other nodes'; all else that it
        reads and writes, pipes and terminals too, is this node's, and would be done here if it were away.
        """
        before = known.io if known is not None else {}
        if keeper is not None:
            now, new = since(before, keeper.state.files)
            return now, dict(new)
        uses = [use for use in self._uses.get(pid, ()) if use.node != self._node]
        others = {use.node: use.read + use.written for use in uses}
        try:
            all_of_it = proc.io(pid)
        except (OSError, ValueError):
            return before, {}
        now = {**others, self._node: all_of_it.read + all_of_it.written - sum(others.values())}
        return now, {node: float(max(0, amount - before.get(node, 0))) for node, amount in now.items()}

    def _process(
        self, pid: int, known: _Known, keeper: Keeper | None, about: tuple[float, int, bool, ProcessSettings]
    ) -> Process:
        now, speed, moving, settings = about
        stat, state = known.stat, keeper.state if keeper is not None else None
        age = _uptime() - stat.begun / _TICK
        return Process(
            pid=pid,
            home=state.home if state is not None else self._node,
            uid=state.uid if state is not None else _owner(pid),
            cpu=_processors(known, age, self.share),
            used_s=stat.cpu_s * speed / self.share / STANDARD_SPEED,
            age_s=age,
            here_s=now - known.here_since if known.here_since else 0.0,
            moves=known.moves + (state.statistics.moves if state is not None else 0),
            resident=stat.resident,
            calls=known.statistics.calls_per_s,
            io={node: rate for node, rate in known.statistics.io_per_s.items() if rate >= _LEAST_IO},
            hint=settings.owners_hint,
            locked=bool(settings.locked),
            cannot=known.cannot if now < known.cannot_until else "",
            moving=moving or (state is not None and state.phase != "away"),
            mask=settings.mask,
        )


def _processors(known: _Known, age: float, share: float) -> float:
    """What it gets: lately, or, if it was not watched for long, in all its life."""
    seen = known.statistics
    if seen.seconds < _LONG and 0 < age < _YOUNG:
        return known.stat.cpu_s / age / share
    return seen.cpu / share if seen.seconds else 1.0


def _is_guest(keeper: Keeper) -> bool:
    return keeper.state.role == "guest" and keeper.state.phase in ("away", "coming")


def _stat(pid: int) -> _Stat | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        # from the state on, which proc_pid_stat(5) counts as the third
        cpu = (int(fields[11]) + int(fields[12])) / _TICK
        return _Stat(fields[0].decode(), cpu, int(fields[19]), int(fields[21]) * _PAGE)
    except (OSError, IndexError, ValueError):
        return None


def _owner(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return 0


def _uptime() -> float:
    with open("/proc/uptime", encoding="ascii") as file:
        return float(file.read().split()[0])


def _families(roots: Iterable[int]) -> list[int]:
    """These processes and all that descend from them."""
    found: dict[int, None] = {}
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid in found:
            continue
        try:
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                todo += map(int, file.read().split())
        except (OSError, ValueError):
            continue
        found[pid] = None
    return list(found)


def _all_of_this_user() -> list[int]:
    """Every process of the user whose agent this is; root's takes care of all people's, not of the system."""
    uid = os.geteuid()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            owner = _owner(int(name))
            if owner == uid if uid else owner >= 1000:
                found.append(int(name))
    return found
