"""What processes do away from home, from one picture to the next: moves, and calls per second. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from omtools.agent import api
from omtools.i18n import _
from omtui.cells import size_of

Key = tuple[str, int]  # role and local pid

FlightKey = tuple[int, str, int]  # node, role and local pid

_PACES = 40  # pictures that are remembered per process
_MOST_FLIGHTS = 500  # that are remembered


class Move(NamedTuple):
    """A process went from node to node.

    Attributes:
        when: it was seen, seconds since the epoch.
        pid: local.
        bytes: that travelled.
        frozen_ms: how long it stood still.
    """

    when: float
    pid: int
    source: int
    target: int
    bytes: int
    frozen_ms: float


class Flight(NamedTuple):
    """A process whose pages are on their way.

    Attributes:
        since: seconds since the epoch, when its move began.
        when: this was so, the same.
        pid: local.
        source: number of the node it leaves.
        target: of the node it goes to, 0: unknown.
        sent: bytes so far.
        to_send: bytes in all, 0: unknown.
    """

    since: float
    when: float
    pid: int
    source: int
    target: int
    sent: int
    to_send: int

    @property
    def share(self) -> float:
        """How much of it has travelled, 0 to 1; 0 where that is unknown."""
        return min(1.0, self.sent / self.to_send) if self.to_send else 0.0

    @property
    def rate(self) -> float:
        """Bytes per second so far, 0 where that is unknown."""
        return self.sent / (self.when - self.since) if self.when > self.since else 0.0


class Seen(NamedTuple):
    """What was heard of a process, without what is counted all the time.

    Attributes:
        where: number of the node that executes it.
        target: of the node it goes to, 0: none.
        moves: so far.
    """

    phase: str
    where: int
    target: int
    moves: int
    reason: str


def seen_of(info: api.ProcessInfo) -> Seen:
    """That of what is told of a process."""
    return Seen(info.phase, info.where, info.target, info.moves, info.reason)


_MOVING = ("linking", "freezing", "sending", "coming")


def flight_after(before: Flight | None, info: api.ProcessInfo, now: float) -> Flight | None:
    """What is known of a process's pages once this was heard; None: none travels."""
    if info.phase not in _MOVING:
        return None
    target = info.target or (info.home if info.where != info.home else 0)
    since = now if before is None or info.phase in ("linking", "freezing") else before.since
    return Flight(since, now, info.local_pid, info.where, target, info.sent, info.to_send)


def notice(
    flights: dict[FlightKey, Flight], key: FlightKey, info: api.ProcessInfo | None, now: float
) -> None:
    """Keep book of the flights: `info` is what is told of that process now, None: it is no more."""
    flight = flight_after(flights.pop(key, None), info, now) if info is not None else None
    flights.pop(key, None)
    if flight is not None:
        flights[key] = flight
        if len(flights) > _MOST_FLIGHTS:
            del flights[next(iter(flights))]


def flight_words(flight: Flight) -> str:
    """How far it is, and how fast."""
    said = size_of(flight.sent)
    if flight.to_send:
        said = _("{sent} of {total}").format(sent=said, total=size_of(flight.to_send))
    return f"{said}, {flight.rate / 1e6:.0f} MB/s" if flight.rate > 0 else said


UNKNOWN = -1.0  # calls per second of which nobody has told


@dataclass(slots=True)
class Pace:
    """Calls that were done at home for one process.

    Attributes:
        calls: all so far, as far as they were told.
        when: that was so, seconds since the epoch.
        place: where it was then, its moves, its phase.
        rate: per second, between the last two pictures; UNKNOWN while the agent has not told of a call
            between two moves (one that tells only when a process moves cannot say how many there are now).
        history: rates, the latest last.
    """

    calls: int
    when: float
    place: tuple[int, int, str]
    rate: float = UNKNOWN
    history: deque[float] = field(default_factory=lambda: deque(maxlen=_PACES))


def key_of(info: api.ProcessInfo) -> Key:
    """What tells it from all others of this node."""
    return (info.role, info.local_pid)


def move_from_home(info: api.ProcessInfo, now: float) -> Move:
    """The first move of a process."""
    return Move(now, info.local_pid, info.home, info.where, info.bytes, info.frozen_ms)


def paces_after(before: Mapping[Key, Pace], infos: Iterable[api.ProcessInfo], now: float) -> dict[Key, Pace]:
    """The paces once these were seen; of processes that are gone nothing is kept."""
    after = {}
    for info in infos:
        key = key_of(info)
        place = (info.where, info.moves, info.phase)
        pace = before.get(key)
        if pace is None or pace.place != place:
            pace = Pace(info.calls_forwarded, now, place, UNKNOWN if pace is None else min(pace.rate, 0.0))
        elif now > pace.when:
            calls = info.calls_forwarded - pace.calls
            if calls > 0 or pace.rate >= 0:
                pace.rate = max(0, calls) / (now - pace.when)
                pace.history.append(pace.rate)
            pace.calls, pace.when = info.calls_forwarded, now
        after[key] = pace
    return after
