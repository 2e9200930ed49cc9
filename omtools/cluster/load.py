"""Load, speed, memory: the arithmetic of openMosix, pure.

The unit: a load of 100 is one process that computes without pause on one processor of the standard speed
(10000, the yardstick). A node that is twice as fast, or has two processors, shows half of that.
"""

from __future__ import annotations

from dataclasses import dataclass

STANDARD_SPEED = 10000
FULL = 100  # what one CPU-bound process adds on a standard processor

# Status bits of a node, with the values that programs around openMosix test (`status & 2`: it is up).
CONFIGURED = 1
UP = 2
STAY = 4
LSTAY = 8
BLOCK = 16
QUIET = 32
NOMFS = 64

STATUS_WORDS = {
    CONFIGURED: "CONF",
    UP: "UP",
    STAY: "STAY",
    LSTAY: "LSTAY",
    BLOCK: "BLOCK",
    QUIET: "QUIET",
    NOMFS: "NOMFS",
}


def status_words(status: int) -> list[str]:
    """The names of the bits that are set."""
    return [word for bit, word in STATUS_WORDS.items() if status & bit]


SETTLED_S = 3.0
"""Seconds after which a process's end relieves a node: who runs short ones begins the next at once."""


@dataclass(frozen=True, slots=True)
class Loads:
    """What a node thinks of its own load (standard units, not rounded).

    The two lean to opposite sides on purpose: the node itself believes in a rise late and in a fall at once
    (`mean`), others are told of a rise at once and of a fall late (`upper`), unless the fall is sure. So a
    node sends only when it is loaded for sure and is sent to only when it is idle for sure: nothing plays
    ping-pong.

    Attributes:
        now: of the last second.
        mean: for the node's own decisions.
        upper: for other nodes.
    """

    now: float = 0.0
    mean: float = 0.0
    upper: float = 0.0

    def after(self, load: float, gone: float = 0.0) -> Loads:
        """The loads once another second showed `load`.

        `gone` of the load before is over for sure, because processes have ended or left: nobody needs to be
        told of that late.
        """
        mean = (5 * self.mean + 3 * load) / 8 if load > self.mean else load
        upper = max(self.upper - gone, 0.0)
        return Loads(load, mean, load if load >= upper else (7 * upper + load) / 8)

    def rescaled(self, factor: float) -> Loads:
        """The same tasks when the node's speed has changed: `factor` is the old speed over the new one."""
        return Loads(self.now * factor, self.mean * factor, self.upper * factor)


def normalised(runnable: float, speed: int, cpus: int) -> float:
    """The load that so many runnable tasks make on a node of that speed and so many processors."""
    return runnable * FULL * STANDARD_SPEED / (max(speed, 1) * max(cpus, 1))


def runnable_of_loadavg(text: str) -> int:
    """Runnable tasks by /proc/loadavg, less the one that reads it.

    Raises:
        ValueError: it does not look like that file.
    """
    fourth = text.split()[3]
    running, _slash, _total = fourth.partition("/")
    return max(int(running) - 1, 0)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a node's memory.

    Attributes:
        total: what it has.
        free: what nothing uses at all ("physically free").
        available: what a newcomer can have without swapping ("logically free").
    """

    total: int
    free: int
    available: int

    def room_for(self, needed: int, reserve: int, promised: int = 0) -> bool:
        """Whether a guest of that size fits, with the reserve and what others were promised left alone."""
        return needed + reserve + promised <= self.available


def memory_of_meminfo(text: str) -> Memory:
    """What /proc/meminfo says.

    Raises:
        ValueError: it does not look like that file.
    """
    wanted = {"MemTotal": 0, "MemFree": 0, "MemAvailable": 0}
    found = 0
    for line in text.splitlines():
        name, _colon, rest = line.partition(":")
        if name in wanted:
            wanted[name] = int(rest.split()[0]) * 1024
            found += 1
            if found == len(wanted):
                break
    if not wanted["MemTotal"]:
        raise ValueError("no MemTotal")
    return Memory(wanted["MemTotal"], wanted["MemFree"], wanted["MemAvailable"])


def reserve_of(total: int) -> int:
    """What a node keeps for itself when a guest asks for memory: a fiftieth, at least 32 MB."""
    return max(total // 50, 32 << 20)


def utilizability(pressure: str) -> int:
    """Share of the time (in %) in which tasks could run and did not wait for memory.

    100 on a healthy node; falls under memory pressure. `pressure` is /proc/pressure/memory: the share of
    the last ten seconds in which *all* tasks stalled is what is missing.

    Raises:
        ValueError: it does not look like that file.
    """
    for line in pressure.splitlines():
        if line.startswith("full "):
            stalled = float(line.split()[1].partition("=")[2])
            return max(0, min(100, round(100 - stalled)))
    raise ValueError("no line 'full'")


def speed_of(seconds: float, standard_seconds: float) -> int:
    """A processor's speed from the time it took for what takes the standard one `standard_seconds`."""
    raw = STANDARD_SPEED * standard_seconds / max(seconds, 1e-9)
    hundreds = round(raw / 100)  # more digits would only be noise
    return max(1, min(10_000_000, hundreds * 100 if hundreds >= 10 else round(raw)))
