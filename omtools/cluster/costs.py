"""What a move costs, what has been promised where, and whom to leave alone for a while.

`Costs` are measured by the agent. `Promises` bridge the seconds between a decision and the first vector in
which the target itself shows the newcomer: until then this node counts it there. `Avoided` keeps a node
that refused or failed (or lies about its load) from being asked again and again: it doubles a pause.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec
from msgspec.structs import replace

_TELLING, _LARGE = 1 << 20, 64 << 20  # bytes: a move of less says nothing of a link, one of more says all
_FASTEST = 1e12  # bytes per second: what is faster was not measured
_FRESH = 0.3  # of a new measurement of a link, against what was known
_HALF_LIFE_S = 30.0  # of what small moves say
_ROUND_S = 0.9
_BUSY_ROUNDS = 3
_NO_LINKS: Mapping[int, float] = MappingProxyType({})


class Costs(msgspec.Struct, frozen=True):
    """Measured costs, as seen from one node.

    Attributes:
        fixed_s: seconds that a process stands still however small it is.
        call_s: seconds that a forwarded system call takes.
        bytes_per_s: of a link nobody has measured.
        links: bytes per second by node, where measured.
        lately: the same by small moves of late, which say as much of how busy that node was as of the link.
    """

    fixed_s: float = 0.05
    call_s: float = 150e-6
    bytes_per_s: float = 100e6
    links: Mapping[int, float] = _NO_LINKS
    lately: Mapping[int, float] = _NO_LINKS

    def link(self, node: int) -> float:
        """Bytes per second to that node."""
        return max(self.lately.get(node, 0.0) or self.links.get(node, self.bytes_per_s), 1.0)

    def learned(self, node: int, size: int, seconds: float) -> Costs:
        """What is known once that many bytes took so long to that node."""
        if size < _TELLING or seconds <= 0:
            return self
        new = min(size / seconds, _FASTEST)
        if size < _LARGE:
            old = self.lately.get(node) or self.links.get(node, new)
            return replace(self, lately={**self.lately, node: old + _FRESH * (new - old)})
        old = self.links.get(node, new)
        lately = {other: speed for other, speed in self.lately.items() if other != node}
        return replace(self, links={**self.links, node: old + _FRESH * (new - old)}, lately=lately)

    def faded(self, seconds: float) -> Costs:
        """What is still believed so much later: a node that was busy once is not avoided for ever."""
        if not self.lately:
            return self
        kept, lately = 0.5 ** (seconds / _HALF_LIFE_S), {}
        for node, speed in self.lately.items():
            base = max(self.links.get(node, self.bytes_per_s), 1.0)
            now = base * (max(speed, 1.0) / base) ** kept
            if not 0.9 < now / base < 1.1:
                lately[node] = now
        return replace(self, lately=lately)

    def move_s(self, size: int, source: int, target: int, home: int) -> float:
        """How long a process of that size stands still on that way.

        From one foreign node to another the image goes through home: both links carry it.
        """
        seconds = self.fixed_s + size / self.link(target if target != source else home)
        if home not in {source, target}:
            seconds += size / self.link(home)
        return seconds


class _Promise(msgspec.Struct, frozen=True):
    made: float
    runnable: float
    size: int


class Promises:
    """What is on its way to other nodes and not in their vectors yet.

    A promise counts until a vector is at hand that the target measured `settle_s` after it was made, and
    never longer than `limit_s`.
    """

    def __init__(self, settle_s: float = 3.0, limit_s: float = 20.0) -> None:
        self._settle_s = settle_s
        self._limit_s = limit_s
        self._made: dict[int, list[_Promise]] = {}

    def add(self, now: float, node: int, runnable: float, size: int) -> None:
        """Count a process there from now on."""
        self._made.setdefault(node, []).append(_Promise(now, runnable, size))

    def on(self, now: float, node: int, age: float) -> tuple[float, int]:
        """Runnable tasks and bytes promised to that node that a vector of that age cannot show."""
        made = self._made.get(node)
        if made is None:
            return 0.0, 0
        measured = now - age
        valid = [
            one for one in made if now - one.made <= self._limit_s and measured < one.made + self._settle_s
        ]
        if not valid:
            return 0.0, 0
        return sum(one.runnable for one in valid), sum(one.size for one in valid)

    def withdraw(self, node: int) -> None:
        """The last one came to nothing."""
        made = self._made.get(node)
        if made:
            made.pop()

    def sweep(self, now: float) -> None:
        """Forget what counts no more; once a second."""
        for node, made in list(self._made.items()):
            made[:] = [one for one in made if now - one.made <= self._limit_s]
            if not made:
                del self._made[node]

    @property
    def nodes(self) -> frozenset[int]:
        """To whom anything is promised."""
        return frozenset(self._made)


class Avoided:
    """Nodes that refused or failed: asked again after `pause_s`, then twice that, up to `limit_s`.

    One that says that it is idle and refuses for having work enough is believed the latter: others were
    faster, and its next vector shows it. If that goes on for several rounds, it counts as failing too.
    """

    def __init__(self, pause_s: float = 2.0, limit_s: float = 120.0) -> None:
        self._pause_s = pause_s
        self._limit_s = limit_s
        self._until: dict[int, tuple[float, float]] = {}  # node -> (until when, the pause)
        self._busy: dict[int, tuple[int, float]] = {}  # node -> (rounds, the last one)

    def failed(self, now: float, node: int) -> None:
        """It refused, or a move to it failed."""
        _until, pause = self._until.get(node, (now, self._pause_s / 2))
        pause = min(2 * pause, self._limit_s)
        self._until[node] = (now + pause, pause)

    def busy(self, now: float, node: int) -> None:
        """It said that it has work enough; of those within a second one counts."""
        count, when = self._busy.get(node, (0, -_ROUND_S))
        if now - when < _ROUND_S:
            return
        self._busy[node] = count + 1, now
        if count + 1 >= _BUSY_ROUNDS:
            self.failed(now, node)

    def worked(self, node: int) -> None:
        """A move to it went well."""
        self._until.pop(node, None)
        self._busy.pop(node, None)

    def now(self, now: float) -> frozenset[int]:
        """Whom to leave alone."""
        return frozenset(node for node, (until, _pause) in self._until.items() if until > now)
