"""The nodes of a served tree: which inode each number stands for, and the descriptor that holds it.

As long as a node is known its O_PATH descriptor keeps the inode from being used again, so device and inode
number identify it. When there are more nodes than descriptors may be spent, those that were not used of late
give theirs up and are found again when needed: through an open file, by their handle (with
CAP_DAC_READ_SEARCH), or by the name they were last seen under, and only if that still is the same inode.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import itertools
import os
import stat
import threading
import weakref

from omtools.linux.files import FileHandle, name_to_handle_at, open_by_handle_at
from omtools.omfs.descriptors import Descriptor
from omtools.omfs.exports import Export, Point
from omtools.omfs.operations import ROOT

_O_NODE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def failure(number: int) -> OSError:
    """The OSError of that errno."""
    return OSError(number, os.strerror(number))


class Node:
    """One known inode, or a directory that only leads to exports (`virtual`).

    Attributes:
        number: what clients call it.
        device: st_dev.
        ino: st_ino.
        kind: type bits of the mode.
        export: whose options it goes by; None if it is virtual.
        point: the place among the exports that it is at, if it is at one.
        count: lookups to be forgotten.
        anchor: holds the inode; None while it has given it up.
        identity: the inode's handle, known once the anchor was given up.
        recent: used since the last time descriptors were short.
        pinned: cannot be found again once its descriptor is closed.
        parent: where it was last seen.
        name: under what name.
        opened: open files of it.
        since: when it got its anchor, in terms of `Nodes.now`.
    """

    __slots__ = (
        "anchor", "count", "device", "export", "identity", "ino", "kind", "name", "number", "opened",
        "parent", "pinned", "point", "recent", "since",
    )  # fmt: skip

    def __init__(self, number: int, parent: Node | None, name: bytes, point: Point | None = None) -> None:
        self.number = number
        self.parent = parent
        self.name = name
        self.point = point
        self.device = self.ino = 0
        self.kind = stat.S_IFDIR
        self.export: Export | None = None
        self.count = 0
        self.anchor: Descriptor | None = None
        self.identity: FileHandle | None = None
        self.recent = True
        self.pinned = False
        self.opened: list[weakref.ref[Opened]] = []
        self.since = 0

    @property
    def virtual(self) -> bool:
        """It is no directory of the machine."""
        return self.export is None

    @property
    def key(self) -> tuple[int, int, int]:
        """By what it is found: the same inode under two exports is two nodes."""
        return self.device, self.ino, id(self.export)


class Opened:
    """An open file or directory of a node.

    Attributes:
        node: what it was opened on.
        descriptor: what reads and writes it.
        flags: of open(2), as far as they were heeded.
        append: O_APPEND is set at present.
        owners: who has set POSIX locks through it.
    """

    __slots__ = ("__weakref__", "append", "descriptor", "flags", "node", "owners")

    def __init__(self, node: Node, descriptor: Descriptor, flags: int) -> None:
        self.node = node
        self.descriptor = descriptor
        self.flags = flags
        self.append = bool(flags & os.O_APPEND)
        self.owners: set[int] = set()


_EVERY: weakref.WeakSet[Nodes] = weakref.WeakSet()
"""Of all clients of this process, which share its descriptors."""


def give_up_some() -> bool:
    """Descriptors are short: who holds the most gives up half; False if nobody has any to give."""
    most = max(list(_EVERY), key=lambda nodes: nodes.held, default=None)
    return most is not None and most.shrink()


class Nodes:
    """All nodes that are known.

    Args:
        budget: how many descriptors they may hold between them.

    Attributes:
        now: counts anchors taken; a clock.
    """

    def __init__(self, budget: int) -> None:
        self._budget = max(16, budget)
        self._numbers = itertools.count(ROOT + 1)
        self._by_number: dict[int, Node] = {}
        self._by_key: dict[tuple[int, int, int], Node] = {}
        self._virtual: dict[tuple[int, bytes], Node] = {}
        self._clock: collections.deque[Node] = collections.deque()
        self._held = 0
        self.now = 0
        self._lock = threading.Lock()
        _EVERY.add(self)

    def __len__(self) -> int:
        """How many there are, the root included."""
        return len(self._by_number)

    @property
    def held(self) -> int:
        """How many descriptors they hold."""
        return self._held

    @property
    def complete(self) -> bool:
        """No node has given up its descriptor."""
        return self._held >= len(self._by_key)

    def get(self, number: int) -> Node:
        """The node of that number; ESTALE."""
        try:
            return self._by_number[number]
        except KeyError:
            raise failure(errno.ESTALE) from None

    def anchor(self, node: Node) -> Descriptor:
        """The O_PATH descriptor of a real node; ESTALE if it cannot be found again."""
        anchor = node.anchor
        if anchor is not None:
            node.recent = True
            return anchor
        return self._find_again(node)

    def set_root(self, point: Point, anchor: Descriptor | None) -> Node:
        """Say what the top is."""
        root = Node(ROOT, None, b"", point)
        root.pinned = True
        if anchor is not None:
            self._fill(root, anchor, os.stat(anchor.number), point.export)
            self._by_key[root.key] = root
            self._held += 1
        self._by_number[ROOT] = root
        return root

    def adopt(
        self, anchor: Descriptor, parent: Node, name: bytes, export: Export | None, point: Point | None
    ) -> tuple[Node, os.stat_result]:
        """The node of the inode that was found under a name, counted once more."""
        status = os.stat(anchor.number)
        with self._lock:
            node = self._by_key.get((status.st_dev, status.st_ino, id(export)))
            if node is not None and node.anchor is None and not self._is_same(node, anchor):
                del self._by_key[node.key]  # that inode is gone; who still asks for it is told so
                node.ino = -1
                node = None
            if node is None:
                node = Node(next(self._numbers), parent, name, point)
                self._fill(node, anchor, status, export)
                self._by_key[node.key] = self._by_number[node.number] = node
                self._hold(node)
            elif node.anchor is None:
                node.anchor = anchor
                self._hold(node)
            if node.number != ROOT:
                node.parent, node.name, node.recent = parent, name, True
                node.count += 1
            node.point = node.point or point
        self._shrink_to(self._budget)
        return node, status

    def meet_again(
        self, status: os.stat_result, asked: int, parent: Node, name: bytes, point: Point | None
    ) -> Node | None:
        """The node of an inode that was found under a name, counted once more; None if that is not certain.

        While it is held its number cannot be another inode's, so it need not be opened again to be sure,
        if it was held already when the kernel was asked for its status (`asked`: by the clock `now`).
        """
        with self._lock:
            node = self._by_key.get((status.st_dev, status.st_ino, id(parent.export)))
            if node is None or node.anchor is None or node.since > asked:
                return None
            if node.number != ROOT:
                node.parent, node.name, node.recent = parent, name, True
                node.count += 1
            node.point = node.point or point
        return node

    def adopt_virtual(self, parent: Node, name: bytes, point: Point) -> Node:
        """The virtual directory at a place of the export tree, counted once more."""
        with self._lock:
            node = self._virtual.get((parent.number, name))
            if node is None:
                node = Node(next(self._numbers), parent, name, point)
                self._virtual[parent.number, name] = self._by_number[node.number] = node
            node.count += 1
        return node

    def forget(self, number: int, count: int) -> None:
        """Give back lookups."""
        with self._lock:
            node = self._by_number.get(number)
            if node is None or number == ROOT:
                return
            node.count -= count
            if node.count > 0:
                return
            del self._by_number[number]
            if node.virtual:
                if node.parent is not None:
                    self._virtual.pop((node.parent.number, node.name), None)
            elif self._by_key.get(node.key) is node:
                del self._by_key[node.key]
            if node.anchor is not None:
                self._held -= 1
                node.anchor = None
            node.count = 0

    def clear(self) -> None:
        """Forget all, the root too."""
        with self._lock:
            for node in self._by_number.values():
                node.anchor = None
            self._by_number.clear()
            self._by_key.clear()
            self._virtual.clear()
            self._clock.clear()
            self._held = 0

    def moved(self, status: os.stat_result, export: Export | None, parent: Node, name: bytes) -> None:
        """An inode has got another name."""
        with self._lock:
            node = self._by_key.get((status.st_dev, status.st_ino, id(export)))
            if node is not None and node.number != ROOT:
                node.parent, node.name = parent, name

    def hold_fast(self, status: os.stat_result, export: Export | None) -> None:
        """An inode is about to lose a name: from now on it keeps its descriptor."""
        with self._lock:
            node = self._by_key.get((status.st_dev, status.st_ino, id(export)))
        if node is not None:
            with contextlib.suppress(OSError):
                self.anchor(node)
            node.pinned = True

    def shrink(self) -> bool:
        """Give up half of the descriptors that nodes hold; False if there are none to give."""
        before = self._held
        self._shrink_to(before // 2)
        return self._held < before

    @staticmethod
    def _fill(node: Node, anchor: Descriptor, status: os.stat_result, export: Export | None) -> None:
        node.device, node.ino = status.st_dev, status.st_ino
        node.kind = stat.S_IFMT(status.st_mode)
        node.export = export
        node.anchor = anchor

    def _hold(self, node: Node) -> None:
        self._held += 1
        self.now += 1
        node.since = self.now
        self._clock.append(node)
        if len(self._clock) > 2 * self._held + 1024:  # most of them are forgotten
            self._clock = collections.deque(known for known in self._clock if known.anchor is not None)

    def _shrink_to(self, budget: int) -> None:
        if self._held <= budget:
            return
        with self._lock:
            for _turn in range(2 * len(self._clock)):
                if self._held <= budget or not self._clock:
                    return
                node = self._clock.popleft()
                if node.anchor is None:
                    continue
                if node.recent or node.pinned:
                    node.recent = False
                    self._clock.append(node)
                    continue
                with contextlib.suppress(OSError):  # a file system without handles
                    node.identity = name_to_handle_at(node.anchor.number)
                node.anchor = None
                self._held -= 1

    @staticmethod
    def _is_same(node: Node, anchor: Descriptor) -> bool:
        if node.identity is None:
            return True
        with contextlib.suppress(OSError):
            return name_to_handle_at(anchor.number) == node.identity
        return False

    def _find_again(self, node: Node) -> Descriptor:
        anchor = self._reopen(node)
        with self._lock:
            if node.anchor is not None:
                return node.anchor
            if self._by_number.get(node.number) is node:  # else it lives on as somebody's parent only
                node.anchor = anchor
                node.recent = True
                self._hold(node)
        self._shrink_to(self._budget)
        return anchor

    def _reopen(self, node: Node) -> Descriptor:
        for reference in list(node.opened):
            opened = reference()
            if opened is not None:
                return Descriptor(os.open(opened.descriptor.path, os.O_PATH | os.O_CLOEXEC))
        if node.parent is None or node.parent.virtual:
            raise failure(errno.ESTALE)
        parent = self.anchor(node.parent)
        with contextlib.suppress(OSError):
            anchor = Descriptor(os.open(node.name, _O_NODE, dir_fd=parent.number))
            if _is_on(node, anchor) and self._is_same(node, anchor):
                return anchor
        if node.identity is not None:
            with contextlib.suppress(OSError):
                mount = Descriptor(os.open(parent.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                anchor = Descriptor(open_by_handle_at(mount.number, node.identity, _O_NODE))
                if _is_on(node, anchor):  # the parent may lie on another file system, with handles of its own
                    return anchor
        raise failure(errno.ESTALE)


def _is_on(node: Node, anchor: Descriptor) -> bool:
    status = os.stat(anchor.number)
    return (status.st_dev, status.st_ino) == (node.device, node.ino)
