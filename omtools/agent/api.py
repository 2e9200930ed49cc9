"""The command API: everything that can be asked of an agent, typed.

One JSON object per line, both ways, over the agent's unix socket or over the SSH subsystem ``openmosix``:
the same bytes. Each side first says `Hello`; the client then sends `Call`s, numbered by itself, and gets for
each one `Answer` or one `Failure` with the same number, in whatever order they are ready; a subscriber also
gets `Notice`s. An answer that is too long for a line comes as `Part`s of it. A side that meets a message it
does not know answers with a failure and goes on.

This module must stay cheap to import: every command does (no asyncio, no SSH).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from omtools.agent.answers import (
    CallFigures as CallFigures,
    Cleared as Cleared,
    Done as Done,
    FilesOpened as FilesOpened,
    FilesReady as FilesReady,
    GuestReady as GuestReady,
    Heard as Heard,
    Inspected as Inspected,
    MapRange as MapRange,
    Moved as Moved,
    NodeList as NodeList,
    NodeName as NodeName,
    NodeReport as NodeReport,
    NodeView as NodeView,
    NodeViews as NodeViews,
    Pem as Pem,
    ProcessInfo as ProcessInfo,
    ProcessList as ProcessList,
    Tuned as Tuned,
    Word as Word,
)
from omtools.agent.between import (
    GroupLine as GroupLine,
    Id as Id,
    News as News,
    Number as Number,
    OpenFiles as OpenFiles,
    PrepareFiles as PrepareFiles,
)
from omtools.agent.events import (
    Clearing as Clearing,
    Decided as Decided,
    Elsewhere as Elsewhere,
    Event as Event,
    Followed as Followed,
    MapChanged as MapChanged,
    OwnEvent as OwnEvent,
    ProcessChanged as ProcessChanged,
    SwitchChanged as SwitchChanged,
    Told as Told,
)
from omtools.cluster.process_settings import (
    NodeDecay as NodeDecay,
    ProcessSettings as ProcessSettings,
)
from omtools.image.platform import Platform
from omtools.image.twins import MOST, Offer
from omtools.migration.counts import FileIo as FileIo
from omtools.migration.orders import CallTimes as CallTimes

VERSION = 1
MAX_LINE = 1 << 20  # of one message, either way
SUBSYSTEM = "openmosix"
NODE_USER = "openmosix-node"  # the SSH user name under which agents meet

Pid = Annotated[int, msgspec.Meta(ge=1, le=1 << 22)]  # the kernel's own limit for pids
MigrationName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}\Z")]  # it is in paths
Speed = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]  # 10000 is the standard processor
SwitchName = Literal["block", "stay", "lstay", "quiet", "mfs", "dfsa"]


# ------------------------------------------------------------------------------------------ requests


class Migrate(msgspec.Struct, tag="migrate", frozen=True):
    """Move a process, or call it home. Answer: `Moved`, when it is there.

    Attributes:
        pid: of a process whose home is here, or the local pid of a guest.
        to: a node's number, name or address, or "home"; or "balance": where it now runs best.
    """

    pid: Pid
    to: Word


class Reconsider(msgspec.Struct, tag="reconsider", frozen=True):
    """From agent to agent: send your guest of that name to where it now runs best. Answer: `Moved`."""

    migration: MigrationName


class Processes(msgspec.Struct, tag="processes", frozen=True):
    """Which processes are away from here, or here from away. Answer: `ProcessList`.

    Attributes:
        all: everybody's, not only the caller's.
        node: of which node: number, name or address; "" is the agent's own.
        files: tell also which files they read and write.
    """

    all: bool = False
    node: Word = ""
    files: bool = False


class Inspect(msgspec.Struct, tag="inspect", frozen=True):
    """Where a process is. Answer: `Inspected`.

    Attributes:
        pid: a local one, of a process or of a guest.
        survey: look also whether it can move.
    """

    pid: Pid
    survey: bool = False


class Calls(msgspec.Struct, tag="calls", frozen=True):
    """How long the forwarded calls of a process that is away, or of a guest, take. Answer: `CallFigures`."""

    pid: Pid


class GuestCalls(msgspec.Struct, tag="guest_calls", frozen=True):
    """From agent to agent: the same of a process of mine that you host."""

    migration: MigrationName


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


class SetNodes(msgspec.Struct, tag="set_nodes", frozen=True):
    """Take these nodes for the cluster, from now on until told otherwise (omdiscd's). Answer: `Done`.

    Attributes:
        nodes: all but this one.
    """

    nodes: list[NodeName]


class Switch(msgspec.Struct, tag="switch", frozen=True):
    """Set one of the node's switches. Answer: `Done`.

    Attributes:
        name: block: guests are refused; stay: nothing leaves by itself; lstay: nothing of this node's leaves
            by itself; quiet: this node tells others nothing; mfs: others get its files; dfsa: processes
            open their files where they run.
        node: whose; "" is the agent's own. Another node obeys the same user, and root.
    """

    name: SwitchName
    on: bool
    node: Word = ""


class SetSpeed(msgspec.Struct, tag="set_speed", frozen=True):
    """Tell others another speed than the measured one; 0: the measured one. Answer: `Done`.

    Attributes:
        node: whose; "" is the agent's own.
    """

    speed: Speed
    node: Word = ""


class Tune(msgspec.Struct, tag="tune", frozen=True):
    """Set what is given, and tell all. Answer: `Tuned`, whose attributes these are.

    Attributes:
        node: whose; "" is the agent's own.
        links: only those given are changed; 0 forgets one.
    """

    node: Word = ""
    fixed_s: Annotated[float, msgspec.Meta(ge=0, le=600)] | None = None
    call_s: Annotated[float, msgspec.Meta(ge=0, le=10)] | None = None
    bytes_per_s: Annotated[float, msgspec.Meta(ge=1, le=1e13)] | None = None
    links: dict[Number, Annotated[float, msgspec.Meta(ge=0, le=1e13)]] | None = None
    yardstick: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] | None = None
    load_limit: Annotated[int, msgspec.Meta(ge=-1, le=1_000_000)] | None = None
    cpu_limit: Annotated[int, msgspec.Meta(ge=-1, le=100)] | None = None
    guest_limit: Annotated[int, msgspec.Meta(ge=-1, le=65535)] | None = None


class Expel(msgspec.Struct, tag="expel", frozen=True):
    """Refuse guests from now on and send those home that are here.

    Answer: `Cleared`, when they are; before it a `Clearing` for each.

    Attributes:
        node: whose; "" is the agent's own.
    """

    node: Word = ""


class Bring(msgspec.Struct, tag="bring", frozen=True):
    """Keep this node's processes from now on and call those home that are away.

    Answer: `Cleared`, when they are; before it a `Clearing` for each.

    Attributes:
        node: whose; "" is the agent's own.
    """

    node: Word = ""


class Lock(msgspec.Struct, tag="lock", frozen=True):
    """Whether the balancer must leave a process, and its descendants, alone. Answer: `Done`."""

    pid: Pid
    locked: bool


class SetProcess(msgspec.Struct, tag="set_process", frozen=True):
    """Make settings of a process; descendants inherit them. Answer: `ProcessSettings`, all that hold now.

    Attributes:
        pid: a local one, of a process or of a guest.
        settings: those that are None stay as they are.
        clear: forget what the process did so far.
    """

    pid: Pid
    settings: ProcessSettings = ProcessSettings()
    clear: bool = False


class GetProcess(msgspec.Struct, tag="get_process", frozen=True):
    """Which settings hold for a process or guest. Answer: `ProcessSettings`, none of the first six None."""

    pid: Pid


class GuestSettings(msgspec.Struct, tag="guest_settings", frozen=True):
    """From agent to agent: the settings of a process of mine that you host changed. Answer: `Done`."""

    migration: MigrationName
    settings: ProcessSettings
    clear: bool = False


class SetDecay(msgspec.Struct, tag="set_decay", frozen=True):
    """How fast a node forgets what processes did; "" is the agent's own. Answer: `Done`."""

    decay: NodeDecay
    node: Word = ""


class GetDecay(msgspec.Struct, tag="get_decay", frozen=True):
    """How fast a node forgets what processes did; "" is the agent's own. Answer: `NodeDecay`."""

    node: Word = ""


class Subscribe(msgspec.Struct, tag="subscribe", frozen=True):
    """Be told of every change from now on. Answer: `Done`, then `Notice`s without end, or until `Enough`.

    What happens is as public as the list of processes. Of other nodes it is told as `Elsewhere`, by their
    agents through this one; `Followed` says from when on, and when one is lost: the last word of one that
    was named.

    Attributes:
        node: number, name or address; "" is the agent's own.
        all: the agent's own and all others that are up; those come again when they are up again. More of them
            than an agent follows at a time take turns.
    """

    node: Word = ""
    all: bool = False


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
        mount: where that node has the cluster's files, "" if it has not.
        runnable: for a move of the balancer's: how many runnable tasks the guest adds.
        least_rate: standard seconds per second that it must get for the move to be worth it; 0: whatever.
        leg: 0 for the way from home, a number that tells it from others for a hop from node to node.
        settings: what its owner wants of the balancer.
        files: what it has mapped; are they there too?
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
    mount: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    runnable: float = 0.0
    least_rate: float = 0.0
    settings: ProcessSettings = ProcessSettings()
    files: Annotated[list[Offer], msgspec.Meta(max_length=MOST)] = []


class Views(msgspec.Struct, tag="views", frozen=True):
    """How all nodes are, as far as it is known here, with ages. Answer: `NodeViews`."""


Request = (
    Migrate
    | Reconsider
    | Processes
    | Inspect
    | Calls
    | GuestCalls
    | NodeInfo
    | Whois
    | Nodes
    | SetNodes
    | Switch
    | Lock
    | SetProcess
    | GetProcess
    | GuestSettings
    | SetDecay
    | GetDecay
    | Subscribe
    | PrepareGuest
    | PrepareFiles
    | OpenFiles
    | News
    | Views
    | SetSpeed
    | Tune
    | Expel
    | Bring
)


# ------------------------------------------------------------------------------------------- answers

Result = (
    Moved
    | ProcessList
    | Inspected
    | CallFigures
    | NodeReport
    | NodeName
    | NodeList
    | Done
    | GuestReady
    | FilesReady
    | FilesOpened
    | Heard
    | NodeViews
    | Cleared
    | ProcessSettings
    | NodeDecay
    | Tuned
)


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


class Enough(msgspec.Struct, tag="enough", frozen=True):
    """No more notices for the call with that id. There is no answer; some may be under way."""

    id: Id


class Answer(msgspec.Struct, tag="answer", frozen=True):
    """What was asked for."""

    id: Id
    result: Result


class Part(msgspec.Struct, tag="part", frozen=True):
    """A part of the line of an `Answer` that is too long for one line; see `omtools.agent.parts`."""

    id: Id
    text: str
    last: bool = False


class Failure(msgspec.Struct, tag="failure", frozen=True):
    """Why it is not to be had: an OmError's wire form."""

    id: Id
    error: dict[str, str | int]


class Notice(msgspec.Struct, tag="notice", frozen=True):
    """An event for the call with that id, a subscription."""

    id: Id
    event: Event


ToAgent = Hello | Call | Enough
FromAgent = Hello | Answer | Part | Failure | Notice


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
