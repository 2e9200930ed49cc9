"""What screens show, without screens: the cluster's state, as the API told it, with short histories. Pure."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter

from omtools.agent import api
from omtools.cluster.load import UP, status_words
from omtui.local import LocalProcess
from omtui.locks import locked_at_home
from omtui.moving import (
    UNKNOWN,
    Flight,
    Key,
    Move,
    Pace,
    Seen,
    key_of,
    move_from_home,
    notice,
    paces_after,
    seen_of,
)

HISTORY = 60  # pictures that are remembered per node, one a second

_UNKNOWN = "?"
_BY_NUMBER = attrgetter("view.number")
_BY_PID = attrgetter("pid")  # a list that is in order already is sorted in no time
_DECISIONS = 1000  # that are remembered
_HAPPENED = 2000  # events that are remembered
_ABROAD = 10_000  # processes of other homes of which it is remembered where they are
_MOVES = 500  # that are remembered


@dataclass(slots=True)
class Node:
    """A node with its recent past.

    Attributes:
        view: what is known now.
        loads: standard units, oldest first.
        memory: used share, 0 to 1, oldest first.
    """

    view: api.NodeView
    loads: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    memory: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))

    @property
    def up(self) -> bool:
        """Whether it takes part at this moment."""
        return is_up(self.view)

    @property
    def words(self) -> str:
        """Its state for people: what sets it apart from an ordinary live node, else UP."""
        if not self.up:
            return self.view.state or _UNKNOWN
        return status_for_people(self.view.status)


def status_for_people(status: int) -> str:
    """What sets a live node apart from an ordinary one, else UP."""
    rest = [word for word in status_words(status) if word not in ("CONF", "UP")]
    return " ".join(rest) or "UP"


def is_up(view: api.NodeView) -> bool:
    """Whether the node takes part at this moment."""
    return bool(view.status & UP) and view.state in ("up", "")


def used_memory(view: api.NodeView) -> int:
    """Bytes a newcomer cannot have."""
    return max(0, view.mem_total - view.mem_available)


def memory_share(view: api.NodeView) -> float:
    """Used share of a node's memory, 0 to 1."""
    return min(1.0, used_memory(view) / view.mem_total) if view.mem_total else 0.0


NODE_KEYS = ("number", "name", "status", "cpus", "speed", "load", "memory", "guests", "away")


def _node_key(node: Node, key: str) -> tuple[object, ...]:
    view = node.view
    if key == "name":
        return (view.name.lower(), view.number)
    if key == "status":
        return (not node.up, node.words, view.number)
    if key == "memory":
        return (memory_share(view), view.number)
    return (getattr(view, key), view.number)


def sorted_nodes(nodes: Iterable[Node], key: str = "number", backwards: bool = False) -> list[Node]:
    """Nodes in order of one of `NODE_KEYS`."""
    if key == "number":
        return sorted(nodes, key=_BY_NUMBER, reverse=backwards)
    return sorted(nodes, key=lambda node: _node_key(node, key), reverse=backwards)


def matching_nodes(nodes: Iterable[Node], wanted: str) -> list[Node]:
    """Those whose name, number, address or state has the text in it."""
    text = wanted.strip().lower()
    if not text:
        return list(nodes)
    return [
        node
        for node in nodes
        if text in node.view.name.lower()
        or text == str(node.view.number)
        or text in node.view.address
        or text in node.words.lower()
    ]


@dataclass(frozen=True, slots=True)
class Process:
    """A process as the screens show it.

    Attributes:
        pid: on this node.
        home: number of its home node.
        node: 0 if it runs here, else the number of the node that executes it.
        guest: its home is elsewhere.
        known: the agent has something to tell of it.
        rate: system calls done at home for it, per second; UNKNOWN if nobody tells.
        dfsa_bytes: read and written where it ran, by no deputy.
        depth: in the tree of parents and children, 0 in a flat list.
    """

    pid: int
    ppid: int = 0
    uid: int = 0
    state: str = ""
    command: str = ""
    home: int = 0
    node: int = 0
    guest: bool = False
    known: bool = False
    locked: bool = False
    phase: str = ""
    reason: str = ""
    moves: int = 0
    calls: int = 0
    bytes: int = 0
    frozen_ms: float = 0.0
    rate: float = UNKNOWN
    dfsa_bytes: int = 0
    depth: int = 0

    @property
    def migrated(self) -> bool:
        """It is not where it is at home."""
        return self.guest or self.node != 0

    @property
    def marks(self) -> str:
        """M migrated, G guest, L locked."""
        place = "G" if self.guest else "M" if self.node else "-"
        return place + ("L" if self.locked else "-")


