"""What all parts of `LocalFiles` stand on: nodes, open files, and the rules of what may be done where."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import TypeVar

from omtools.linux.files import Resolve, openat2, unshare_directory_and_umask
from omtools.omfs.descriptors import Descriptor, raise_limit
from omtools.omfs.exports import Exports, Point
from omtools.omfs.mounts import Unserved
from omtools.omfs.nodes import Node, Nodes, Opened, failure, give_up_some
from omtools.omfs.operations import MAX_TIME, Attributes, Entry, near_time

_T = TypeVar("_T")

_O_NODE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_SHARE = 4  # nodes may hold one in so many of the process's descriptors
_VIRTUAL_MODE = stat.S_IFDIR | 0o555
_GONE = Point(b"")
"""The place of a directory that stands for something that is not served: nothing is below it."""


def check_name(name: bytes) -> None:
    """A name is one step down and nothing else; whether it is too long the file system knows."""
    if not name:
        raise failure(errno.ENOENT)
    if name in {b".", b".."} or b"/" in name or b"\0" in name:
        raise failure(errno.EINVAL)


def check_text(text: bytes) -> bytes:
    """What the kernel takes for a string."""
    if b"\0" in text:
        raise failure(errno.EINVAL)
    return text


def attributes_of(status: os.stat_result) -> Attributes:
    """From what os.stat gives."""
    atime, mtime, ctime = status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns
    if not -MAX_TIME <= atime <= MAX_TIME or not -MAX_TIME <= mtime <= MAX_TIME:
        atime, mtime = near_time(atime), near_time(mtime)
    return Attributes(
        status.st_mode, status.st_ino, status.st_dev, status.st_nlink, status.st_uid, status.st_gid,
        status.st_rdev, status.st_size, status.st_blksize, status.st_blocks, atime, mtime, ctime,
    )  # fmt: skip


class _Umask:
    """The umask of each thread: it is the process's, unless the thread asks for one of its own."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._main = threading.Lock()

    def run(self, umask: int, call: Callable[[], _T]) -> _T:
        if threading.get_native_id() == os.getpid():
            # The main thread's is everybody's who has none of his own: lend it for a moment only.
            with self._main:
                before = os.umask(umask)
                try:
                    return call()
                finally:
                    os.umask(before)
        if getattr(self._own, "umask", None) != umask:
            if not hasattr(self._own, "umask"):
                unshare_directory_and_umask()
            os.umask(umask)
            self._own.umask = umask
        return call()


