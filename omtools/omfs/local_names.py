"""Names and nodes of this machine's files: looking up, making, removing, attributes.

Every step goes from an O_PATH descriptor by one name that is not followed, so no symbolic link, no ".." and
no race leads out of what is exported. Where the kernel takes no O_PATH descriptor it gets the magic link of
that very descriptor in /proc, which leads to the inode and nowhere else.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence

from omtools.linux.files import Rename, renameat2, set_times
from omtools.omfs.descriptors import Descriptor
from omtools.omfs.local_base import LocalBase, attributes_of, check_text, virtual_attributes
from omtools.omfs.nodes import Node, failure
from omtools.omfs.operations import UTIME_NOW, Attributes, Caller, Changes, Entry, FileSystem

_NOTHING = Changes()
_VIRTUAL_STATFS = FileSystem(4096, 4096, 0, 0, 0, 0, 0, 0, os.ST_RDONLY, 255)


class LocalNames(LocalBase):
    """The operations of `Files` on names and nodes."""

    def lookup(self, caller: Caller, parent: int, name: bytes) -> Entry:  # noqa: ARG002 - all callers see the same
        """See `Files`."""
        return self._find(self._nodes.get(parent), name)

    def forget(self, batch: Sequence[tuple[int, int]]) -> None:
        """See `Files`."""
        for number, count in batch:
            self._nodes.forget(number, count)

    def getattr(self, caller: Caller, node: int, file: int | None = None) -> Attributes:  # noqa: ARG002
        """See `Files`."""
        if file is not None:
            opened = self._file(file)
            return attributes_of(os.stat(opened.descriptor.number))
        found = self._nodes.get(node)
        if found.virtual:
            return virtual_attributes(found)
        anchor = self._nodes.anchor(found)
        return attributes_of(os.stat(anchor.number))

    def setattr(
        self, caller: Caller, node: int, changes: Changes, file: int | None = None
    ) -> Attributes:
        """See `Files`."""
        found, anchor = self._writable(node)
        try:
            self._change(found, anchor, changes, file)
        except OverflowError as error:  # no such owner, time or size
            raise failure(errno.EINVAL) from error
        return self.getattr(caller, node, file)

    def _change(self, found: Node, anchor: Descriptor, changes: Changes, file: int | None) -> None:
        path = anchor.path
        # Owner before mode: changing the owner takes set-uid bits away. Size before times: it sets them.
        if changes.uid is not None or changes.gid is not None or changes == _NOTHING:
            os.chown(path, _or_same(changes.uid), _or_same(changes.gid))
        if changes.mode is not None:
            if found.kind == stat.S_IFLNK:
                raise failure(errno.EOPNOTSUPP)
            os.chmod(path, stat.S_IMODE(changes.mode))
        if changes.size is not None:
            self._resize(found, anchor, changes.size, file)
        if changes.atime_ns is not None or changes.mtime_ns is not None:
            set_times(os.fspath(path), changes.atime_ns, changes.mtime_ns, UTIME_NOW)

    def _resize(self, node: Node, anchor: Descriptor, size: int, file: int | None) -> None:
        if file is not None:
            opened = self._file(file)
            os.ftruncate(opened.descriptor.number, size)
        elif node.kind == stat.S_IFREG:
            os.truncate(anchor.path, size)
        else:
            raise failure(errno.EISDIR if node.kind == stat.S_IFDIR else errno.EINVAL)

    def readlink(self, caller: Caller, node: int) -> bytes:  # noqa: ARG002
        """See `Files`."""
        found, anchor = self._anchor(node)
        if found.kind != stat.S_IFLNK:
            raise failure(errno.EINVAL)
        return os.readlink(b"", dir_fd=anchor.number)

    # making

    def mknod(self, caller: Caller, parent: int, name: bytes, mode: int, rdev: int) -> Entry:
        """See `Files`."""
        kind = stat.S_IFMT(mode) or stat.S_IFREG
        return self._make(
            caller, parent, name, lambda at: os.mknod(name, kind | stat.S_IMODE(mode), rdev, dir_fd=at)
        )

    def mkdir(self, caller: Caller, parent: int, name: bytes, mode: int) -> Entry:
        """See `Files`."""
        return self._make(caller, parent, name, lambda at: os.mkdir(name, stat.S_IMODE(mode), dir_fd=at))

    def symlink(self, caller: Caller, parent: int, name: bytes, target: bytes) -> Entry:
        """See `Files`."""
        check_text(target)
        return self._make(caller, parent, name, lambda at: os.symlink(target, name, dir_fd=at))

    def link(self, caller: Caller, node: int, parent: int, name: bytes) -> Entry:
        """See `Files`."""
        linked, anchor = self._writable(node)
        if linked.export is not self._nodes.get(parent).export:
            raise failure(errno.EXDEV)
        return self._make(
            caller, parent, name,
            lambda at: os.link(anchor.path, name, dst_dir_fd=at, follow_symlinks=True),
        )  # fmt: skip

    def _make(self, caller: Caller, parent: int, name: bytes, make: Callable[[int], None]) -> Entry:
        directory, anchor = self._directory(parent, name)
        self._umask.run(caller.umask, lambda: make(anchor.number))
        return self._find(directory, name)

    # removing and renaming

    def unlink(self, caller: Caller, parent: int, name: bytes) -> None:  # noqa: ARG002
        """See `Files`."""
        directory, anchor = self._directory(parent, name)
        self._hold_fast(directory, anchor, name)
        os.unlink(name, dir_fd=anchor.number)

    def rmdir(self, caller: Caller, parent: int, name: bytes) -> None:  # noqa: ARG002
        """See `Files`."""
        directory, anchor = self._directory(parent, name)
        self._hold_fast(directory, anchor, name)
        os.rmdir(name, dir_fd=anchor.number)

    def rename(
        self, caller: Caller, parent: int, name: bytes, new_parent: int, new_name: bytes, *, flags: int = 0  # noqa: ARG002
    ) -> None:
        """See `Files`."""
        old, old_anchor = self._directory(parent, name)
        new, new_anchor = self._directory(new_parent, new_name)
        if old.export is not new.export:
            raise failure(errno.EXDEV)
        self._hold_fast(new, new_anchor, new_name)
        if flags:
            renameat2(old_anchor.number, name, new_anchor.number, new_name, Rename(flags))
        else:
            os.rename(name, new_name, src_dir_fd=old_anchor.number, dst_dir_fd=new_anchor.number)
        self._note(new, new_anchor, new_name)
        if flags & Rename.EXCHANGE:
            self._note(old, old_anchor, name)

    def _hold_fast(self, directory: Node, anchor: Descriptor, name: bytes) -> None:
        """A node whose name goes must not have to be found by it."""
        if self._nodes.complete:
            return
        try:
            status = os.stat(name, dir_fd=anchor.number, follow_symlinks=False)
        except OSError:
            return  # the operation itself will say why
        self._nodes.hold_fast(status, directory.export)

    def _note(self, directory: Node, anchor: Descriptor, name: bytes) -> None:
        """Where a node is found from now on."""
        try:
            status = os.stat(name, dir_fd=anchor.number, follow_symlinks=False)
        except OSError:
            return  # renamed again at once
        self._nodes.moved(status, directory.export, directory, name)

    # the rest

    def access(self, caller: Caller, node: int, mask: int) -> None:  # noqa: ARG002
        """See `Files`."""
        found = self._nodes.get(node)
        if mask & os.W_OK and (found.export is None or found.export.read_only):
            raise failure(errno.EROFS)
        if not found.virtual and not os.access(self._nodes.anchor(found).path, mask, effective_ids=True):
            raise failure(errno.EACCES)

    def statfs(self, caller: Caller, node: int) -> FileSystem:  # noqa: ARG002
        """See `Files`."""
        found = self._nodes.get(node)
        if found.virtual:
            return _VIRTUAL_STATFS
        anchor = self._nodes.anchor(found)
        told = os.statvfs(anchor.number)
        return FileSystem(
            told.f_bsize, told.f_frsize, told.f_blocks, told.f_bfree, told.f_bavail,
            told.f_files, told.f_ffree, told.f_favail, told.f_flag, told.f_namemax,
        )  # fmt: skip

    def setxattr(self, caller: Caller, node: int, name: bytes, value: bytes, flags: int = 0) -> None:  # noqa: ARG002
        """See `Files`."""
        os.setxattr(self._writable(node)[1].path, check_text(name), value, flags)

    def getxattr(self, caller: Caller, node: int, name: bytes) -> bytes:  # noqa: ARG002
        """See `Files`."""
        found = self._nodes.get(node)
        if found.virtual:
            raise failure(errno.ENODATA)
        return os.getxattr(self._nodes.anchor(found).path, check_text(name))

    def listxattr(self, caller: Caller, node: int) -> tuple[bytes, ...]:  # noqa: ARG002
        """See `Files`."""
        found = self._nodes.get(node)
        if found.virtual:
            return ()
        return tuple(os.fsencode(name) for name in os.listxattr(self._nodes.anchor(found).path))

    def removexattr(self, caller: Caller, node: int, name: bytes) -> None:  # noqa: ARG002
        """See `Files`."""
        os.removexattr(self._writable(node)[1].path, check_text(name))


def _or_same(owner: int | None) -> int:
    return -1 if owner is None else owner
