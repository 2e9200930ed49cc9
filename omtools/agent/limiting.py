"""What guests may take of this node (moslimit): a load, a share of the processors, a number.

Of the original only the names loadlimit and cpulimit are known. Here a limit is a reason to refuse guests;
those that are here stay: `mosctl expel` sends them away.
"""

from __future__ import annotations

import os
import time

from omtools.agent.gauge import Gauge
from omtools.agent.keepers import Keepers
from omtools.agent.tuning import Limits
from omtools.i18n import _

_TICK = os.sysconf("SC_CLK_TCK")
_AWHILE = 5.0  # seconds over which the guests' share of the processors is taken


class Limiting:
    """Follows what the guests of a node take.

    Attributes:
        cpu: percent of this node's processors that guests used lately.
    """

    def __init__(self, keepers: Keepers, gauge: Gauge) -> None:
        self.cpu = 0.0
        self._keepers = keepers
        self._gauge = gauge
        self._seen = time.monotonic()
        self._used: dict[int, float] = {}

    def look(self) -> None:
        """Once a second."""
        now = time.monotonic()
        seconds, self._seen = now - self._seen, now
        used = {pid: _cpu_seconds(pid) for pid in self._guests()}
        grown = sum(max(value - self._used.get(pid, value), 0.0) for pid, value in used.items())
        self._used = used
        if seconds > 0:
            share = 100 * grown / seconds / max(self._gauge.cpus, 1)
            self.cpu += (share - self.cpu) * min(seconds / _AWHILE, 1.0)

    def full(self, limits: Limits, load: float, expected: int = 0) -> str:
        """Why no more guests are accepted, "" if they are.

        Args:
            limits: as they are set.
            load: of this node, in standard units.
            expected: guests that have not come yet.
        """
        guests = len(self._guests()) + expected
        if 0 <= limits.guests <= guests:
            return _("its limit of {n} guests is reached").format(n=limits.guests)
        if 0 <= limits.load < load:
            return _("its load is {load:.0f}, and its limit for guests {limit}").format(
                load=load, limit=limits.load
            )
        if 0 <= limits.cpu <= self.cpu and (limits.cpu == 0 or guests):
            return _("guests use {cpu:.0f} % of its processors, and their limit is {limit} %").format(
                cpu=self.cpu, limit=limits.cpu
            )
        return ""

    def _guests(self) -> list[int]:
        return [
            keeper.state.local_pid
            for keeper in self._keepers.all()
            if keeper.state.role == "guest" and not keeper.final and keeper.state.local_pid
        ]


def _cpu_seconds(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK  # utime, stime: proc_pid_stat(5)
    except (OSError, IndexError, ValueError):
        return 0.0
