"""A cluster on paper: nodes whose loads move, processes that migrate, nodes that die and return. Pure.

The same seed gives the same cluster, second by second. It is seen from its node 1, as a real cluster is seen
from the node where one asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from omtools.agent import api
from omtools.cluster.load import (
    BLOCK,
    CONFIGURED,
    FULL,
    LSTAY,
    NOMFS,
    QUIET,
    STANDARD_SPEED,
    STAY,
    UP,
)
from omtools.errors import (
    AtHomeAlready,
    CannotMigrate,
    NodeDown,
    NodeRefuses,
    NoSuchProcess,
    ThereAlready,
    UnknownNode,
)
from omtools.i18n import _
from omtui.local import LocalProcess

OWN = 1  # the number of the node from which the cluster is seen
MB = 1 << 20

_NAMES = ("mCii", "metrakilate", "ixchel", "tikal", "copan", "palenque", "uxmal", "calakmul", "coba", "tulum")
_COMMANDS = (
    "povray scene.ini",
    "lame -h song.wav",
    "make -j8",
    "distkeygen 1024",
    "awk -f sum.awk",
    "python3 fit.py",
    "blast query.fa",
    "gcc -O2 main.c",
)
_FIRST_PID = 1000
_MOST_AWAY = 2000  # and guests, if nobody wants another number
_SWITCHES = {"block": BLOCK, "stay": STAY, "lstay": LSTAY, "quiet": QUIET}
_CALLS = (("write", 0.6), ("read", 0.25), ("newfstatat", 0.1), ("openat", 0.05))  # and their shares
_SPREAD = (0.02, 0.1, 0.3, 0.35, 0.15, 0.06, 0.015, 0.005)  # of their times, by powers of two
_STAYS_DEAD = 8  # seconds a simulated node is away, at least


@dataclass(slots=True)
class SimulatedNode:
    """A node on paper; the figures are those of `api.NodeView`."""

    number: int
    name: str
    cpus: int
    speed: int
    mem_total: int
    load: float
    used: float
    status: int = CONFIGURED | UP
    dfsa: bool = True
    dead_for: int = 0
    age: float = 0.0


@dataclass(slots=True)
class SimulatedProcess:
    """A process on paper, at home on node 1 or a guest there.

    Attributes:
        listed: the agent has something to tell about it.
        last: the listing it was last told as, until something changes.
    """

    pid: int
    local_pid: int
    ppid: int
    home: int
    where: int
    command: str
    listed: bool
    state: str = "R"
    nice: int = 0
    locked: bool = False
    moves: int = 0
    calls: int = 0
    bytes: int = 0
    frozen_ms: float = 0.0
    reason: str = ""

    def info(self) -> api.ProcessInfo:
        """As the API has it."""
        guest = self.home != OWN
        away = self.where != self.home
        return api.ProcessInfo(
            pid=self.pid,
            local_pid=self.local_pid,
            uid=1000,
            role="guest" if guest else "deputy",
            migration=f"{self.home}-{self.pid}",
            home=self.home,
            where=self.where,
            phase="away" if away else "home",
            locked=self.locked,
            bytes=self.bytes,
            frozen_ms=self.frozen_ms,
            total_ms=self.frozen_ms * 1.5,
            calls_forwarded=self.calls,
            moves=self.moves,
            reason=self.reason,
            dfsa_bytes=self.calls * 4096 if self.pid % 3 == 0 and away else 0,
        )

    def seen(self) -> LocalProcess:
        """As /proc would have it."""
        return LocalProcess(self.local_pid, self.ppid, 1000, self.state, self.command)

@dataclass
class World:
    """A simulated cluster.

    Attributes:
        size: how many nodes.
        count: how many processes node 1 knows of.
        seed: of everything that is left to chance.
        deaths: seconds between two, on average, in the whole cluster.
        moves_per_s: how many processes the balancer tries to move.
        most_away: how many processes are away or guests in the beginning, about.
    """

    size: int
    count: int = 0
    seed: int = 1
    deaths: float = 20.0
    moves_per_s: float = 2.0
    most_away: int = _MOST_AWAY
    nodes: dict[int, SimulatedNode] = field(default_factory=dict)
    processes: dict[int, SimulatedProcess] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the nodes, then the processes."""
        self._chance = Random(self.seed)
        for number in range(1, self.size + 1):
            self.nodes[number] = self._node(number)
        for index in range(self.count):
            self._be_born(_FIRST_PID + index)

    def _node(self, number: int) -> SimulatedNode:
        chance = self._chance
        name = _NAMES[number - 1] if number <= len(_NAMES) else f"node{number}"
        cpus = chance.choice((1, 2, 2, 4, 8))
        total = chance.choice((512, 1024, 2048, 4096, 8192)) * MB
        return SimulatedNode(
            number,
            name,
            cpus,
            round(chance.uniform(0.5, 3.0) * STANDARD_SPEED / 100) * 100,
            total,
            chance.uniform(0, 2.0 * FULL),
            chance.uniform(0.1, 0.8) * total,
        )

    def _be_born(self, pid: int) -> None:
        chance = self._chance
        others = self.size > 1
        guest = others and chance.random() < 0.1
        home = chance.randint(2, self.size) if guest else OWN
        away = others and not guest and chance.random() < 0.5
        if pid >= _FIRST_PID + 2 * self.most_away:
            guest = away = False
        home = home if guest else OWN
        process = SimulatedProcess(
            pid=pid,
            local_pid=pid,
            ppid=1 if pid < _FIRST_PID + 8 else chance.randint(_FIRST_PID, pid - 1),
            home=home,
            where=chance.randint(2, self.size) if away else OWN,
            command=chance.choice(_COMMANDS),
            listed=guest or away,
            locked=chance.random() < 0.05,
        )
        if guest:
            process.ppid = 1
        if process.listed:
            self._account(process)
        self.processes[pid] = process

    def _account(self, process: SimulatedProcess) -> None:
        process.moves += 1
        process.bytes = self._chance.randint(1, 400) * MB
        process.frozen_ms = process.bytes / (1000 * MB) * 1000

    # -------------------------------------------------------------------------------- what happens

    def step(self) -> list[api.OwnEvent]:
        """Let a second pass; what subscribers are told of."""
        for node in self.nodes.values():
            self._live(node)
        for process in self.processes.values():
            if process.where != process.home:
                process.calls += self._chance.randint(0, 400)
        if self.size > 1 and self._chance.random() * self.deaths < 1:
            self.kill(self._chance.randint(2, self.size))
        return self._moves()

    def _live(self, node: SimulatedNode) -> None:
        if node.dead_for:
            node.dead_for -= 1
            node.age += 1.0
            if not node.dead_for:
                node.status |= UP
                node.age = 0.0
            return
        gauss = self._chance.gauss
        node.load = max(0.0, node.load + gauss(0, 12) + (FULL - node.load) * 0.02)
        node.used = min(
            max(node.used + gauss(0, 0.01) * node.mem_total, 0.05 * node.mem_total), 0.98 * node.mem_total
        )

    def kill(self, number: int) -> None:
        """A node dies; it returns by itself."""
        node = self.nodes[number]
        node.status &= ~UP
        node.dead_for = _STAYS_DEAD + self._chance.randint(0, 10)

    def _moves(self) -> list[api.OwnEvent]:
        events: list[api.OwnEvent] = []
        if not self.processes or self.size < 2:
            return events
        pids = list(self.processes)
        for _round in range(int(self.moves_per_s)):
            process = self.processes[self._chance.choice(pids)]
            if process.home != OWN or process.locked:
                continue
            process.calls += self._chance.randint(0, 500)
            target = OWN if process.where != OWN else self._chance.randint(2, self.size)
            if self.nodes[target].status & (UP | BLOCK) != UP:
                continue
            events.append(self._put(process, target))
        return events

    def _put(self, process: SimulatedProcess, target: int) -> api.OwnEvent:
        process.where = target
        process.listed = True
        self._account(process)
        process.reason = _("the balancer called it home") if target == OWN else ""
        return api.ProcessChanged(process.info())

    # ------------------------------------------------------------------------------ what is asked

    def views(self) -> api.NodeViews:
        """Answer to `api.Views`."""
        guests = sum(process.home != OWN for process in self.processes.values())
        counts: dict[int, int] = {}
        for process in self.processes.values():
            if process.home == OWN != process.where:
                counts[process.where] = counts.get(process.where, 0) + 1
        counts[OWN] = guests
        away = sum(process.home == OWN != process.where for process in self.processes.values())
        return api.NodeViews(
            OWN,
            [
                self._view(node, counts.get(node.number, 0), away if node.number == OWN else 0)
                for node in self.nodes.values()
            ],
        )

    def _view(self, node: SimulatedNode, guests: int, away: int) -> api.NodeView:
        up = bool(node.status & UP)
        free = int(node.mem_total - node.used)
        return api.NodeView(
            number=node.number,
            name=node.name,
            address=address_of(node.number),
            state="up" if up else "down",
            age=node.age,
            status=node.status if up else CONFIGURED,
            load=node.load if up else 0.0,
            speed=node.speed,
            cpus=node.cpus,
            mem_total=node.mem_total,
            mem_free=free // 2 if up else 0,
            mem_available=free if up else 0,
            util=(100 if free > node.mem_total // 10 else 60) if up else 0,
            guests=guests if up else 0,
            away=away,
        )

    def node(self, word: str) -> SimulatedNode:
        """A node by number, name or address; "" is node 1.

        Raises:
            UnknownNode: there is none.
        """
        if not word:
            return self.nodes[OWN]
        for node in self.nodes.values():
            if word in (str(node.number), node.name, address_of(node.number)):
                return node
        raise UnknownNode(node=word)

    def report(self, word: str) -> api.NodeReport:
        """Answer to `api.NodeInfo`."""
        node = self.node(word)
        view = self._view(node, 0, 0)
        guests = next(view for view in self.views().nodes if view.number == node.number)
        return api.NodeReport(
            number=view.number,
            name=view.name,
            address=view.address,
            status=view.status,
            load=view.load,
            speed=view.speed,
            cpus=view.cpus,
            mem_total=view.mem_total,
            mem_free=view.mem_free,
            mem_available=view.mem_available,
            util=view.util,
            guests=guests.guests,
            away=guests.away,
            dfsa=node.dfsa,
            release="6.18.0-simulated",
            version="simulated",
            error=None if view.status & UP else self._down(node).to_wire(),
        )

    @staticmethod
    def _down(node: SimulatedNode) -> NodeDown:
        return NodeDown(node=node.name, address=address_of(node.number), why=_("it is switched off"))

    def listing(self) -> api.ProcessList:
        """Answer to `api.Processes`."""
        known = self.processes.values()
        locked = {one.local_pid: True for one in known if one.locked and one.home == one.where == OWN}
        return api.ProcessList(OWN, [one.info() for one in known if one.listed], locked)

    def calls(self, pid: int) -> api.CallFigures:
        """Answer to `api.Calls`: each process has its own ways, and a link of its own.

        Raises:
            AtHomeAlready, NoSuchProcess: it has not moved; there is none.
        """
        process = self.process(pid)
        if process.where == process.home:
            raise AtHomeAlready(pid=pid)
        figures = []
        for index, (name, share) in enumerate(_CALLS):
            middle = 7 + (pid + index) % 3
            bins = [0] * (middle - 3) + [round(process.calls * share * part) for part in _SPREAD]
            figures.append(api.CallTimes(name, sum(bins), sum(bins) << middle, bins))
        return api.CallFigures(process.where, figures if process.calls else [])

    def local(self) -> list[LocalProcess]:
        """What /proc of node 1 would show."""
        return [process.seen() for process in list(self.processes.values())]  # seen from another thread

    # ------------------------------------------------------------------------------- what is done

    def process(self, pid: int) -> SimulatedProcess:
        """A process by its pid.

        Raises:
            NoSuchProcess: there is none.
        """
        if pid not in self.processes:
            raise NoSuchProcess(pid=pid)
        return self.processes[pid]

    def migrate(self, pid: int, to: str) -> tuple[api.Moved, api.OwnEvent]:
        """Move a process at once.

        Raises:
            OmError: as the real agent would.
        """
        process = self.process(pid)
        source = process.where
        if to == "home":
            if process.where == process.home:
                raise AtHomeAlready(pid=pid)
            target = process.home
        elif to == "balance":
            target = self._best(process)
        else:
            node = self.node(to)
            if process.where == node.number:
                raise ThereAlready(pid=pid, node=node.name)
            if not node.status & UP:
                raise self._down(node)
            if node.status & BLOCK and node.number != process.home:
                raise NodeRefuses(node=node.name, why=_("it is blocked"))
            target = node.number
        event = self._put(process, target)
        process.reason = ""
        if OWN not in (process.home, target):  # a guest that left is no business of node 1 any more
            event = api.ProcessChanged(process.info(), gone=True)
            del self.processes[pid]
        moved = api.Moved(
            pid, source, target, process.bytes, process.frozen_ms, process.frozen_ms * 1.5, 1000.0
        )
        return moved, event

    def _best(self, process: SimulatedProcess) -> int:
        fit = [node for node in self.nodes.values() if node.status & (UP | BLOCK) == UP]
        best = min(fit, key=lambda node: (node.load, node.number), default=self.nodes[OWN])
        if best.number == process.where:
            raise CannotMigrate(pid=process.pid, reason=_("it runs best where it is"))
        return best.number

    def lock(self, pid: int, locked: bool) -> list[api.Event]:
        """Lock or unlock a process; of one at home subscribers are told nothing.

        Raises:
            NoSuchProcess: there is none.
        """
        process = self.process(pid)
        process.locked = locked
        return [api.ProcessChanged(process.info())] if process.listed else []

    def switch(self, name: str, on: bool, word: str = "") -> list[api.Event]:
        """Set a switch of a node, which tells its subscribers."""
        node = self.node(word)
        if name == "mfs":
            node.status = node.status & ~NOMFS if on else node.status | NOMFS
        elif name == "dfsa":
            node.dfsa = on
        else:
            bit = _SWITCHES[name]
            node.status = node.status | bit if on else node.status & ~bit
        changed = api.SwitchChanged(node.number, node.status)
        return [changed if node.number == OWN else api.Elsewhere(node.number, changed)]

    def clear(self, guests: bool, word: str = "") -> tuple[api.Cleared, list[api.Event]]:
        """Expel all guests of a node, or bring all its own processes home; of those that node 1 knows."""
        node = self.node(word)
        node.status |= BLOCK if guests else LSTAY
        here = node.number
        found = [
            p
            for p in self.processes.values()
            if (p.where == here != p.home if guests else p.home == here != p.where)
        ]
        events: list[api.Event] = [api.SwitchChanged(OWN, node.status)] if here == OWN else []
        events += [self.migrate(process.pid, "home")[1] for process in found]
        return api.Cleared(len(found)), events

    def set_speed(self, speed: int, word: str = "") -> None:
        """Have a node tell another speed; 0: the measured one."""
        self.node(word).speed = speed or STANDARD_SPEED

    def signal(self, pid: int, name: str) -> api.Event | None:
        """Send STOP, CONT, TERM or KILL to a process.

        Raises:
            NoSuchProcess: there is none.
        """
        process = self.process(pid)
        if name in ("STOP", "CONT"):
            process.state = "T" if name == "STOP" else "R"
            return None
        del self.processes[pid]
        return api.ProcessChanged(process.info(), gone=True) if process.listed else None

    def renice(self, pid: int, nice: int) -> None:
        """Set a nice value.

        Raises:
            NoSuchProcess: there is none.
        """
        self.process(pid).nice = nice

    def inspected(self, pid: int) -> api.Inspected:
        """Answer to `api.Inspect`: every seventh process has something that ties it to its home.

        Raises:
            NoSuchProcess: there is none.
        """
        process = self.process(pid)
        tied = pid % 7 == 0 and process.home == process.where == OWN
        cannot = _("it has 3 threads") if tied else ""
        return api.Inspected(pid, 1000, process.home, process.where, process.moves, cannot)


def address_of(number: int) -> str:
    """Where a simulated node would be."""
    return f"10.0.{number >> 8}.{number & 255}"
