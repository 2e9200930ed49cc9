"""An open file that has lost its name: it, or a copy of it, gets one, so that another node can open that."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

from omtools.image.cage_files import NativeTree

DELETED = " (deleted)"  # what the kernel appends in /proc/PID/fd
_PIECE = 1 << 30
_MOST_NAMES = 20_000  # that are looked at for one that leads to a file


def name_of(tree: NativeTree, path: str, status: os.stat_result) -> str:
    """What the guest calls a file of the tree that the kernel calls `path`, "" if no name is known.

    Once the tree is taken out of the cage, the kernel tells names from the tree's top on. The file may have
    lost this name and have others: they are looked for, from where it was.
    """
    for name in (path, tree.path + path):
        if tree.holds(name) and _leads_to(tree, name, status):
            return name
    if not status.st_nlink or stat.S_ISDIR(status.st_mode):
        return ""
    place = os.path.dirname(path.removesuffix(DELETED))
    return _other_name(tree, place if tree.holds(place) else tree.path, status)


def _leads_to(tree: NativeTree, name: str, status: os.stat_result) -> bool:
    try:
        found = os.stat(tree.source + name.removeprefix(tree.path), follow_symlinks=False)
    except (OSError, ValueError):
        return False
    return (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino)


def _other_name(tree: NativeTree, place: str, status: os.stat_result) -> str:
    """Another name of the file, "" if there is none among the nearest. Nobody knows names by inodes."""
    left, seen = _MOST_NAMES, ""
    while True:
        for directory, _directories, names in os.walk(tree.source + place.removeprefix(tree.path)):
            if directory == seen:
                _directories.clear()
                continue
            left -= len(names)
            for name in names if left > 0 else ():
                found = tree.path + os.path.join(directory, name).removeprefix(tree.source)
                if _leads_to(tree, found, status):
                    return found
        if place == tree.path or left <= 0:
            return ""
        seen = tree.source + place.removeprefix(tree.path)
        place = os.path.dirname(place)


@contextlib.contextmanager
def named_again(tree: NativeTree, link: str, path: str, status: os.stat_result) -> Iterator[str]:
    """While this lasts, the file has a name again, or a copy of it has: what the guest would call that.

    A directory that was removed is as good as any other that was.

    Args:
        tree: where the file was.
        link: leads to it, in /proc.
        path: what the kernel calls it, for the guest.
        status: of the file, with the rights that a copy shall have.

    Raises OSError if there can be none.
    """
    if not tree.writable:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    is_directory = stat.S_ISDIR(status.st_mode)

    def make(target: str) -> None:
        if is_directory:
            os.mkdir(target)
        else:
            _copy(link, target, status)

    name = f".{os.path.basename(path.removesuffix(DELETED))[:100]}.{os.urandom(8).hex()}"
    place = _make_somewhere(tree, os.path.dirname(path.removesuffix(DELETED)), name, make)
    made = os.path.join(tree.source + place.removeprefix(tree.path), name)
    try:
        yield os.path.join(place, name)
    finally:
        if not is_directory:
            os.chmod(made, stat.S_IMODE(status.st_mode))
        (os.rmdir if is_directory else os.unlink)(made)


def _make_somewhere(tree: NativeTree, place: str, name: str, make: Callable[[str], None]) -> str:
    """Make it in that directory, or above it, for directories are removed too. Raises OSError."""
    place = place if tree.holds(place) else tree.path
    while True:
        try:
            make(os.path.join(tree.source + place.removeprefix(tree.path), name))
        except (FileNotFoundError, PermissionError):
            if place == tree.path:
                raise
            place = os.path.dirname(place)
        else:
            return place


def pieces(source: int, size: int, most: int) -> Iterator[tuple[int, int]]:
    """Position and length of what is no hole in an open file, in pieces. Raises OSError."""
    position = 0
    while position < size:
        try:
            position = os.lseek(source, position, os.SEEK_DATA)
        except OSError:
            return  # ENXIO: nothing but a hole from here on
        end = min(os.lseek(source, position, os.SEEK_HOLE), size)
        while position < end:
            length = min(end - position, most)
            yield position, length
            position += length


def _copy(link: str, target: str, status: os.stat_result) -> None:
    """The content with its holes and times, for its owner; nothing if that fails. Raises OSError."""
    source = os.open(link, os.O_RDONLY | os.O_CLOEXEC)
    try:
        copy = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(copy, status.st_size)
            for position, length in pieces(source, status.st_size, _PIECE):
                _copy_range(source, copy, position, position + length)
            os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
        except BaseException:
            os.unlink(target)
            raise
        finally:
            os.close(copy)
    finally:
        os.close(source)


def _copy_range(source: int, copy: int, position: int, end: int) -> None:
    while position < end:
        done = os.copy_file_range(source, copy, end - position, position, position)
        if not done:
            return  # somebody has shortened it
        position += done
