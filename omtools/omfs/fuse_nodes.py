"""Which node of which `Files` each node of a FUSE mount is.

One mount may serve several users, each through `Files` of their own, with numbers of their own. The kernel
knows one number per inode and mount. Both are held together by name: what a second user finds under the
same name of the same directory, with the same inode number, is the same node. Where a user comes to a node
that was not looked up as that user (a working directory, a set-uid program), or that its server has lost
(ESTALE, after a restart), it is looked up again from the root by the names it was last seen under.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
from collections.abc import Iterable

from omtools.omfs.nodes import failure
from omtools.omfs.operations import NOBODY, ROOT, Attributes, Caller, Entry, Files

_MEETING = (stat.S_IFIFO, stat.S_IFSOCK)


class MountNode:
    """One node as the kernel knows it.

    Attributes:
        number: the kernel's.
        parent: where it was last seen; None: the root.
        name: under what name.
        identity: device, inode number and type on its own machine.
        users: its number in each `Files` that has looked it up.
        lookups: how often each has, to be forgotten at the end.
        count: references of the kernel.
        backing: the kernel's id of the file behind (FUSE_PASSTHROUGH), 0 if there is none.
        through: open files that use it.
        plain: open files that do not.
        lockers: who may hold POSIX locks on it, and through whose files.
        apart: it is that user's alone, and not the one that others meet at under that name.
    """

    __slots__ = (
        "apart", "backing", "count", "identity", "lockers", "lookups", "name", "number", "parent", "plain",
        "through", "users",
    )  # fmt: skip

    def __init__(
        self, number: int, parent: MountNode | None, name: bytes, identity: tuple[int, int, int],
        apart: Files | None = None,
    ) -> None:  # fmt: skip
        self.number = number
        self.parent = parent
        self.name = name
        self.identity = identity
        self.apart = apart
        self.users: dict[Files, int] = {}
        self.lookups: dict[Files, int] = {}
        self.count = 0
        self.backing = self.through = self.plain = 0
        self.lockers: set[tuple[Files, int]] = set()


def identity_of(attributes: Attributes) -> tuple[int, int, int]:
    """What stays the same as long as it is the same inode."""
    return attributes.dev, attributes.ino, attributes.mode & 0o170000


def _may_meet(files: Files, entry: Entry) -> bool:
    """Whether a fifo or socket may be opened for all: when it is, the kernel asks nobody."""
    try:
        files.access(NOBODY, entry.node, os.R_OK | os.W_OK)
    except OSError:
        return False
    return True


class MountNodes:
    """All nodes that the kernel knows of one mount."""

    def __init__(self) -> None:
        root = MountNode(ROOT, None, b"", (0, 0, 0))
        root.count = 1
        self._numbers = itertools.count(ROOT + 1)
        self._nodes: dict[int, MountNode] = {ROOT: root}
        self._of_user: dict[tuple[Files, int], MountNode] = {}
        self._by_name: dict[tuple[int, bytes], MountNode] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many there are, the root included."""
        return len(self._nodes)

    def get(self, number: int) -> MountNode:
        """The kernel's node; ESTALE if it is none."""
        try:
            return self._nodes[number]
        except KeyError:
            raise failure(errno.ESTALE) from None

    def adopt(self, files: Files, parent: int, name: bytes, entry: Entry) -> MountNode:
        """The node of an entry that `files` has just found or made; one more reference of the kernel."""
        meeting = stat.S_IFMT(entry.attributes.mode) in _MEETING
        apart = files if meeting and not _may_meet(files, entry) else None
        return self._adopt(files, self.get(parent), name, entry, references=1, apart=apart)

    def _adopt(
        self, files: Files, parent: MountNode, name: bytes, entry: Entry, *, references: int,
        apart: Files | None = None,
    ) -> MountNode:  # fmt: skip
        if entry.node == ROOT:  # a name that leads back to the top
            self._nodes[ROOT].count += references
            return self._nodes[ROOT]
        old = []
        with self._lock:
            node = self._of_user.get((files, entry.node))
            if node is not None and node.apart is not apart and references:  # its rights have changed
                old.append(self._detach(node, files))
                node = None
            if node is None:
                node = self._same(parent, name, identity_of(entry.attributes), apart)
                old.append(self._detach(node, files))
                node.users[files] = entry.node
                node.lookups[files] = 0
                self._of_user[files, entry.node] = node
            self._place(node, parent, name)
            node.lookups[files] += 1
            node.count += references
        if lost := [one for one in old if one is not None]:
            files.forget(lost)
        return node

    def _same(
        self, parent: MountNode, name: bytes, identity: tuple[int, int, int], apart: Files | None
    ) -> MountNode:
        """The node that other users know under that name, or a new one."""
        known = self._by_name.get((parent.number, name)) if apart is None else None
        if known is not None and known.identity == identity:
            return known
        node = MountNode(next(self._numbers), parent, name, identity, apart)
        self._nodes[node.number] = node
        return node

    def _place(self, node: MountNode, parent: MountNode, name: bytes) -> None:
        if node.parent is not parent or node.name != name:
            self._unname(node)
            node.parent, node.name = parent, name
        if node.apart is None:
            self._by_name[parent.number, name] = node

    def _unname(self, node: MountNode) -> None:
        if node.parent is not None and self._by_name.get((node.parent.number, node.name)) is node:
            del self._by_name[node.parent.number, node.name]

    def _detach(self, node: MountNode, files: Files) -> tuple[int, int] | None:
        """Let go of the number that `files` had for it; what is to be forgotten."""
        number = node.users.pop(files, None)
        if number is None:
            return None
        if self._of_user.get((files, number)) is node:
            del self._of_user[files, number]
        return number, node.lookups.pop(files)

    def forget(self, batch: Iterable[tuple[int, int]]) -> None:
        """The kernel drops references: pairs of a node and how many."""
        lost: dict[Files, list[tuple[int, int]]] = {}
        with self._lock:
            for number, count in batch:
                node = self._nodes.get(number)
                if node is None or number == ROOT:
                    continue
                node.count -= count
                if node.count > 0:
                    continue
                del self._nodes[number]
                self._unname(node)
                for files in list(node.users):
                    old = self._detach(node, files)
                    if old is not None:
                        lost.setdefault(files, []).append(old)
        for files, pairs in lost.items():
            files.forget(pairs)

    def moved(self, parent: int, name: bytes, new_parent: int, new_name: bytes, exchange: bool) -> None:
        """A rename has succeeded."""
        with self._lock:
            old = self._by_name.pop((parent, name), None)
            new = self._by_name.pop((new_parent, new_name), None)
            if old is not None and new_parent in self._nodes:
                self._place(old, self._nodes[new_parent], new_name)
            if exchange and new is not None and parent in self._nodes:
                self._place(new, self._nodes[parent], name)

    def of(self, files: Files, number: int, caller: Caller) -> int:
        """The number that the kernel's node has in `files`, looked up if need be; ESTALE."""
        if number == ROOT:
            return ROOT
        node = self.get(number)
        found = node.users.get(files)
        return self._find(files, node, caller) if found is None else found

    def again(self, files: Files, number: int, caller: Caller) -> int:
        """The same after `files` has said ESTALE."""
        node = self.get(number)
        way: MountNode | None = node
        while way is not None:
            with self._lock:
                old = self._detach(way, files)
            if old is not None:
                files.forget([old])
            way = way.parent
        return self.of(files, number, caller)

    def _find(self, files: Files, node: MountNode, caller: Caller) -> int:
        parent = node.parent
        if parent is None:
            return ROOT
        above = self.of(files, parent.number, caller)
        try:
            entry = files.lookup(caller, above, node.name)
        except FileNotFoundError:
            raise failure(errno.ESTALE) from None
        if identity_of(entry.attributes) != node.identity:
            files.forget([(entry.node, 1)])
            raise failure(errno.ESTALE)
        known = self._adopt(files, parent, node.name, entry, references=0)
        if known is not node:  # it has another name by now under which it is another node of the kernel's
            with self._lock:
                node.users[files] = entry.node
                node.lookups[files] = 0
        return entry.node
