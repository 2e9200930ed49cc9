"""Which processes at home are locked, from what was said of some of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from omtui.local import LocalProcess


def locked_at_home(said: Mapping[int, bool], local: Mapping[int, LocalProcess]) -> set[int]:
    """Pids of those that the balancer leaves alone.

    Args:
        said: what owners said of processes, locked or not; what these start inherits it.
        local: all processes of this machine, by pid.
    """
    if not any(said.values()):
        return set()
    known = dict(said)
    for start in local:
        line: list[int] = []
        pid = start
        while pid in local and pid not in known and pid not in line:
            line.append(pid)
            pid = local[pid].ppid
        known.update(dict.fromkeys(line, known.get(pid, False)))
    return {pid for pid, locked in known.items() if locked and pid in local}
