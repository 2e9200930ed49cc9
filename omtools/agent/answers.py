"""What agents answer: the results of `omtools.agent.api`, which has them all under its own name."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from omtools.migration.counts import FileIo
from omtools.migration.orders import CallTimes
from omtools.omfs.orders import Way

Pem = Annotated[str, msgspec.Meta(max_length=8192)]
Word = Annotated[str, msgspec.Meta(max_length=255)]


class Moved(msgspec.Struct, tag="moved", frozen=True):
    """A process arrived.

    Attributes:
        source: number of the node it left.
        target: number of the node where it runs now.
        bytes: of memory that travelled.
        frozen_ms: how long it stood still.
        total_ms: from the request that reached the agent until it knew of the arrival.
        mb_per_s: bytes per frozen time, in 10^6.
    """

    pid: int
    source: int = msgspec.field(name="from")
    target: int = msgspec.field(name="to")
    bytes: int = 0
    frozen_ms: float = 0.0
    total_ms: float = 0.0
    mb_per_s: float = 0.0


class ProcessInfo(msgspec.Struct, frozen=True):
    """A process with one half here.

    Attributes:
        pid: at home.
        local_pid: here: the deputy's (the same), or the guest's.
        role: which half this node has.
        where: number of the node that executes it.
        phase: as in `omtools.migration.orders`.
        locked: the balancer leaves it alone.
        reason: why it came home or stays, if for a reason.
        io: what it has read and written, by whose files: at home all since it left, on a host since it came
            there. Calls that its deputy did for pipes, sockets and terminals count as home's.
        dfsa_bytes: how much of that was done where it ran, by no deputy.
        files: the same by file, the largest first; only if that was asked for.
        sent: bytes of memory that have travelled in the move under way.
        to_send: of how many, 0 where nobody knows.
        target: number of the node it is leaving home for; 0: for none.
    """

    pid: int
    local_pid: int
    uid: int
    role: Literal["deputy", "guest"]
    migration: str
    home: int
    where: int
    phase: str
    locked: bool = False
    bytes: int = 0
    frozen_ms: float = 0.0
    total_ms: float = 0.0
    calls_forwarded: int = 0
    moves: int = 0
    reason: str = ""
    io: list[FileIo] = []
    dfsa_bytes: int = 0
    files: list[FileIo] = []
    sent: int = 0
    to_send: int = 0
    target: int = 0


class CallFigures(msgspec.Struct, tag="call_figures", frozen=True):
    """How long the forwarded calls of a process took, since it came to where it runs.

    Attributes:
        node: number of that node.
        calls: by call, the one with the most first.
    """

    node: int
    calls: list[CallTimes] = []


class ProcessList(msgspec.Struct, tag="process_list", frozen=True):
    """Answer to `Processes`.

    Attributes:
        node: number of the answering node.
        processes: those that are away from it, or its guests.
        locked: what was said of processes at home, by pid: locked or not; what they start inherits it.
    """

    node: int
    processes: list[ProcessInfo]
    locked: dict[int, bool] = {}


class NodeReport(msgspec.Struct, tag="node_report", frozen=True):
    """How a node does. A node that is down has status 1 and zeros, and an error.

    Attributes:
        status: bits, see `omtools.cluster.load`.
        load: standard units, as told to others (rises at once, falls slowly).
        speed: 10000 is the standard processor.
        mem_total: bytes.
        mem_free: bytes that nothing uses.
        mem_available: bytes a newcomer can have.
        util: percent.
        guests: processes of other nodes here.
        away: processes of this node elsewhere.
        mount: where it has the cluster's files, "" if it has not.
        dfsa: its guests open their files themselves.
        release: of its kernel.
        error: wire form of the OmError that says what is in the way, for one that is not up.
    """

    number: int
    name: str
    address: str
    status: int = 0
    load: float = 0.0
    speed: int = 0
    cpus: int = 0
    mem_total: int = 0
    mem_free: int = 0
    mem_available: int = 0
    util: int = 0
    guests: int = 0
    away: int = 0
    mount: str = ""
    dfsa: bool = False
    release: str = ""
    version: str = ""
    error: dict[str, str | int] | None = None


class NodeName(msgspec.Struct, tag="node_name", frozen=True):
    """One node of the map."""

    number: int
    name: str
    address: str
    aliases: list[str] = []


class MapRange(msgspec.Struct, frozen=True):
    """One line of the map."""

    first: int
    host: str
    count: int


class NodeList(msgspec.Struct, tag="node_list", frozen=True):
    """The whole map; `own` is the answering node's number."""

    own: int
    ranges: list[MapRange]
    nodes: list[NodeName]


