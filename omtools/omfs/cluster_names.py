"""Names and nodes of all nodes' files as one tree; how it looks `omtools.omfs.tree` says."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence

from omtools.omfs.handles import Handles, Member, Place, inode_of_names
from omtools.omfs.nodes import failure
from omtools.omfs.operations import (
    ROOT,
    Attributes,
    Caller,
    Changes,
    Entry,
    Files,
    FileSystem,
)
from omtools.omfs.tree import ClusterTree, Kind, Name, ProcessFacts

_TOP_STATFS = FileSystem(4096, 4096, 0, 0, 0, 0, 0, 0, os.ST_RDONLY, 255)
_DIRECTORY = stat.S_IFDIR | 0o555
_MODES = {Kind.LINK: stat.S_IFLNK | 0o777, Kind.SELECT: stat.S_IFREG | 0o666}


class ClusterNames:
    """Names, nodes and which node's they are; open files are `ClusterFiles`'s.

    Args:
        tree: what the top looks like at present (it may change with the map).
        facts: of the processes that ask.
        open_node: makes the `Files` of a node, of this one too; raises OSError (EHOSTDOWN, EACCES …). They
            are closed by `drop` and `close`.
    """

    def __init__(
        self, tree: Callable[[], ClusterTree], facts: ProcessFacts, open_node: Callable[[int], Files]
    ) -> None:
        self._tree = tree
        self._facts = facts
        self._open_node = open_node
        self._handles = Handles()
        self._members: dict[int, Member] = {}
        self._lock = threading.Lock()

    # members

    def _member(self, node: int) -> Member:
        if not self._tree().has(node):
            self.drop(node)
            raise failure(errno.ENOENT)
        member = self._members.get(node)
        if member is None:
            made = Member(node, self._open_node(node))
            with self._lock:
                member = self._members.setdefault(node, made)
            if member is not made:  # another thread was quicker
                made.files.close()
        return member

    def _check(self, member: Member) -> None:
        """Its node may have left the cluster: ESTALE."""
        if not self._tree().has(member.node):
            self.drop(member.node)
            raise failure(errno.ESTALE)

    def drop(self, node: int) -> None:
        """A node has left the cluster, or shall be opened anew: what is known of its files is stale."""
        with self._lock:
            member = self._members.pop(node, None)
        if member is not None:
            member.gone = True
            member.files.close()

    # where things are

    def _walk(self, caller: Caller, member: Member, path: tuple[bytes, ...]) -> tuple[int, Attributes]:
        """A path below a member's root: its node, counted once more, and attributes."""
        node = ROOT
        attributes = member.files.getattr(caller, ROOT)
        for name in path:
            before = node
            try:
                if not stat.S_ISDIR(attributes.mode):
                    raise failure(errno.ENOTDIR)
                node, attributes = member.files.lookup(caller, before, name)
            finally:
                if before != ROOT:
                    member.files.forget([(before, 1)])
        return node, attributes

    def _theirs(self, number: int) -> tuple[Member, int] | None:
        """`_at` for what is frequent: whose a node is and its handle there; None where `_at` has to say."""
        place = self._handles.place(number)
        member = place.member
        if member is None or place.path is not None:
            return None
        self._check(member)
        return member, place.theirs

    @contextlib.contextmanager
    def _at(self, caller: Caller, number: int, creating: bool = False) -> Iterator[tuple[Member, int, Place]]:
        """The member that serves a node and the node's handle there; EROFS at the top itself."""
        place = self._handles.place(number)
        if place.member is not None:
            self._check(place.member)
            yield place.member, place.theirs, place
            return
        if place.path is None:
            raise failure(errno.EROFS)
        where, look = ClusterTree.magic_nodes(self._facts, caller.pid)
        member = self._member(where if creating else look)
        node, attributes = self._walk(caller, member, place.path)
        try:
            yield member, node, Place(member, node, attributes.dev, path=place.path)
        finally:
            if node != ROOT:
                member.files.forget([(node, 1)])

    def _adopt(self, member: Member, entry: Entry, place: Place, name: bytes) -> Entry:
        """An entry of a member; what is a directory below `magic` stays in there."""
        if place.path is None or not stat.S_ISDIR(entry.attributes.mode):
            return self._handles.adopt(member, entry)
        member.files.forget([(entry.node, 1)])
        return self._magic_entry((*place.path, name), entry.attributes)

    def _magic_entry(self, path: tuple[bytes, ...], attributes: Attributes) -> Entry:
        changed = self._magic_attributes(path, attributes)
        return self._handles.adopt_special(("magic", path), Place(path=path), changed)

    @staticmethod
    def _magic_attributes(path: tuple[bytes, ...], attributes: Attributes) -> Attributes:
        # An inode number of its own: to the kernel it is another directory than the one on the node.
        return attributes._replace(ino=inode_of_names(b"", *path), dev=0)

    # the top

    def _top(self, caller: Caller, name: Name) -> Entry:
        if name.kind is Kind.NODE:
            member = self._member(name.node)
            return self._handles.adopt(member, Entry(ROOT, member.files.getattr(caller, ROOT)))
        if name.kind is Kind.MAGIC:
            return self._magic_entry((), self._top_attributes(_DIRECTORY, 2))
        attributes = self._top_attributes(_MODES[name.kind], 0, name)
        return self._handles.adopt_special(name, Place(name=name), attributes)

    @staticmethod
    def _top_attributes(mode: int, ino: int, name: Name | None = None) -> Attributes:
        if name is not None:
            ino = inode_of_names(name.name)
        return Attributes(mode, ino, 0, 2 if stat.S_ISDIR(mode) else 1, 0, 0, 0, 0, 4096, 0, 0, 0, 0)

    # operations

    def lookup(self, caller: Caller, parent: int, name: bytes) -> Entry:
        """See `Files`."""
        if (at := self._theirs(parent)) is not None:
            return self._handles.adopt(at[0], at[0].files.lookup(caller, at[1], name))
        if parent == ROOT:
            found = self._tree().find(name)
            if found is None:
                raise failure(errno.ENOENT)
            return self._top(caller, found)
        if self._handles.place(parent).name is not None:
            raise failure(errno.ENOTDIR)
        with self._at(caller, parent) as (member, theirs, place):
            return self._adopt(member, member.files.lookup(caller, theirs, name), place, name)

    def forget(self, batch: Sequence[tuple[int, int]]) -> None:
        """See `Files`."""
        for member, told in self._handles.forget(list(batch)).items():
            member.files.forget(told)

    def getattr(self, caller: Caller, node: int, file: int | None = None) -> Attributes:
        """See `Files`."""
        if file is not None:
            opened, number, _place = self._handles.opened(file)
            if opened is not None:
                place = self._handles.place(node)
                told = opened.files.getattr(caller, place.theirs or ROOT, number)
                return self._handles.attributes(opened, told)
        if (at := self._theirs(node)) is not None:
            return self._handles.attributes(at[0], at[0].files.getattr(caller, at[1]))
        place = self._handles.place(node)
        if node == ROOT:
            return self._top_attributes(_DIRECTORY, ROOT)
        if place.name is not None:
            return self._top_attributes(_MODES[place.name.kind], 0, place.name)
        with self._at(caller, node) as (member, theirs, _found):
            told = member.files.getattr(caller, theirs)
        if place.path is not None:
            return self._magic_attributes(place.path, told)
        return self._handles.attributes(member, told)

    def setattr(
        self, caller: Caller, node: int, changes: Changes, file: int | None = None
    ) -> Attributes:
        """See `Files`."""
        number = None if file is None else self._handles.opened(file)[1]
        with self._at(caller, node) as (member, theirs, place):
            told = member.files.setattr(caller, theirs, changes, number)
        return self._handles.attributes(member, told) if place.path is None else self.getattr(caller, node)

    def readlink(self, caller: Caller, node: int) -> bytes:
        """See `Files`."""
        name = self._handles.place(node).name
        if name is not None:
            if name.kind is not Kind.LINK:
                raise failure(errno.EINVAL)
            target = ClusterTree.target(name, self._facts, caller.pid)
            if target is None:
                raise failure(errno.ENOENT)
            return b"%d" % target
        if node == ROOT:
            raise failure(errno.EINVAL)
        with self._at(caller, node) as (member, theirs, _place):
            return member.files.readlink(caller, theirs)

    def mknod(self, caller: Caller, parent: int, name: bytes, mode: int, rdev: int) -> Entry:
        """See `Files`."""
        with self._at(caller, parent) as (member, theirs, place):
            return self._adopt(member, member.files.mknod(caller, theirs, name, mode, rdev), place, name)

    def mkdir(self, caller: Caller, parent: int, name: bytes, mode: int) -> Entry:
        """See `Files`."""
        with self._at(caller, parent) as (member, theirs, place):
            return self._adopt(member, member.files.mkdir(caller, theirs, name, mode), place, name)

    def symlink(self, caller: Caller, parent: int, name: bytes, target: bytes) -> Entry:
        """See `Files`."""
        with self._at(caller, parent) as (member, theirs, place):
            return self._adopt(member, member.files.symlink(caller, theirs, name, target), place, name)

    def link(self, caller: Caller, node: int, parent: int, name: bytes) -> Entry:
        """See `Files`."""
        with self._at(caller, node) as (member, linked, _from), self._at(caller, parent) as (other, at, to):
            if member is not other:
                raise failure(errno.EXDEV)
            return self._adopt(member, member.files.link(caller, linked, at, name), to, name)

    def unlink(self, caller: Caller, parent: int, name: bytes) -> None:
        """See `Files`."""
        if (at := self._theirs(parent)) is not None:
            at[0].files.unlink(caller, at[1], name)
            return
        with self._at(caller, parent) as (member, theirs, _place):
            member.files.unlink(caller, theirs, name)

    def rmdir(self, caller: Caller, parent: int, name: bytes) -> None:
        """See `Files`."""
        with self._at(caller, parent) as (member, theirs, _place):
            member.files.rmdir(caller, theirs, name)

    def rename(
        self, caller: Caller, parent: int, name: bytes, new_parent: int, new_name: bytes, *, flags: int = 0
    ) -> None:
        """See `Files`."""
        with (
            self._at(caller, parent) as (member, old, _from),
            self._at(caller, new_parent) as (other, new, _to),
        ):
            if member is not other:
                raise failure(errno.EXDEV)
            member.files.rename(caller, old, name, new, new_name, flags=flags)

    def access(self, caller: Caller, node: int, mask: int) -> None:
        """See `Files`."""
        place = self._handles.place(node)
        if place.member is None and place.path is None:
            if mask & os.W_OK and (place.name is None or place.name.kind is not Kind.SELECT):
                raise failure(errno.EROFS)
            return
        with self._at(caller, node) as (member, theirs, _place):
            member.files.access(caller, theirs, mask)

    def statfs(self, caller: Caller, node: int) -> FileSystem:
        """See `Files`."""
        place = self._handles.place(node)
        if place.member is None and place.path is None:
            return _TOP_STATFS
        with self._at(caller, node) as (member, theirs, _place):
            return member.files.statfs(caller, theirs)

    def setxattr(self, caller: Caller, node: int, name: bytes, value: bytes, flags: int = 0) -> None:
        """See `Files`."""
        with self._at(caller, node) as (member, theirs, _place):
            member.files.setxattr(caller, theirs, name, value, flags)

    def getxattr(self, caller: Caller, node: int, name: bytes) -> bytes:
        """See `Files`."""
        place = self._handles.place(node)
        if place.member is None and place.path is None:
            raise failure(errno.ENODATA)
        with self._at(caller, node) as (member, theirs, _place):
            return member.files.getxattr(caller, theirs, name)

    def listxattr(self, caller: Caller, node: int) -> tuple[bytes, ...]:
        """See `Files`."""
        place = self._handles.place(node)
        if place.member is None and place.path is None:
            return ()
        with self._at(caller, node) as (member, theirs, _place):
            return member.files.listxattr(caller, theirs)

    def removexattr(self, caller: Caller, node: int, name: bytes) -> None:
        """See `Files`."""
        with self._at(caller, node) as (member, theirs, _place):
            member.files.removexattr(caller, theirs, name)
