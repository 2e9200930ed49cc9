"""What each question of the protocol asks of `Files`: one line per kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from omtools.omfs.operations import NOBODY, Caller, Created, Entry, Files
from omtools.omfs.wire import LISTED_MAX, MAX_BODY, Kind

_LISTED = MAX_BODY // LISTED_MAX
"""So many entries fit into an answer whatever their names."""


def _readdirplus(files: Files, file: int, cookie: int, limit: int) -> Any:
    listing = files.readdirplus(NOBODY, file, cookie, min(limit, _LISTED))
    files.forget([(plus.entry.node, 1) for plus in listing[_LISTED:] if plus.entry is not None])
    return listing[:_LISTED]


HANDLERS: dict[Kind, Callable[..., Any]] = {
    Kind.LOOKUP: lambda files, *asked: files.lookup(NOBODY, *asked),
    Kind.GETATTR: lambda files, node, file: files.getattr(NOBODY, node, file or None),
    Kind.SETATTR: lambda files, *asked: files.setattr(NOBODY, *asked),
    Kind.READLINK: lambda files, node: files.readlink(NOBODY, node),
    Kind.MKNOD: lambda files, *asked: files.mknod(Caller(0, asked[-1]), *asked[:-1]),
    Kind.MKDIR: lambda files, parent, mode, umask, name: files.mkdir(Caller(0, umask), parent, name, mode),
    Kind.SYMLINK: lambda files, parent, name, target, umask: files.symlink(
        Caller(0, umask), parent, name, target
    ),
    Kind.LINK: lambda files, *asked: files.link(NOBODY, *asked),
    Kind.UNLINK: lambda files, *asked: files.unlink(NOBODY, *asked),
    Kind.RMDIR: lambda files, *asked: files.rmdir(NOBODY, *asked),
    Kind.RENAME: lambda files, *asked: files.rename(NOBODY, *asked[:-1], flags=asked[-1]),
    Kind.ACCESS: lambda files, node, mask: files.access(NOBODY, node, mask),
    Kind.STATFS: lambda files, node: files.statfs(NOBODY, node),
    Kind.SETXATTR: lambda files, *asked: files.setxattr(NOBODY, *asked),
    Kind.GETXATTR: lambda files, *asked: files.getxattr(NOBODY, *asked),
    Kind.LISTXATTR: lambda files, node: files.listxattr(NOBODY, node),
    Kind.REMOVEXATTR: lambda files, *asked: files.removexattr(NOBODY, *asked),
    Kind.OPEN: lambda files, node, flags: files.open(NOBODY, node, flags),
    Kind.CREATE: lambda files, parent, flags, mode, umask, name: files.create(
        Caller(0, umask), parent, name, flags, mode
    ),
    Kind.TMPFILE: lambda files, directory, flags, mode, umask: files.tmpfile(
        Caller(0, umask), directory, flags, mode
    ),
    Kind.OPENDIR: lambda files, node: files.opendir(NOBODY, node),
    Kind.READ: lambda files, *asked: files.read(*asked),
    Kind.WRITE: lambda files, *asked: files.write(*asked),
    Kind.FLUSH: lambda files, *asked: files.flush(*asked),
    Kind.RELEASE: lambda files, file: files.release(file),
    Kind.FSYNC: lambda files, *asked: files.fsync(*asked),
    Kind.FALLOCATE: lambda files, *asked: files.fallocate(*asked),
    Kind.LSEEK: lambda files, *asked: files.lseek(*asked),
    Kind.COPY_FILE_RANGE: lambda files, *asked: files.copy_file_range(*asked),
    Kind.READDIR: lambda files, *asked: files.readdir(*asked)[:_LISTED],
    Kind.READDIRPLUS: _readdirplus,
    Kind.RELEASEDIR: lambda files, file: files.releasedir(file),
    Kind.FSYNCDIR: lambda files, *asked: files.fsyncdir(*asked),
    Kind.GETLK: lambda files, *asked: files.getlk(*asked),
    Kind.SETLK: lambda files, file, owner, lock, _wait: files.setlk(file, owner, lock),
    Kind.FLOCK: lambda files, file, operation, _wait: files.flock(file, operation),
}
"""Called with the `Files` and what the question's body holds; waiting for locks is the server's affair."""


def undo(files: Files, answer: Any, kind: Kind) -> None:
    """The answer could not be delivered: nobody knows of what it holds, so it is given back."""
    if kind == Kind.OPEN:
        files.release(answer)
    elif kind == Kind.OPENDIR:
        files.releasedir(answer)
    elif isinstance(answer, Created):
        files.release(answer.file)
        files.forget([(answer.entry.node, 1)])
    elif isinstance(answer, Entry):
        files.forget([(answer.node, 1)])
    elif kind == Kind.READDIRPLUS:
        files.forget([(plus.entry.node, 1) for plus in answer if plus.entry is not None])