def process_of(
    info: api.ProcessInfo, own: int, seen: LocalProcess | None = None, rate: float = UNKNOWN
) -> Process:
    """What the API and /proc know of a process, as one."""
    return Process(
        pid=info.local_pid,
        ppid=seen.ppid if seen else 0,
        uid=info.uid,
        state=seen.state if seen else "",
        command=seen.command if seen else "",
        home=info.home,
        node=0 if info.where == own else info.where,
        guest=info.role == "guest",
        known=True,
        locked=info.locked,
        phase=info.phase,
        reason=info.reason,
        moves=info.moves,
        calls=info.calls_forwarded,
        bytes=info.bytes,
        frozen_ms=info.frozen_ms,
        rate=rate,
        dfsa_bytes=info.dfsa_bytes,
    )


def at_home(seen: LocalProcess, own: int, locked: bool) -> Process:
    """A process of which the agent has nothing to tell."""
    return Process(seen.pid, seen.ppid, seen.uid, seen.state, seen.command, own, locked=locked)


Made = tuple[LocalProcess | None, api.ProcessInfo | None, float, Process]


def merged(  # noqa: PLR0917 - all that is known of processes
    infos: Iterable[api.ProcessInfo],
    local: Iterable[LocalProcess],
    own: int,
    paces: Mapping[Key, Pace] | None = None,
    made: dict[int, Made] | None = None,
    locked: Collection[int] = (),
) -> list[Process]:
    """All processes, from what the agent lists and what /proc shows, by pid; `locked` are those at home.

    `made` is what was made the last time, and of what, and is brought up to date: most processes stay as they
    are, and to compare one costs a tenth of making it.
    """
    told = {info.local_pid: info for info in infos}
    before = made or {}
    after: dict[int, Made] = {}
    found = []
    for seen in local:
        info = told.pop(seen.pid, None)
        found.append(_made(before.get(seen.pid), seen, info, own, paces, after, seen.pid in locked))
    found.extend(_made(before.get(pid), None, info, own, paces, after) for pid, info in told.items())
    found.sort(key=_BY_PID)
    if made is not None:
        made.clear()
        made.update(after)
    return found


def _made(  # noqa: PLR0917 - of everything that it is made of
    before: Made | None,
    seen: LocalProcess | None,
    info: api.ProcessInfo | None,
    own: int,
    paces: Mapping[Key, Pace] | None,
    after: dict[int, Made],
    locked: bool = False,
) -> Process:
    rate = _rate(info, paces) if info is not None else UNKNOWN
    same = before is not None and before[0] == seen and before[1] == info and before[2] == rate
    if before is not None and same and (info is not None or before[3].locked == locked):
        made = before
    elif info is not None:
        made = (seen, info, rate, process_of(info, own, seen, rate))
    else:
        assert seen is not None
        process = at_home(seen, own, locked)
        made = (seen, None, rate, process)
    after[made[3].pid] = made
    return made[3]


def _rate(info: api.ProcessInfo, paces: Mapping[Key, Pace] | None) -> float:
    pace = paces.get(key_of(info)) if paces else None
    return pace.rate if pace else UNKNOWN


PROCESS_KEYS = (
    "pid", "node", "marks", "state", "moves", "rate", "bytes", "frozen_ms", "dfsa_bytes", "reason", "command",
)  # fmt: skip


def sorted_processes(found: Iterable[Process], key: str = "pid", backwards: bool = False) -> list[Process]:
    """Processes in order of one of `PROCESS_KEYS`; equal ones by pid."""
    by_pid = sorted(found, key=_BY_PID)
    if key == "pid":
        return by_pid[::-1] if backwards else by_pid
    return sorted(by_pid, key=attrgetter(key), reverse=backwards)


def matching_processes(found: list[Process], wanted: str) -> list[Process]:
    """Those whose command, pid, node or reason has the text in it; the same list if no text is wanted."""
    text = wanted.strip().lower()
    if not text:
        return found
    # Ten thousand are looked through with each key: a number is compared as such, and only if it is one.
    number = int(text) if text.isascii() and text.isdecimal() and text[0] != "0" else -1
    return [
        process
        for process in found
        if text in process.command.lower()
        or number in (process.pid, process.node)
        or (process.reason and text in process.reason.lower())
    ]


