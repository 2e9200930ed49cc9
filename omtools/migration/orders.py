"""What an agent and a keeper say to each other: typed, one JSON object per line.

An agent asks the keeper template (`omtools.migration.launch`) for a keeper by an order; the keeper then
listens on its control socket (a unix socket in ``<run>/keepers/``) for as long as it lives, also when the
agent is restarted. Whoever connects gets the keeper's `State` at once and again after every change, and
may send a `Command`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from omtools.image.twins import Twin
from omtools.migration.counts import FileIo
from omtools.migration.reach import Access, Reach

SILENCE = 20.0  # seconds without any sign of the other machine after which a link to it counts as broken

Phase = Literal[
    "linking",   # connecting the two keepers; the process runs undisturbed
    "freezing",  # stopped, its image is being taken
    "sending",   # its image travels
    "away",      # committed: the remote runs, the deputy serves it
    "coming",    # on the way home, or to a third node
    "home",      # it runs at home again, nothing of us is left in it (final)
    "ended",     # the process ended while it was away (final)
    "failed",    # the move was given up, the process runs where it was (final)
]


class Credentials(msgspec.Struct, frozen=True):
    """One side of a link: its own certificate and key, and the one certificate it accepts (all PEM)."""

    certificate: str
    key: str
    peer: str


class Endpoint(msgspec.Struct, frozen=True):
    """Where a guest's keeper listens: an address and port, or a unix socket that leads there."""

    address: str
    port: int
    tunnel: str = ""


class DeputyOrder(msgspec.Struct, tag="deputy", frozen=True):
    """Move process `pid` of this node to the keeper that listens at `endpoint`.

    Attributes:
        migration: unique name of this migration, also in every log line.
        pid: the process, in this node's pid namespace.
        uid: its owner, whom the keeper becomes before it touches the process.
        gid: the owner's group.
        home: number of this node.
        target: number of the node it goes to.
        control: path of the control socket to listen on.
        debug: log every forwarded call.
        dfsa: tell the guest's keeper of open files that it may open itself.
        files: where the cluster's files are at home, to know whose files are read there.
        silence: seconds without a sign of the other node after which the link counts as broken.
        twins: files that the process has mapped and that the target has too.
    """

    migration: str
    pid: int
    uid: int
    gid: int
    home: int
    target: int
    endpoint: Endpoint
    credentials: Credentials
    control: str
    debug: bool = False
    dfsa: bool = False
    files: Reach = Reach()
    silence: float = SILENCE
    twins: list[Twin] = []


class GuestOrder(msgspec.Struct, tag="guest", frozen=True):
    """Wait on `address` for a deputy's keeper, build the process it sends, run it.

    Attributes:
        migration: as in the deputy's order.
        pid: the process's pid at home; the guest has the same in its cage.
        uid: the user the keeper becomes, and as whom the guest is accounted.
        gid: that user's group.
        home: number of the home node.
        node: number of this node.
        hostname: the home node's host name, for uname(2).
        address: local address to bind; the port is chosen and told in `Launched`.
        patience: seconds to wait for the deputy's keeper.
        reach: how the guest's files can be reached from here without the deputy.
        access: how much of that is allowed when it comes; later an `Allow` tells.
        silence: as in the deputy's order.
        twins: this node's own, of files that the process has mapped at home.
    """

    migration: str
    pid: int
    uid: int
    gid: int
    home: int
    node: int
    hostname: str
    address: str
    credentials: Credentials
    control: str
    patience: float = 20.0
    debug: bool = False
    reach: Reach = Reach()
    access: Access = Access()
    silence: float = SILENCE
    twins: list[Twin] = []


class WorkerOrder(msgspec.Struct, tag="worker", frozen=True):
    """Be a worker of the agent's (`omtools.migration.errand`); three descriptors come with the order.

    Attributes:
        module: whose `main` does the work.
        argument: for it.
    """

    module: str
    argument: str


class EndOrder(msgspec.Struct, tag="end", frozen=True):
    """Serve no more orders, and end. Keepers that were forked go on."""


