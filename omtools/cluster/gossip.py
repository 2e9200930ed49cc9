"""How news of nodes spreads: a pure state machine, one per node; time and randomness come in as arguments.

Once a second a node sends a *window* to `fanout` random peers: its own vector, the freshest others it has
(`window` in all), and at most `hot` vectors and suspicions that are *news*. Hence the bytes that a node
sends per second are bounded by a constant, whatever the size of the cluster. What that buys, and what it
cannot:

* A node gets at most fanout x window vectors a second on average. So in a cluster of n nodes the
  *measurements* of all of them cannot be younger than about n / (2 x fanout x window) s on average,
  whatever the protocol. As in MOSIX a node therefore knows *some* nodes very freshly (the last few hundred
  it heard of), and that is what balancing needs. (The freshest-window rule and its age formulas are
  MOSIX's: Amar, Barak, Drezner, Okun, "Randomized gossip algorithms for maintaining a distributed bulletin
  board with guaranteed age properties", 2009.)
* *News* (a node joined, restarted, left, turned a switch, does not answer, answers again) is rare, so it
  may be repeated: everyone who learns it passes it on 3 log2 n times, ahead of plain measurements. It
  reaches everybody in O(log n) rounds (epidemics: Demers et al., 1987; membership: Das, Gupta, Motivala,
  "SWIM", 2002).
* Failure detection: every message is answered. A peer that leaves three in a row unanswered is *suspected*,
  the suspicion is news. The suspected node, if it lives, hears of it and has a fresh vector passed round as
  news: any measurement younger than the unanswered question refutes. Otherwise everyone takes it for down
  `suspect_s` later. So detection takes seconds at any size; silence alone makes a node down only after a
  time that grows with n.

Nobody is believed blindly: see `Untrue`. Tables are bounded: at most `limit` vectors, the oldest are
dropped first.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from enum import StrEnum
from random import Random
from typing import NamedTuple

import msgspec

from omtools.cluster.load import CONFIGURED, QUIET, UP
from omtools.cluster.vector import (
    MAX_ENTRIES,
    MAX_SUSPICIONS,
    Entry,
    Kind,
    Message,
    Suspicion,
    Untrue,
    UntrueError,
    Vector,
    fault,
)

_NEVER = float("-inf")
_YOUNG = 20  # seconds: a node first heard of that has been there for less has just joined, and is news
_AGE_LIMIT_MS = 1 << 40
_MAX_INCARNATION = (1 << 48) - 1


class Settings(msgspec.Struct, frozen=True):
    """What may be tuned; all nodes of a cluster should agree.

    Attributes:
        window: vectors per message, the sender's own among them.
        hot: further vectors that are news, and as many suspicions.
        fanout: messages per second.
        answer_s: how long a peer may take to answer.
        misses: unanswered messages in a row that make a suspicion.
        suspect_s: how long a suspected node has to show itself.
        silence_s: without news for so long (plus what the size explains) a node is down.
        forget_s: down for so long, it is dropped.
        limit: vectors kept.
        rate: messages per second that one peer may send, with a burst of `burst`.
        burst: see `rate`.
    """

    window: int = 10
    hot: int = 5
    fanout: int = 3
    answer_s: float = 2.0
    misses: int = 3
    suspect_s: float = 8.0
    silence_s: float = 30.0
    forget_s: float = 3600.0
    limit: int = 65535
    rate: float = 6.0
    burst: float = 20.0


class State(StrEnum):
    """What a node thinks of another."""

    UP = "up"
    SUSPECT = "does not answer"
    DOWN = "down"
    LEFT = "left"


class View(NamedTuple):
    """What is known of a node now; `age` in seconds."""

    vector: Vector
    age: float


class Outgoing(NamedTuple):
    """A message to send."""

    target: int
    message: Message


class _Known:
    """One node in the table; times are of this node's own monotonic clock.

    Attributes:
        born: when its vector was measured.
        missed: when a question was asked that found no answer.
        suspected: when this node came to know that.
    """

    __slots__ = ("born", "missed", "suspected", "vector")

    def __init__(self, vector: Vector, born: float) -> None:
        self.vector = vector
        self.born = born
        self.missed = _NEVER
        self.suspected = _NEVER


class Gossip:
    """What one node knows of the others.

    Attributes:
        own: its own vector as last measured.
        settings: see there.
        members: the nodes of the cluster, where a map says so; of others nothing is believed.
        refused: how often something was not believed, by reason.
    """

    def __init__(
        self, number: int, incarnation: int, random: Random, settings: Settings | None = None
    ) -> None:
        self.settings = settings or Settings()
        self.own = Vector(number, incarnation, status=CONFIGURED)
        self.members: Container[int] | None = None
        self.refused: dict[Untrue, int] = {}
        self._random = random
        self._table: dict[int, _Known] = {}
        self._recent: list[tuple[float, int]] = []  # (born, number); stale pairs are skipped
        self._sorted = 0  # so many pairs of it are in ascending order; the rest came since
        self._hot: dict[int, int] = {}  # vectors that are news: number -> how often still to send
        self._doubts: dict[int, int] = {}  # suspicions that are news, the same
        self._asked: dict[int, float] = {}  # peer -> when the oldest unanswered message was sent
        self._misses: dict[int, int] = {}
        self._buckets: dict[int, tuple[float, float]] = {}  # peer -> (tokens, when counted)
        self._peers = 1
        self._recent_limit = max(256, 8 * self.settings.window)

    # ------------------------------------------------------------------------------------- this node

    def measure(self, figures: Vector) -> Vector:
        """Take this second's figures; number, incarnation and sequence are filled in here."""
        own = self.own
        changed = figures.status != own.status or own.sequence == 0
        self.own = msgspec.structs.replace(
            figures, number=own.number, incarnation=own.incarnation, sequence=own.sequence + 1
        )
        if changed:
            self._hot[own.number] = self._repeats()
        return self.own

    def leave(self, peers: Sequence[int]) -> list[Outgoing]:
        """Say goodbye: to a few more peers than usual, who will pass it on."""
        self.measure(msgspec.structs.replace(self.own, status=self.own.status & ~UP))
        message = Message(self.own.number, Kind.NEWS, (Entry(self.own),))
        others = [peer for peer in peers if peer != self.own.number]
        count = min(len(others), self.settings.fanout + 3)
        return [Outgoing(peer, message) for peer in self._random.sample(others, count)]

    # ------------------------------------------------------------------------------------ once a second

    def tick(self, now: float, peers: Sequence[int]) -> list[Outgoing]:
        """The messages of this second.

        Args:
            now: of the monotonic clock.
            peers: all nodes there are by the map or by discovery, this one may be among them.
        """
        self._peers = max(len(peers), 1)
        self._find_silent(now)
        if not peers or self.own.sequence == 0:
            return []
        if self.own.status & QUIET and self.own.number not in self._hot:
            return []  # it has said that it will be quiet; it goes on listening and answering
        message = self._news(now)
        targets = self._choose(now, peers)
        for target in targets:
            self._asked.setdefault(target, now)
        return [Outgoing(target, message) for target in targets]

    def _choose(self, now: float, peers: Sequence[int]) -> list[int]:
        """Random peers; one that owes an answer is asked again; the dead are tried less often."""
        chosen = [peer for peer in self._misses if peer not in self._asked][:1]
        for _try in range(4 * self.settings.fanout):
            if len(chosen) >= self.settings.fanout:
                break
            peer = peers[int(self._random.random() * len(peers))]
            if peer == self.own.number or peer in chosen:
                continue
            known = self._table.get(peer)
            if known is not None and self._state(known, now) is State.DOWN and self._random.random() > 0.2:
                continue  # a fifth is often enough to find it back
            chosen.append(peer)
        return chosen

    def _news(self, now: float) -> Message:
        entries = [Entry(self.own)]
        told = {self.own.number}
        for number in self._next(self._hot):
            known = self._table.get(number)
            if known is not None:
                entries.append(Entry(known.vector, _milliseconds(now - known.born)))
                told.add(number)
        wanted = self.settings.window + len(entries) - 1
        table = self._table
        for born, number in reversed(self._in_order()):
            if len(entries) >= wanted:
                break
            known = table.get(number)
            if known is not None and known.born == born and number not in told:
                entries.append(Entry(known.vector, _milliseconds(now - born)))
                told.add(number)
        suspicions = tuple(
            Suspicion(number, _milliseconds(now - table[number].missed))
            for number in self._next(self._doubts)
            if number in table and table[number].missed > _NEVER
        )
        return Message(self.own.number, Kind.NEWS, tuple(entries[:MAX_ENTRIES]), suspicions[:MAX_SUSPICIONS])

    def _next(self, news: dict[int, int]) -> list[int]:
        """The newest of what is news, each counted as sent to `fanout` peers."""
        if not news:
            return []
        chosen = sorted(news, key=news.__getitem__, reverse=True)[: self.settings.hot]
        for number in chosen:
            news[number] -= self.settings.fanout
            if news[number] <= 0:
                del news[number]
        return chosen

    def _repeats(self) -> int:
        return max(2 * self.settings.fanout, math.ceil(3 * math.log2(self._peers + 1)))

    def _spread(self, news: dict[int, int], number: int) -> None:
        news.pop(number, None)  # at the end of the order, as the newest
        if len(news) >= 3 * self.settings.hot:
            del news[next(iter(news))]  # so much at once is no news any more, least of all the oldest
        news[number] = self._repeats()

    def _find_silent(self, now: float) -> None:
        for peer, asked in list(self._asked.items()):
            if now - asked < self.settings.answer_s:
                continue
            del self._asked[peer]
            self._misses[peer] = self._misses.get(peer, 0) + 1
            if self._misses[peer] >= self.settings.misses:
                del self._misses[peer]
                self._suspect(now, peer, asked)

    # -------------------------------------------------------------------------------------- what arrives

    def receive(self, now: float, sender: int, message: Message) -> Outgoing | None:
        """Take a message.

        Args:
            now: of the monotonic clock.
            sender: who sent it, as the transport knows.
            message: decoded.

        Returns:
            The answer to send, if it asks for one.

        Raises:
            UntrueError: nothing of it is believed; counted in `refused`.
        """
        if message.sender != sender or sender == self.own.number:
            raise self._refuse(Untrue.IMPOSTOR, str(sender))
        if not self._allowance(now, sender):
            raise self._refuse(Untrue.FLOOD, str(sender))
        self._asked.pop(sender, None)
        self._misses.pop(sender, None)
        known = self._table.get(sender)
        if known is not None:
            known.missed = _NEVER  # whatever others say: it has just spoken
        outdated = self._merge(now, sender, message.entries)
        for suspicion in message.suspicions:
            self._hear_suspicion(now, suspicion)
        if message.kind is not Kind.NEWS:
            return None
        return Outgoing(sender, Message(self.own.number, Kind.HEARD, outdated))

    def _merge(self, now: float, sender: int, entries: Sequence[Entry]) -> tuple[Entry, ...]:
        """Keep what is newer; returns what the sender must know of itself."""
        table = self._table
        own = self.own.number
        outdated: tuple[Entry, ...] = ()
        for entry in entries:
            vector = entry.vector
            number = vector.number
            known = table.get(number)
            if known is None:
                if number == own:
                    self._hear_of_self(vector)
                else:
                    self._take(now, entry, None)
                continue
            old = known.vector
            if vector.incarnation == old.incarnation:
                if vector.sequence > old.sequence:
                    if vector.status == old.status and known.missed == _NEVER and fault(vector) is None:
                        # Nearly all there is, and no news: by far the most often walked way of all.
                        known.vector, known.born = vector, now - entry.age_ms / 1000
                        self._recent.append((known.born, number))
                        continue
                    self._take(now, entry, known)
            elif vector.incarnation > old.incarnation:
                self._take(now, entry, known)
            elif number == sender:
                # It restarted and forgot; it will go on above the number that it is told here.
                self._refuse(Untrue.INCARNATION, str(number))
                outdated = (Entry(old, _milliseconds(now - known.born)),)
        if len(self._recent) > self._recent_limit:
            self._trim()
        return outdated

    def _take(self, now: float, entry: Entry, known: _Known | None) -> None:
        vector = entry.vector
        if (wrong := fault(vector)) is not None:
            self._refuse(wrong, str(vector.number))
            return
        number = vector.number
        born = now - entry.age_ms / 1000
        if known is None:
            if self.members is not None and number not in self.members:
                self._refuse(Untrue.STRANGER, str(number))
                return
            self._table[number] = known = _Known(vector, born)
            news = vector.sequence + entry.age_ms / 1000 < _YOUNG
            if len(self._table) > self.settings.limit:
                self._drop_oldest()
        else:
            old = known.vector
            news = (
                vector.status != old.status
                or vector.incarnation != old.incarnation
                or known.born < known.missed < born
            )
            known.vector, known.born = vector, born
        if news:
            self._spread(self._hot, number)
        self._recent.append((born, number))

    def _in_order(self) -> list[tuple[float, int]]:
        """`_recent`, ascending: sorted when it is read, which is far less often than it is written."""
        if self._sorted < len(self._recent):
            self._recent.sort()
            self._sorted = len(self._recent)
        return self._recent

    def _trim(self) -> None:
        table = self._table
        valid = [
            pair
            for pair in self._in_order()
            if (known := table.get(pair[1])) is not None and known.born == pair[0]
        ]
        self._recent = valid[-self._recent_limit // 2 :]
        self._sorted = len(self._recent)

    def _drop_oldest(self) -> None:
        """Make room at once for a quarter, so that it does not cost at every vector."""
        table = self._table
        keep = self.settings.limit - self.settings.limit // 4
        borns = sorted([known.born for known in table.values()])
        cut = borns[len(borns) - keep]
        for number in [number for number, known in table.items() if known.born < cut]:
            self._drop(number)

    def _drop(self, number: int) -> None:
        del self._table[number]
        self._hot.pop(number, None)
        self._doubts.pop(number, None)

    def _hear_of_self(self, vector: Vector) -> None:
        heard = (vector.incarnation, vector.sequence)
        if heard > (self.own.incarnation, self.own.sequence) and vector.incarnation < _MAX_INCARNATION:
            # An earlier life of this node counted further, or somebody makes vectors up in its name. Go on
            # above them, or nobody believes this one.
            self.own = msgspec.structs.replace(self.own, incarnation=vector.incarnation + 1)
            self._hot[self.own.number] = self._repeats()

    def _hear_suspicion(self, now: float, suspicion: Suspicion) -> None:
        if suspicion.number == self.own.number:
            self.own = msgspec.structs.replace(self.own, sequence=self.own.sequence + 1)
            self._hot[self.own.number] = self._repeats()
        else:
            self._suspect(now, suspicion.number, now - suspicion.age_ms / 1000)

    def _suspect(self, now: float, number: int, missed: float) -> None:
        known = self._table.get(number)
        if known is None or missed <= known.born:
            return  # it has been heard of since
        if known.missed <= known.born:
            known.suspected = now
            known.missed = missed
            self._spread(self._doubts, number)

    def _allowance(self, now: float, sender: int) -> bool:
        settings = self.settings
        tokens, counted = self._buckets.get(sender, (settings.burst, now))
        tokens = min(settings.burst, tokens + max(now - counted, 0.0) * settings.rate)
        if tokens < 1:
            self._buckets[sender] = (tokens, now)
            return False
        if len(self._buckets) > 4096:  # many who sent within the last minutes: full buckets are no loss
            self._buckets.clear()
        self._buckets[sender] = (tokens - 1, now)
        return True

    def _refuse(self, reason: Untrue, detail: str) -> UntrueError:
        self.refused[reason] = self.refused.get(reason, 0) + 1
        return UntrueError(reason, detail)

    # ------------------------------------------------------------------------------------- what is known

    def _state(self, known: _Known, now: float) -> State:
        settings = self.settings
        if not known.vector.status & UP:
            return State.LEFT
        if known.missed > known.born:
            return State.DOWN if now - known.suspected > settings.suspect_s else State.SUSPECT
        if known.vector.status & QUIET:
            return State.UP  # no news is what it promised; that it answers is enough
        usual = 10 * self._peers / (settings.window * settings.fanout)
        return State.DOWN if now - known.born > settings.silence_s + usual else State.UP

    def state(self, now: float, number: int) -> State | None:
        """What to think of that node; None: never heard of it."""
        if number == self.own.number:
            return State.UP
        known = self._table.get(number)
        return None if known is None else self._state(known, now)

    def view(self, now: float, number: int) -> View | None:
        """The last that is known of that node."""
        if number == self.own.number:
            return View(self.own, 0.0)
        known = self._table.get(number)
        return None if known is None else View(known.vector, max(now - known.born, 0.0))

    def freshest(self, now: float, limit: int, max_age: float) -> list[View]:
        """Other nodes that are up, the freshest first, none older than `max_age` seconds."""
        order = self._in_order() if limit <= self._recent_limit // 4 else self._all_by_age()
        oldest, get, make = now - max_age, self._table.get, tuple.__new__
        found: list[View] = []
        for born, number in reversed(order):
            if born < oldest or len(found) >= limit:
                break
            known = get(number)
            if known is None or known.born != born or known.missed > born or not known.vector.status & UP:
                continue
            # View(...) in a third of the time; this is called for every decision of every node.
            found.append(make(View, (known.vector, now - born if now > born else 0.0)))
        return found

    def _all_by_age(self) -> list[tuple[float, int]]:
        return sorted((known.born, number) for number, known in self._table.items())

    def nodes(self, now: float) -> list[tuple[int, State, View]]:
        """All that are known, dead ones too, in order of their numbers."""
        return [
            (number, self._state(known, now), View(known.vector, max(now - known.born, 0.0)))
            for number, known in sorted(self._table.items())
        ]

    def forget(self, now: float) -> list[int]:
        """Drop nodes that have been down or gone for long; returns their numbers. Call it once a minute."""
        gone = [
            number
            for number, known in self._table.items()
            if self._state(known, now) in {State.DOWN, State.LEFT}
            and now - known.born > self.settings.forget_s
        ]
        for number in gone:
            self._drop(number)
        return gone


def _milliseconds(seconds: float) -> int:
    return min(max(int(seconds * 1000), 0), _AGE_LIMIT_MS)