@dataclass(slots=True)
class State:
    """All that is known of the cluster, from the node where one asks.

    `nodes` and `processes` are replaced by new ones when anything in them changes, so a screen can tell by
    their identity whether there is something to draw.

    Attributes:
        own: that node's number.
        nodes: by number.
        report: that node's own account, with what views do not have.
        infos: what the agent tells of processes, by role and local pid.
        local: what /proc tells of them, by pid.
        processes: all, by pid.
        decisions: the balancer's and the usher's latest, by pid, 0 for those about the node.
        paces: how many calls each process that is away has had done at home.
        happened: what subscribers were told, the latest last: seconds since the epoch, node (0: own), event.
        locked: pids of processes at home that the balancer leaves alone.
        abroad: how processes of other homes are, as far as was heard, by home and its local pid.
        moves: processes seen to have moved, the latest last.
        flights: processes that are moving, by home (or host, for a guest), role and local pid there.
        latencies: pid of the process whose calls a screen shows, with the figures or why there are none.
        trouble: one sentence, while the agent cannot be asked.
        heard: how many pictures of the nodes came so far.
        when: the moment of a recording that is shown, seconds since the epoch; None: the present.
    """

    own: int = 0
    nodes: dict[int, Node] = field(default_factory=dict)
    report: api.NodeReport | None = None
    infos: dict[tuple[str, int], api.ProcessInfo] = field(default_factory=dict)
    local: dict[int, LocalProcess] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    decisions: dict[int, api.Decided] = field(default_factory=dict)
    paces: dict[Key, Pace] = field(default_factory=dict)
    happened: deque[tuple[float, int, api.Told]] = field(default_factory=lambda: deque(maxlen=_HAPPENED))
    locked: set[int] = field(default_factory=set)
    abroad: dict[tuple[int, int], Seen] = field(default_factory=dict)
    moves: deque[Move] = field(default_factory=lambda: deque(maxlen=_MOVES))
    flights: dict[tuple[int, str, int], Flight] = field(default_factory=dict)
    latencies: tuple[int, api.CallFigures | str] | None = None
    trouble: str = ""
    heard: int = 0
    when: float | None = None
    _changed: dict[int, Process | None] = field(default_factory=dict)
    _made: dict[int, Made] = field(default_factory=dict)

    def hear_views(self, views: api.NodeViews) -> None:
        """A new picture of all nodes; those it does not have are gone."""
        self.own = views.own
        nodes: dict[int, Node] = {}
        for view in views.nodes:
            node = self.nodes.get(view.number)
            if node is None:
                node = Node(view)
            node.view = view
            if is_up(view):
                node.loads.append(view.load)
                node.memory.append(memory_share(view))
            else:
                node.loads.append(0.0)
                node.memory.append(0.0)
            nodes[view.number] = node
        self.nodes = nodes
        self.heard += 1

    def know(self, listing: api.ProcessList) -> None:
        """What the agent lists, while no screen shows processes."""
        self.infos = {key_of(info): info for info in listing.processes}

    def hear_processes(self, listing: api.ProcessList, local: list[LocalProcess], now: float) -> None:
        """A new picture of all processes."""
        self.own = listing.node
        infos = {key_of(info): info for info in listing.processes}
        for key, info in infos.items():
            self._notice_move(self.infos.get(key), info, now)
        self.infos = infos
        self.local = {process.pid: process for process in local}
        self.paces = paces_after(self.paces, infos.values(), now)
        self.locked = locked_at_home(listing.locked, self.local)
        self.processes = merged(listing.processes, local, self.own, self.paces, self._made, self.locked)
        self._changed.clear()

    def _notice_move(self, before: api.ProcessInfo | None, info: api.ProcessInfo, now: float) -> None:
        """Of a process that was not known before it is not known where it was."""
        if before is not None and before.where != info.where:
            self.moves.append(Move(now, info.local_pid, before.where, info.where, info.bytes, info.frozen_ms))

    def hear_event(self, event: api.Told, now: float, node: int = 0) -> bool:
        """Something changed on this node, or on another; returns whether a screen shows it.

        The list of processes is put together again by `settle`, once for all that came.
        """
        if node and isinstance(event, api.ProcessChanged):
            return self._hear_elsewhere(event, now, node)
        if isinstance(event, api.ProcessChanged):
            before = self.infos.get(key_of(event.process))
            self._list(event, now, node, None if before is None else seen_of(before))
            self._hear_process(event, now)
            return True
        self.happened.append((now, node, event))
        if isinstance(event, api.SwitchChanged):
            return self._hear_switch(event)
        if isinstance(event, api.Decided) and not node:
            self.decisions[event.pid] = event
            while len(self.decisions) > _DECISIONS:
                del self.decisions[next(iter(self.decisions))]
            return True
        return True  # the list of what happened

    def _list(self, event: api.ProcessChanged, now: float, node: int, before: Seen | None) -> None:
        """List what has happened: not each step of a move, and nothing that only tells of more calls."""
        if not event.process.sent and before != seen_of(event.process):
            self.happened.append((now, node, event))

    def _hear_switch(self, event: api.SwitchChanged) -> bool:
        node = self.nodes.get(event.node)
        if node is None:
            return False
        node.view = with_status(node.view, event.status)
        self.nodes = dict(self.nodes)  # another picture: see `Attributes`
        return True

    def _hear_process(self, event: api.ProcessChanged, now: float) -> None:
        key = key_of(event.process)
        before = self.infos.get(key)
        if before is None and event.process.where != event.process.home == self.own and not event.gone:
            # The first that is heard of a process is that it is going away, or has just gone.
            self.moves.append(move_from_home(event.process, now))
        self._notice_move(before, event.process, now)
        self._notice_pages(self.own, event, now)
        if event.gone:
            self._changed[event.process.local_pid] = self._without_agent(event.process.local_pid)
            self.infos.pop(key, None)
            return
        self.infos[key] = event.process
        seen, pace = self.local.get(event.process.local_pid), self.paces.get(key)
        self._changed[event.process.local_pid] = process_of(
            event.process, self.own, seen, pace.rate if pace else UNKNOWN
        )

    def _hear_elsewhere(self, event: api.ProcessChanged, now: float, node: int) -> bool:
        """A process of another home; what is a guest there its own home tells better."""
        info = event.process
        if info.role == "guest":
            return False
        self._notice_pages(node, event, now)
        key = (node, info.local_pid)
        now_seen = seen_of(info)
        # Of those that are away it is told now and then what they do: the first that is heard may be that.
        before = self.abroad.pop(key, now_seen if info.phase == "away" else None)
        self._list(event, now, node, before)
        if before is not None and before.where != info.where:
            self.moves.append(
                Move(now, info.local_pid, before.where, info.where, info.bytes, info.frozen_ms)
            )
        if not event.gone:
            self.abroad[key] = now_seen
            if len(self.abroad) > _ABROAD:
                del self.abroad[next(iter(self.abroad))]
        return True

    def _notice_pages(self, node: int, event: api.ProcessChanged, now: float) -> None:
        notice(self.flights, (node, *key_of(event.process)), None if event.gone else event.process, now)

    def travelling(self) -> list[Flight]:
        """Those of which pages are on their way, and have been for long enough to be seen."""
        return [flight for flight in self.flights.values() if flight.sent]

    def _without_agent(self, pid: int) -> Process | None:
        """A process of which the agent tells nothing any more; None: it is not of this machine."""
        seen = self.local.get(pid)
        return at_home(seen, self.own, pid in self.locked) if seen else None

    def settle(self) -> None:
        """Put what has changed into the list of processes."""
        if not self._changed:
            return
        found = list(self.processes)
        for pid, process in self._changed.items():
            at = bisect_left(found, pid, key=_BY_PID)
            known = int(at < len(found) and found[at].pid == pid)
            found[at : at + known] = [] if process is None else [process]
        self.processes = found
        self._changed.clear()

    def name_of(self, number: int) -> str:
        """A node's name, or its number if nobody told it yet."""
        node = self.nodes.get(number)
        return node.view.name if node else str(number)

    def now(self) -> float:
        """The moment that is shown, seconds since the epoch."""
        return time.time() if self.when is None else self.when


def with_status(view: api.NodeView, status: int) -> api.NodeView:
    """The view with other status bits."""
    fields = {name: getattr(view, name) for name in view.__struct_fields__}
    return api.NodeView(**{**fields, "status": status})