class Inspected(msgspec.Struct, tag="inspected", frozen=True):
    """A process of this node, or a guest.

    Attributes:
        pid: here.
        uid: its owner.
        home: number of the node where it was born.
        where: number of the node that executes it.
        moves: how often it has moved since it began, as far as it is known here.
        cannot: why it cannot move now, "" if it can or nobody asked.
    """

    pid: int
    uid: int
    home: int
    where: int
    moves: int = 0
    cannot: str = ""


class Done(msgspec.Struct, tag="done", frozen=True):
    """It is done, there is nothing to tell."""


class GuestReady(msgspec.Struct, tag="guest_ready", frozen=True):
    """A guest's keeper waits.

    Attributes:
        address: where, seen from its own node ("" is the node's address).
        port: where.
        certificate: PEM, the one it will show.
        files: those of the asked ones that are there too, by their places in the list.
    """

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    certificate: Pem
    address: Word = ""
    files: list[int] = []


class FilesReady(msgspec.Struct, tag="files_ready", frozen=True):
    """A file server waits; the fields are those of `GuestReady`."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    certificate: Pem
    address: Word = ""


class FilesOpened(msgspec.Struct, tag="files_opened", frozen=True):
    """A way to the files of a node."""

    way: Way


class Heard(msgspec.Struct, tag="heard", frozen=True):
    """Answer to `News`: what its sender should know, "" if nothing."""

    data: bytes


class NodeView(msgspec.Struct, frozen=True):
    """A node as it is known; the figures are those of `NodeReport`.

    Attributes:
        state: "up", "does not answer", "down", "left", or "" for one never heard of.
        age: how old the figures are, in seconds.
    """

    number: int
    name: str
    address: str
    state: str = ""
    age: float = 0.0
    status: int = 0
    load: float = 0.0
    speed: int = 0
    cpus: int = 0
    mem_total: int = 0
    mem_free: int = 0
    mem_available: int = 0
    util: int = 0
    guests: int = 0
    away: int = 0


class NodeViews(msgspec.Struct, tag="node_views", frozen=True):
    """Answer to `Views`; `own` is the answering node's number."""

    own: int
    nodes: list[NodeView]


class Cleared(msgspec.Struct, tag="cleared", frozen=True):
    """Processes went home.

    Attributes:
        moved: how many.
        failures: wire forms of the OmErrors of those that did not.
    """

    moved: int
    failures: list[dict[str, str | int]] = []


class Tuned(msgspec.Struct, tag="tuned", frozen=True):
    """What may be tuned on a node (tune, mosctl gettune and getyard, moslimit).

    Attributes:
        fixed_s: seconds that a process stands still on a move however small it is.
        call_s: seconds that a forwarded system call takes.
        bytes_per_s: of a link nobody has measured.
        links: bytes per second by node, where measured.
        yardstick: speed of the processor that load and speed are shown by; 10000 is the standard one.
        load_limit: no guest is accepted while this node's load is above it; -1: no limit.
        cpu_limit: nor while guests use more than so many percent of its processors; -1: no limit.
        guest_limit: nor if so many are here; -1: no limit.
    """

    fixed_s: float
    call_s: float
    bytes_per_s: float
    links: dict[int, float] = {}
    yardstick: int = 10000
    load_limit: int = -1
    cpu_limit: int = -1
    guest_limit: int = -1
