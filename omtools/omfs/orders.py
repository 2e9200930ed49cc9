"""What an agent says to its file workers: the one that serves files, the one that mounts all nodes'.

Both are processes of their own that outlive a restart of their agent, as keepers do. An agent hands each a
listening unix socket; whoever connects there sends one JSON object per line and gets one back for each.
"""

from __future__ import annotations

import msgspec

from omtools.migration.orders import Credentials, Endpoint


class ServeOrder(msgspec.Struct, frozen=True):
    """Serve the files of this node with one user's rights.

    Attributes:
        node: number of this node.
        exports: what is offered, in the syntax of `omtools.omfs.exports`.
        uid: the user that the process becomes.
        gid: that user's group.
        groups: the other groups; None: as they are, where they cannot be set.
        stays: also when it has nothing to do, as long as there is an agent.
    """

    node: int
    exports: str
    uid: int
    gid: int
    groups: list[int] | None = None
    stays: bool = True


class Admit(msgspec.Struct, tag="admit", frozen=True):
    """To a server: let one more client in, who has this certificate. Answer: `Admitted`."""

    address: str
    credentials: Credentials


class Admitted(msgspec.Struct, tag="admitted", frozen=True):
    """The client may come to this port."""

    port: int


class MountOrder(msgspec.Struct, frozen=True):
    """Mount the files of all nodes.

    Attributes:
        target: where.
        node: number of this node.
        agent: path of the agent's socket, who is asked for ways to other nodes.
        nodes: names by number.
        exports: this node's own, as in `ServeOrder`.
        everybody: users other than the mounting one may use it.
        directory: of the agent's configuration.
    """

    target: str
    node: int
    agent: str
    nodes: dict[int, str]
    exports: str
    everybody: bool = False
    directory: str = ""


class Renew(msgspec.Struct, tag="renew", frozen=True):
    """To a mount: these are the nodes now, names by number. Answer: `Done`."""

    nodes: dict[int, str]


class Use(msgspec.Struct, frozen=True, array_like=True):
    """What a process has read and written of a node's files by way of the mount."""

    pid: int
    node: int
    read: int
    written: int
    calls: int


class TellUses(msgspec.Struct, tag="tell_uses", frozen=True):
    """To a mount: who uses whose files? Answer: `Uses`."""


class Uses(msgspec.Struct, tag="uses", frozen=True):
    """Sums since each process began."""

    uses: list[Use]


class End(msgspec.Struct, tag="end", frozen=True):
    """To both: end. Answer: `Done`, when it has ended."""


class Done(msgspec.Struct, tag="done", frozen=True):
    """It is done; `error` is the wire form of the OmError if it could not be."""

    error: dict[str, str | int] | None = None


class Way(msgspec.Struct, frozen=True):
    """How a node's files are reached."""

    endpoint: Endpoint
    credentials: Credentials


Question = Admit | Renew | TellUses | End
Reply = Admitted | Uses | Done