class LocalBase:
    """Nodes and open files of an exported part of this machine's tree.

    Args:
        exports: what is offered.
        unserved_devices: st_dev of file systems that are not entered (those of /proc's kind, and oMFS where
            it is mounted under its own name, are never entered).
        node_descriptors: how many descriptors nodes may hold; None: a quarter of what the process may have.

    Raises:
        OSError: the directory at the top cannot be opened.
    """

    def __init__(
        self,
        exports: Exports,
        unserved_devices: Iterable[int] = (),
        node_descriptors: int | None = None,
    ) -> None:
        limit = raise_limit()
        self._exports = exports
        self._unserved = Unserved(unserved_devices)
        self._nodes = Nodes(limit // _SHARE if node_descriptors is None else node_descriptors)
        self._opened: dict[int, Opened] = {}
        self._numbers = itertools.count(1)
        self._umask = _Umask()
        top = exports.tree()
        anchor = None
        if top.export is not None:
            anchor = Descriptor(os.open(top.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        self._nodes.set_root(top, anchor)

    def _retry(self, call: Callable[[], _T]) -> _T:
        """Make a call that opens something; where descriptors are short, nodes give some up."""
        try:
            return call()
        except OSError as error:
            if error.errno not in _OUT_OF_DESCRIPTORS or not give_up_some():
                raise
        return call()

    def _anchor(self, number: int) -> tuple[Node, Descriptor]:
        """A real node and its descriptor; virtual ones cannot do what they are asked (EACCES)."""
        node = self._nodes.get(number)
        if node.virtual:
            raise failure(errno.EACCES)
        return node, self._nodes.anchor(node)

    def _directory(self, number: int, name: bytes) -> tuple[Node, Descriptor]:
        """A directory something is to be changed in, under a name that is no export's."""
        node, anchor = self._writable(number)
        if node.kind != stat.S_IFDIR:
            raise failure(errno.ENOTDIR)
        check_name(name)
        if node.point is not None and name in node.point.children:
            raise failure(errno.EBUSY)
        return node, anchor

    def _writable(self, number: int) -> tuple[Node, Descriptor]:
        """A node that is to be changed."""
        node = self._nodes.get(number)
        if node.export is None or node.export.read_only:
            raise failure(errno.EROFS)
        return node, self._nodes.anchor(node)

    def _file(self, number: int) -> Opened:
        """An open file or directory; EBADF."""
        try:
            return self._opened[number]
        except KeyError:
            raise failure(errno.EBADF) from None

    def _enroll(self, opened: Opened) -> int:
        number = next(self._numbers)
        self._opened[number] = opened
        node = opened.node
        node.opened = [*(known for known in node.opened if known() is not None), weakref.ref(opened)]
        return number

    def _find(self, parent: Node, name: bytes) -> Entry:
        """Look a name up: one step, and whatever is there is not followed."""
        if parent.kind != stat.S_IFDIR:
            raise failure(errno.ENOTDIR)
        check_name(name)
        point = parent.point.children.get(name) if parent.point is not None else None
        if parent.virtual:
            if point is None:
                raise failure(errno.ENOENT)
            return self._enter(parent, name, point)
        if point is not None and point.export is not None:
            return self._enter(parent, name, point)
        if self._unserved.hides(parent.device, parent.ino, name):
            return self._virtual_entry(self._nodes.adopt_virtual(parent, name, _GONE))
        assert parent.export is not None  # it is not virtual
        directory = self._nodes.anchor(parent)
        if parent.export.one_file_system:
            stay = Resolve.NO_XDEV | Resolve.BENEATH
            try:
                number = self._retry(lambda: openat2(directory.number, name, _O_NODE, resolve=stay))
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                return self._virtual_entry(self._nodes.adopt_virtual(parent, name, _GONE))
        else:
            asked = self._nodes.now
            status = os.stat(name, dir_fd=directory.number, follow_symlinks=False)
            known = self._nodes.meet_again(status, asked, parent, name, point)
            if known is not None:
                return Entry(known.number, attributes_of(status))
            number = self._retry(lambda: os.open(name, _O_NODE, dir_fd=directory.number))
        node, status = self._nodes.adopt(Descriptor(number), parent, name, parent.export, point)
        if self._unserved.is_on(node.device):
            self._nodes.forget(node.number, 1)
            raise failure(errno.EACCES)
        return Entry(node.number, attributes_of(status))

    def _enter(self, parent: Node, name: bytes, point: Point) -> Entry:
        """Step onto a place of the export tree."""
        if point.export is None:
            return self._virtual_entry(self._nodes.adopt_virtual(parent, name, point))
        anchor = Descriptor(
            self._retry(lambda: os.open(point.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        )
        node, status = self._nodes.adopt(anchor, parent, name, point.export, point)
        node.pinned = True  # its name does not lead there
        return Entry(node.number, attributes_of(status))

    @staticmethod
    def _virtual_entry(node: Node) -> Entry:
        return Entry(node.number, virtual_attributes(node))


def virtual_attributes(node: Node) -> Attributes:
    """Of a directory that only leads to exports, or to nothing."""
    links = 2 + (len(node.point.children) if node.point is not None else 0)
    return Attributes(_VIRTUAL_MODE, node.number, 0, links, 0, 0, 0, 0, 4096, 0, 0, 0, 0)
