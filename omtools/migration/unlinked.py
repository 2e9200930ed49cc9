"""An open file that has lost its name: a copy that has one, so that another node can open that."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from omtools.image.cage_files import NativeTree

_DELETED = " (deleted)"  # what the kernel appends in /proc/PID/fd
_PIECE = 1 << 30


@contextlib.contextmanager
def named_again(tree: NativeTree, link: str, path: str) -> Iterator[str]:
    """While this lasts, a copy of the file has a name: what the guest would call it, "" if none can be made.

    Args:
        tree: where the file was.
        link: leads to it, in /proc.
        path: what the kernel calls it, for the guest.
    """
    place = os.path.dirname(path.removesuffix(_DELETED))
    name = f".{os.path.basename(path.removesuffix(_DELETED))[:200]}.{os.urandom(8).hex()}"
    here = os.path.join(tree.source + place.removeprefix(tree.path), name)
    if not tree.holds(place):
        yield ""
        return
    try:
        _copy(link, here)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(here)
        yield ""
        return
    try:
        yield os.path.join(place, name)
    finally:
        os.unlink(here)


def _copy(link: str, target: str) -> None:
    """The content with its holes, the rights and the times. Raises OSError."""
    source = os.open(link, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(source)
        copy = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(copy, status.st_size)
            position = 0
            while position < status.st_size:
                try:
                    position = os.lseek(source, position, os.SEEK_DATA)
                except OSError:
                    break  # ENXIO: nothing but a hole from here on
                end = os.lseek(source, position, os.SEEK_HOLE)
                while position < end:
                    done = os.copy_file_range(source, copy, min(end - position, _PIECE), position, position)
                    if not done:
                        break
                    position += done
            os.fchmod(copy, status.st_mode & 0o7777)
            os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(copy)
    finally:
        os.close(source)
