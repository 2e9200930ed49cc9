"""How files are reached from a node, as orders say it; cheap to import."""

from __future__ import annotations

import msgspec
from msgspec import structs


class Export(msgspec.Struct, frozen=True):
    """A tree that this node lets others use."""

    root: str
    writable: bool = True


class Reach(msgspec.Struct, frozen=True):
    """How files are reached from the node of a guest.

    Attributes:
        home_mount: where the cluster's file system is mounted at home, "" if it is not.
        mount: where it is mounted here, "" if it is not.
        names: numbers of the nodes by every name under which they stand there.
        exports: the trees of this node that others may use.
        root: what is ``/`` to the others; another directory only for nodes without a root of their own.
    """

    home_mount: str = ""
    mount: str = ""
    names: dict[str, int] = {}
    exports: list[Export] = []
    root: str = "/"

    def within(self, access: Access) -> Reach:
        """What of it is allowed at present."""
        if not access.dfsa:
            return Reach()
        return self if access.mfs else structs.replace(self, exports=[])


class Access(msgspec.Struct, frozen=True):
    """How a node's switches stand.

    Attributes:
        dfsa: processes open their files where they run.
        mfs: others get its files.
    """

    dfsa: bool = True
    mfs: bool = True
