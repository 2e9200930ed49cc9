"""`ClusterFiles`: the files of all nodes as one tree, as `Files`; of its two halves, open files are here."""

from __future__ import annotations

import errno
import stat
from collections.abc import Sequence

from omtools.migration.places import cluster_inode
from omtools.omfs.cluster_names import ClusterNames
from omtools.omfs.handles import Member, Place, inode_of_names
from omtools.omfs.nodes import failure
from omtools.omfs.operations import (
    ROOT,
    Buffer,
    Caller,
    Created,
    DirectoryEntry,
    EntryPlus,
    Files,
    Interrupt,
    Lock,
)
from omtools.omfs.tree import Kind

_DT_DIR = stat.S_IFDIR >> 12
_KINDS = {Kind.LINK: stat.S_IFLNK >> 12, Kind.SELECT: stat.S_IFREG >> 12}


class ClusterFiles(ClusterNames):
    """The files of all nodes.

    Args:
        tree: what the top looks like at present (it may change with the map).
        facts: of the processes that ask.
        open_node: makes the `Files` of a node, of this one too; raises OSError (EHOSTDOWN, EACCES …). They
            are closed by `drop` and `close`.
    """

    @property
    def in_use(self) -> bool:
        """Something is open."""
        return self._handles.in_use

    # opening

    def open(self, caller: Caller, node: int, flags: int) -> int:
        """See `Files`."""
        if (at := self._theirs(node)) is not None:
            file = at[0].files.open(caller, at[1], flags)
            return self._handles.enroll(at[0], file, self._handles.place(node))
        top = self._handles.place(node)
        if top.name is not None and top.name.kind is Kind.SELECT:
            return self._handles.enroll(None, caller.pid, top)
        with self._at(caller, node) as (member, theirs, place):
            return self._handles.enroll(member, member.files.open(caller, theirs, flags), place)

    def create(self, caller: Caller, parent: int, name: bytes, flags: int, mode: int) -> Created:
        """See `Files`."""
        with self._at(caller, parent, creating=True) as (member, theirs, place):
            made = member.files.create(caller, theirs, name, flags, mode)
            entry = self._handles.adopt(member, made.entry)
            if place.path is not None:
                self._facts.set_magic(caller.pid, member.node)
            return Created(entry, self._handles.enroll(member, made.file, self._handles.place(entry.node)))

    def tmpfile(self, caller: Caller, directory: int, flags: int, mode: int) -> Created:
        """See `Files`."""
        with self._at(caller, directory, creating=True) as (member, theirs, _place):
            made = member.files.tmpfile(caller, theirs, flags, mode)
            entry = self._handles.adopt(member, made.entry)
            return Created(entry, self._handles.enroll(member, made.file, self._handles.place(entry.node)))

    def opendir(self, caller: Caller, node: int) -> int:
        """See `Files`."""
        if node == ROOT:
            return self._handles.enroll(None, 0, self._handles.place(ROOT))
        with self._at(caller, node) as (member, theirs, place):
            return self._handles.enroll(member, member.files.opendir(caller, theirs), place)

    # open files

    def _opened(self, file: int) -> tuple[Files, int]:
        member, number, _place = self._handles.opened(file)
        if member is None:
            raise failure(errno.EISDIR)
        self._check(member)
        return member.files, number

    def _chooser(self, file: int) -> int | None:
        """The process that has it open, if it is the file that chooses a node."""
        member, number, place = self._handles.opened(file)
        chooses = member is None and place.name is not None and place.name.kind is Kind.SELECT
        return number if chooses else None

    def _chosen(self, pid: int, offset: int, size: int) -> bytes:
        return (b"%d\n" % (self._facts.selected(pid) or 0))[offset : offset + size]

    def _choose(self, pid: int, word: bytes) -> None:
        try:
            self._facts.select(pid, self._tree().choice(word))
        except ValueError:
            raise failure(errno.EINVAL) from None

    def read(self, file: int, offset: int, size: int) -> bytes:
        """See `Files`."""
        if (pid := self._chooser(file)) is not None:
            return self._chosen(pid, offset, size)
        files, number = self._opened(file)
        return files.read(number, offset, size)

    def read_into(self, file: int, offset: int, buffer: memoryview) -> int:
        """See `Files`."""
        if (pid := self._chooser(file)) is not None:
            data = self._chosen(pid, offset, len(buffer))
            buffer[: len(data)] = data
            return len(data)
        files, number = self._opened(file)
        return files.read_into(number, offset, buffer)

    def write(self, file: int, offset: int, data: Buffer, append: bool | None = None) -> int:
        """See `Files`."""
        if (pid := self._chooser(file)) is not None:
            self._choose(pid, bytes(data))
            return len(data)
        files, number = self._opened(file)
        return files.write(number, offset, data, append)

    def flush(self, file: int, owner: int = 0) -> None:
        """See `Files`."""
        if self._chooser(file) is not None:
            return
        files, number = self._opened(file)
        files.flush(number, owner)

    def release(self, file: int) -> None:
        """See `Files`."""
        ended = self._handles.end(file)
        if ended is not None and ended[0] is not None and not ended[0].gone:
            ended[0].files.release(ended[1])

    def fsync(self, file: int, datasync: bool = False) -> None:
        """See `Files`."""
        files, number = self._opened(file)
        files.fsync(number, datasync)

    def fallocate(self, file: int, mode: int, offset: int, length: int) -> None:
        """See `Files`."""
        files, number = self._opened(file)
        files.fallocate(number, mode, offset, length)

    def lseek(self, file: int, offset: int, whence: int) -> int:
        """See `Files`."""
        files, number = self._opened(file)
        return files.lseek(number, offset, whence)

    def copy_file_range(
        self, source: int, source_offset: int, target: int, target_offset: int, size: int
    ) -> int:
        """See `Files`."""
        files, number = self._opened(source)
        others, other = self._opened(target)
        if files is not others:
            raise failure(errno.EXDEV)
        return files.copy_file_range(number, source_offset, other, target_offset, size)

    def descriptor(self, file: int) -> int | None:
        """See `Files`."""
        member, number, _place = self._handles.opened(file)
        return None if member is None else member.files.descriptor(number)

    # directories

    def readdir(self, file: int, cookie: int, limit: int = 512) -> Sequence[DirectoryEntry]:
        """See `Files`."""
        member, number, place = self._handles.opened(file)
        if member is None:
            return self._top_listing()[cookie : cookie + limit]
        return [self._listed(member, listed, place) for listed in member.files.readdir(number, cookie, limit)]

    def readdirplus(
        self, caller: Caller, file: int, cookie: int, limit: int = 512
    ) -> Sequence[EntryPlus]:
        """See `Files`."""
        member, number, place = self._handles.opened(file)
        if member is None:  # without the nodes: to list the top must not wait for one that is down
            return [EntryPlus(listed, None) for listed in self.readdir(file, cookie, limit)]
        found = member.files.readdirplus(caller, number, cookie, limit)
        return [self._plus(member, plus, place) for plus in found]

    def _top_listing(self) -> list[DirectoryEntry]:
        listed = [DirectoryEntry(b".", ROOT, _DT_DIR, 1), DirectoryEntry(b"..", ROOT, _DT_DIR, 2)]
        for cookie, name in enumerate(self._tree().names, 3):
            kind = _KINDS.get(name.kind, _DT_DIR)
            listed.append(DirectoryEntry(name.name, inode_of_names(name.name), kind, cookie))
        return listed

    def _plus(self, member: Member, plus: EntryPlus, place: Place) -> EntryPlus:
        listed = self._listed(member, plus.listed, place)
        if plus.entry is None:
            return EntryPlus(listed, None)
        return EntryPlus(listed, self._adopt(member, plus.entry, place, plus.listed.name))

    @staticmethod
    def _listed(member: Member, listed: DirectoryEntry, place: Place) -> DirectoryEntry:
        return listed._replace(ino=cluster_inode(member.node, place.device, listed.ino))

    def releasedir(self, file: int) -> None:
        """See `Files`."""
        ended = self._handles.end(file)
        if ended is not None and ended[0] is not None and not ended[0].gone:
            ended[0].files.releasedir(ended[1])

    def fsyncdir(self, file: int, datasync: bool = False) -> None:
        """See `Files`."""
        member, number, _place = self._handles.opened(file)
        if member is not None:
            member.files.fsyncdir(number, datasync)

    # locks

    def getlk(self, file: int, owner: int, lock: Lock) -> Lock | None:
        """See `Files`."""
        files, number = self._opened(file)
        return files.getlk(number, owner, lock)

    def setlk(
        self, file: int, owner: int, lock: Lock, wait: bool = False, interrupt: Interrupt | None = None
    ) -> None:
        """See `Files`."""
        files, number = self._opened(file)
        files.setlk(number, owner, lock, wait, interrupt)

    def flock(
        self, file: int, operation: int, wait: bool = False, interrupt: Interrupt | None = None
    ) -> None:
        """See `Files`."""
        files, number = self._opened(file)
        files.flock(number, operation, wait, interrupt)

    def close(self) -> None:
        """See `Files`."""
        for node in list(self._members):
            self.drop(node)