Order = DeputyOrder | GuestOrder | WorkerOrder | EndOrder


class Launched(msgspec.Struct, tag="launched", frozen=True):
    """The template's answer: the keeper's pid, and for a guest's keeper the port it listens on."""

    pid: int
    port: int = 0


class Refused(msgspec.Struct, tag="refused", frozen=True):
    """The template's other answer: an OmError's wire form."""

    error: dict[str, str | int]


class Statistics(msgspec.Struct):
    """Figures of one migration, for `migrate --json`, `mps` and the lessons.

    Attributes:
        frozen_ms: from the stop of the process to its first instruction on the other node.
        total_ms: the whole move, with the preparation during which it still ran.
        bytes_moved: of memory, in the last move.
        calls_forwarded: system calls the deputy did since it left home.
        moves: how often it moved.
        dfsa_bytes: read and written where it ran, by no deputy.
        sent: bytes of memory that have travelled in the move under way.
        to_send: bytes of memory that this move carries, 0 where that is not known, or nothing moves.
    """

    frozen_ms: float = 0.0
    total_ms: float = 0.0
    bytes_moved: int = 0
    calls_forwarded: int = 0
    moves: int = 0
    dfsa_bytes: int = 0
    sent: int = 0
    to_send: int = 0


class CallTimes(msgspec.Struct, frozen=True):
    """How long one kind of forwarded call took, from the guest's trap to its answer.

    Attributes:
        name: of the call.
        calls: how many there were since the process came to this node.
        total_us: how long all of them took, in microseconds.
        bins: how many took less than 1, 2, 4, 8 … microseconds (and not less than the number before).
    """

    name: str
    calls: int
    total_us: int
    bins: list[int]

    @property
    def mean_us(self) -> float:
        """Microseconds of one of them, on average."""
        return self.total_us / self.calls if self.calls else 0.0

    def within_us(self, share: float) -> int:
        """Microseconds within which so large a share (0 to 1) of them was answered: a power of two."""
        seen = 0
        for index, count in enumerate(self.bins):
            seen += count
            if seen >= share * self.calls:
                return 1 << index
        return 1 << len(self.bins)


class State(msgspec.Struct, tag="state"):
    """A keeper's word on its process.

    Attributes:
        role: "deputy" or "guest".
        pid: the process's pid at home.
        local_pid: its pid on this node (for a guest: of the remote, seen from outside its cage).
        node: number of the node where it runs now.
        home: number of its home node.
        reason: why it came home, or why it stays ("" when it was asked to).
        error: wire form of the OmError, in phase "failed".
        exit: "exited N" or "killed N" in phase "ended".
        files: what it has read and written, since it left home, or on a host since it came there.
        calls: how long its forwarded calls took; a guest's, where it was asked for.
        target: number of the node it is leaving home for; 0: for none.
    """

    role: Literal["deputy", "guest"]
    migration: str
    pid: int
    local_pid: int
    uid: int
    home: int
    node: int
    phase: Phase
    statistics: Statistics
    keeper: int = 0
    reason: str = ""
    exit: str = ""
    files: list[FileIo] = []
    error: dict[str, str | int] | None = None
    calls: list[CallTimes] | None = None
    target: int = 0


class Bring(msgspec.Struct, tag="bring", frozen=True):
    """Come home. To a guest's keeper: go home (expel)."""

    reason: str = ""


class Hop(msgspec.Struct, tag="hop", frozen=True):
    """To a deputy's keeper: move the process on to the keeper that listens there."""

    target: int
    endpoint: Endpoint
    credentials: Credentials
    twins: list[Twin] = []


class Allow(msgspec.Struct, tag="allow", frozen=True):
    """The node's switches stand like this now. To both: what is opened from now on goes by them."""

    access: Access


class Ask(msgspec.Struct, tag="ask", frozen=True):
    """Send the State again, with fresh figures; if `calls`, a guest's keeper with those of its calls too."""

    calls: bool = False


Command = Bring | Hop | Allow | Ask
