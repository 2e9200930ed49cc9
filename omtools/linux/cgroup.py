"""What this process's control groups allow it: processors and memory, by either version; see cgroups(7).

A container or a systemd service with CPUQuota= or MemoryMax= sees the whole machine in /proc/cpuinfo and
/proc/meminfo, and gets less. The files are named in the kernel's cgroup-v2.rst (`cpu.max`, `memory.max`,
`memory.current`, `memory.stat`), sched-bwc.rst (`cpu.cfs_quota_us`, `cpu.cfs_period_us`) and
cgroup-v1/memory.rst (`memory.limit_in_bytes`, `memory.usage_in_bytes`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MEMORY_FILES = {
    "cgroup": ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    "cgroup2": ("memory.max", "memory.current"),
}
_UNLIMITED = 1 << 60  # version 1 says "no limit" by a number near 2^63


@dataclass(frozen=True, slots=True)
class Group:
    """A control group as a directory.

    Attributes:
        kind: "cgroup" (version 1) or "cgroup2".
        path: where its files are.
        top: the hierarchy's mount point; limits of every group in between hold too.
    """

    kind: str
    path: Path
    top: Path

    def lineage(self) -> Iterator[Path]:
        """The group and those it is in, the innermost first."""
        path = self.path
        while True:
            yield path
            if path in (self.top, path.parent):
                return
            path = path.parent


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """Bytes: what a group may have, what it has, and how much of that are files' pages, which can go."""

    limit: int
    used: int
    droppable: int

    @property
    def left(self) -> int:
        """What it can still have before the kernel reclaims or kills."""
        return max(self.limit - self.used + self.droppable, 0)


def groups(memberships: str, mounts: str, controller: str) -> list[Group]:
    """The groups, at most one of each version, that could limit this process by that controller.

    Args:
        memberships: /proc/self/cgroup.
        mounts: /proc/self/mountinfo.
        controller: "cpu" or "memory".
    """
    of: dict[str, str] = {}
    for line in memberships.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            of["cgroup2"] = path
        elif controller in controllers.split(","):
            of["cgroup"] = path
    found = []
    for line in mounts.splitlines():
        before, _dash, after = line.partition(" - ")
        root, point = (_unescaped(word) for word in before.split()[3:5])
        kind, _source, options = after.split(" ", 2)
        if kind not in of or (kind == "cgroup" and controller not in options.split(",")):
            continue
        inside = os.path.relpath(of[kind], root)
        group = Path(point) if inside.startswith("..") else Path(point, inside)
        found.append(Group(kind, group, Path(point)))
        del of[kind]  # the same hierarchy may be mounted twice
    return found


def cpu_limit(found: list[Group]) -> float | None:
    """How many processors' time the groups allow, None: all there are."""
    limits = [limit for group in found for path in group.lineage() if (limit := _quota(group.kind, path))]
    return min(limits, default=None)


def memory_limit(found: list[Group]) -> MemoryLimit | None:
    """The tightest limit of memory: the one that leaves least. None: there is none."""
    limits = [limit for group in found for path in group.lineage() if (limit := _memory(group.kind, path))]
    return min(limits, key=lambda limit: limit.left, default=None)


def own_groups(controller: str) -> list[Group]:
    """Those of this process; empty where /proc does not tell."""
    try:
        return groups(_text("/proc/self/cgroup"), _text("/proc/self/mountinfo"), controller)
    except (OSError, ValueError):
        return []


def _unescaped(word: str) -> str:
    """A name of mountinfo, where spaces and the like are octal numbers; see proc_pid_mountinfo(5)."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), word)


def _text(path: str | Path) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _quota(kind: str, path: Path) -> float | None:
    try:
        if kind == "cgroup2":
            quota, period = _text(path / "cpu.max").split()
        else:
            quota, period = _text(path / "cpu.cfs_quota_us"), _text(path / "cpu.cfs_period_us")
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # not there, or "max"
        return None


def _memory(kind: str, path: Path) -> MemoryLimit | None:
    limit_file, used_file = _MEMORY_FILES[kind]
    try:
        limit = int(_text(path / limit_file))
        if limit >= _UNLIMITED:
            return None
        used = int(_text(path / used_file))
        figures = dict(line.split() for line in _text(path / "memory.stat").splitlines())
    except (OSError, ValueError):
        return None
    prefix = "total_" if kind == "cgroup" else ""  # without it version 1 leaves out the groups inside
    # As the kernel reckons MemAvailable: of what is in use, half.
    inactive, active = (int(figures.get(f"{prefix}{which}_file", 0)) for which in ("inactive", "active"))
    droppable = inactive + active // 2
    return MemoryLimit(limit, used, min(droppable, used))
