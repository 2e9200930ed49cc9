"""The command API: everything that can be asked of an agent, typed.

One JSON object per line, both ways, over the agent's unix socket or over the SSH subsystem ``openmosix``:
the same bytes. Each side first says `Hello`; the client then sends `Call`s, numbered by itself, and gets for
each one `Answer` or one `Failure` with the same number, in whatever order they are ready; a subscriber also
gets `Notice`s. A side that meets a message it does not know answers with a failure and goes on.

This module must stay cheap to import: every command does (no asyncio, no SSH).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from omtools.image.platform import Platform

VERSION = 1
MAX_LINE = 1 << 20  # of one message, either way
SUBSYSTEM = "openmosix"
NODE_USER = "openmosix-node"  # the SSH user name under which agents meet

Number = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Pid = Annotated[int, msgspec.Meta(ge=1, le=1 << 22)]  # the kernel's own limit for pids
Id = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)]
Word = Annotated[str, msgspec.Meta(max_length=255)]
MigrationName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}\Z")]  # it is in paths
Pem = Annotated[str, msgspec.Meta(max_length=8192)]


# ------------------------------------------------------------------------------------------ requests


class Migrate(msgspec.Struct, tag="migrate", frozen=True):
    """Move a process, or call it home. Answer: `Moved`, when it is there.

    Attributes:
        pid: of a process whose home is here, or the local pid of a guest.
        to: a node's number, name or address, or "home".
    """

    pid: Pid
    to: Word


class Processes(msgspec.Struct, tag="processes", frozen=True):
    """Which processes are away from here, or here from away. Answer: `ProcessList`.

    Attributes:
        all: everybody's, not only the caller's.
    """

    all: bool = False


class NodeInfo(msgspec.Struct, tag="node_info", frozen=True):
    """How a node does. Answer: `NodeReport`, also for one that is down.

    Attributes:
        node: number, name or address; "" is the agent's own.
    """

    node: Word = ""


class Whois(msgspec.Struct, tag="whois", frozen=True):
    """Who a number, name or address is, by the map alone. Answer: `NodeName`."""

    node: Word = ""


class Nodes(msgspec.Struct, tag="nodes", frozen=True):
    """The whole map. Answer: `NodeList`."""


class Switch(msgspec.Struct, tag="switch", frozen=True):
    """Set one of the node's switches. Answer: `Done`."""

    name: Literal["block"]
    on: bool


class Lock(msgspec.Struct, tag="lock", frozen=True):
    """Whether the balancer must leave a process, and its descendants, alone. Answer: `Done`."""

    pid: Pid
    locked: bool


class Subscribe(msgspec.Struct, tag="subscribe", frozen=True):
    """Be told of every change from now on. Answer: `Done`, then `Notice`s without end."""


class PrepareGuest(msgspec.Struct, tag="prepare_guest", frozen=True):
    """From agent to agent: make ready for a process of mine. Answer: `GuestReady`.

    Attributes:
        migration: its unique name.
        pid: the process's pid at home.
        uid: its owner.
        user: the owner's name at home ("" if the uid has none).
        gid: the owner's group.
        home: number of the asking node.
        hostname: that node's host name.
        platform: that node's kernel and processor.
        resident_bytes: how much memory the guest will need at once.
        certificate: PEM, the only one to accept on the link.
        link: over what the pages and calls will come.
        leg: 0 for the way from home, a number that tells it from others for a hop from node to node.
    """

    migration: MigrationName
    pid: Pid
    uid: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    user: Word
    gid: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    home: Number
    hostname: Word
    platform: Platform
    resident_bytes: Annotated[int, msgspec.Meta(ge=0)]
    certificate: Pem
    link: Literal["direct", "ssh", "auto"] = "auto"
    leg: Id = 0


Request = Migrate | Processes | NodeInfo | Whois | Nodes | Switch | Lock | Subscribe | PrepareGuest


# ------------------------------------------------------------------------------------------- answers


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


class ProcessList(msgspec.Struct, tag="process_list", frozen=True):
    """Answer to `Processes`; `node` is the number of the answering node."""

    node: int
    processes: list[ProcessInfo]


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


class Done(msgspec.Struct, tag="done", frozen=True):
    """It is done, there is nothing to tell."""


class GuestReady(msgspec.Struct, tag="guest_ready", frozen=True):
    """A guest's keeper waits.

    Attributes:
        address: where, seen from its own node ("" is the node's address).
        port: where.
        certificate: PEM, the one it will show.
    """

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    certificate: Pem
    address: Word = ""


Result = Moved | ProcessList | NodeReport | NodeName | NodeList | Done | GuestReady


# -------------------------------------------------------------------------------------------- events


class ProcessChanged(msgspec.Struct, tag="process_changed", frozen=True):
    """A process got into another phase; `gone` if this node has no half of it any more."""

    process: ProcessInfo
    gone: bool = False


class SwitchChanged(msgspec.Struct, tag="switch_changed", frozen=True):
    """Somebody set a switch of the node."""

    node: int
    status: int


Event = ProcessChanged | SwitchChanged


# --------------------------------------------------------------------------------------------- lines


class Hello(msgspec.Struct, tag="hello", frozen=True):
    """First line of both sides. All later versions must be able to read it.

    Attributes:
        version: of the API.
        node: number of the speaking agent, 0 from a command.
        name: of the node, or of the command.
    """

    version: int
    node: int = 0
    name: str = ""


class Call(msgspec.Struct, tag="call", frozen=True):
    """A question.

    Attributes:
        id: the caller's own numbering.
        uid: for whom an agent asks; only agents are believed.
    """

    id: Id
    request: Request
    uid: int | None = None


class Answer(msgspec.Struct, tag="answer", frozen=True):
    """What was asked for."""

    id: Id
    result: Result


class Failure(msgspec.Struct, tag="failure", frozen=True):
    """Why it is not to be had: an OmError's wire form."""

    id: Id
    error: dict[str, str | int]


class Notice(msgspec.Struct, tag="notice", frozen=True):
    """An event for the call with that id, a subscription."""

    id: Id
    event: Event


ToAgent = Hello | Call
FromAgent = Hello | Answer | Failure | Notice


class _Numbered(msgspec.Struct):
    """All that is tried to be read of a line that could not be."""

    id: Id = 0


_encoder = msgspec.json.Encoder()
_partial = msgspec.json.Decoder(_Numbered)


def line_of(message: ToAgent | FromAgent) -> bytes:
    """The message as it goes over the wire."""
    return _encoder.encode(message) + b"\n"


def id_of(line: bytes) -> int:
    """The number of a call that cannot be read otherwise, 0 if not even that."""
    try:
        return _partial.decode(line).id
    except msgspec.MsgspecError:
        return 0
