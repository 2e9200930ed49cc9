"""How this node does: its load once a second, the rest when somebody asks."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Container
from pathlib import Path

from omtools.agent import log
from omtools.cluster.load import (
    Loads,
    Memory,
    memory_of_meminfo,
    normalised,
    runnable_of_loadavg,
    speed_of,
    utilizability,
)
from omtools.linux import cgroup

INTERVAL = 1.0
# Inode of the first pid namespace (PROC_PID_INIT_INO in the kernel's proc_ns.h).
_FIRST_PID_NAMESPACE = 0xEFFFFFFC
# The yardstick's own time for `_work`: a processor that takes so long has speed 10000, openMosix's standard.
_STANDARD_SECONDS = 0.0100


class Gauge:
    """Samples the load and measures the speed.

    Attributes:
        loads: the load, as this node and as others should see it.
        speed: 10000 is the standard processor.
        cpus: processors that processes here may use.
        share: of each of them, where a control group allows less than all.
        sampled: when the load was sampled last, of the monotonic clock.
        passing: tells processes whose work is over at once: what runs on for a moment is no load.
    """

    def __init__(self, run: Path, speed: int = 0, limit: int = 0) -> None:
        """`limit`: bytes of memory that this node has at most; 0: as much as the machine."""
        self._limit = limit
        self._groups = cgroup.own_groups("memory")
        self.loads = Loads()
        self.sampled = 0.0
        self._gone = 0
        self.cpus, self.share = _processors(
            len(os.sched_getaffinity(0)), cgroup.cpu_limit(cgroup.own_groups("cpu"))
        )
        self._run = run
        self._configured = speed
        self.speed = speed or self._measured()
        self._counted = _in_own_pid_namespace()
        self._timer: asyncio.TimerHandle | None = None
        self.passing: Callable[[], Container[int]] = frozenset

    def set_speed(self, speed: int) -> None:
        """Tell others this speed from now on; 0: the configured or measured one."""
        before = self.speed
        self.speed = speed or self._configured or self._measured()
        # Else what ran before would count for as many tasks more as the node became faster, for many seconds.
        self.loads = self.loads.rescaled(before / self.speed)

    def _measured(self) -> int:
        return max(1, round(_cached_speed(self._run / "speed") * self.share))

    def relieved(self, tasks: int) -> None:
        """So many tasks that ran for some time have ended or left: the next sample need not be doubted."""
        self._gone += tasks

    def start(self) -> None:
        """Sample once a second from now on."""
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._tick)

    def stop(self) -> None:
        """Sample no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self.start()
        try:
            if self._counted:
                runnable = _count_running(self.passing())
            else:
                runnable = runnable_of_loadavg(_read("/proc/loadavg"))
        except (OSError, ValueError, IndexError) as error:
            log.debug("the load cannot be read", why=error)
            return
        self.sampled = time.monotonic()
        gone, self._gone = self._gone, 0
        one = normalised(1, self.speed, self.cpus)
        self.loads = self.loads.after(runnable * one, gone * one)

    def memory(self) -> Memory:
        """The node's memory now; zeros where /proc does not tell."""
        try:
            found = memory_of_meminfo(_read("/proc/meminfo"))
        except (OSError, ValueError, IndexError):
            return Memory(0, 0, 0)
        if (group := cgroup.memory_limit(self._groups)) is not None and group.limit < found.total:
            left = min(group.left, found.available)
            found = Memory(group.limit, min(max(group.limit - group.used, 0), found.free), left)
        if not 0 < self._limit < found.total:
            return found
        left = max(self._limit - _used_by_processes(), 0)
        return Memory(self._limit, min(left, found.free), min(left, found.available))

    def util(self) -> int:
        """Utilizability in percent; 100 where the kernel does not measure pressure."""
        try:
            return utilizability(_read("/proc/pressure/memory"))
        except (OSError, ValueError, IndexError):
            return 100


def _processors(allowed: int, quota: float | None) -> tuple[int, float]:
    """How many processors a node has and which share of each, as its control group allows."""
    if quota is None or quota >= allowed:
        return allowed, 1.0
    cpus = math.ceil(quota)
    return cpus, quota / cpus


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def _in_own_pid_namespace() -> bool:
    """Whether this node shares its kernel with others, as a lab's does: /proc/loadavg counts them all."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino != _FIRST_PID_NAMESPACE
    except OSError:
        return False


def _count_running(passing: Container[int] = ()) -> int:
    """Processes of this pid namespace that run or could run, without this one and those passing ones."""
    running = 0
    own = str(os.getpid())
    for name in os.listdir("/proc"):
        if not name.isdigit() or name == own or int(name) in passing:
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # pid (comm) S ...: the name may hold anything, also brackets.
                if file.read(512).rpartition(b")")[2][1:2] == b"R":
                    running += 1
        except OSError:
            continue
    return running


def _used_by_processes() -> int:
    """Bytes resident of all processes seen here, without what they share with files (proc_pid_statm(5))."""
    used = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = _read(f"/proc/{name}/statm").split()
            except OSError:
                continue
            used += max(int(fields[1]) - int(fields[2]), 0)
    return used * os.sysconf("SC_PAGE_SIZE")


def _cached_speed(cache: Path) -> int:
    """This processor's speed; measured once per run directory, that is once per boot."""
    try:
        return max(1, int(cache.read_text()))
    except (OSError, ValueError):
        speed = measure_speed()
    try:
        cache.write_text(f"{speed}\n")
    except OSError as error:
        log.debug("the measured speed cannot be kept", why=error)
    return speed


def measure_speed() -> int:
    """Measure this processor: the best of a few short runs of whole-number arithmetic in CPython's own C."""
    best = min(_work() for _run in range(5))
    return speed_of(best, _STANDARD_SECONDS)


def _work() -> float:
    base, modulus = 3, (1 << 2048) - 1942289
    begun = time.thread_time()  # not of the clock: others may be running meanwhile
    pow(base, modulus >> 1024, modulus)
    return time.thread_time() - begun
