"""Which files of a process could be opened where it goes (DFSA): looked at from its home node."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from msgspec import structs

from omtools.image.model import OpenFile
from omtools.linux.libc import syscall
from omtools.linux.names import is_text

_SYS_KCMP, _KCMP_FILE = 312, 0  # <asm/unistd_64.h>, <linux/kcmp.h>
_O_PATH, _O_TMPFILE = os.O_PATH, os.O_TMPFILE
_NOT_FILES = ("/proc/", "/sys/", "/dev/")  # whose content is the node's own


def look(pid: int, number: int) -> OpenFile | None:
    """The file behind a descriptor, if it is a regular one that has this name; its position is left out."""
    link = f"/proc/{pid}/fd/{number}"
    try:
        path = os.readlink(link)
        status = os.stat(link)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or not path.startswith("/") or path.startswith(_NOT_FILES):
        return None
    if not is_text(path):
        return None
    try:
        named = os.stat(path, follow_symlinks=False)
        flags, _position = details(pid, number)
    except (OSError, ValueError):
        return None  # it has been unlinked, or lies in another mount namespace
    if (named.st_dev, named.st_ino) != (status.st_dev, status.st_ino) or flags & _O_PATH:
        return None
    return OpenFile((number,), path, status.st_ino, status.st_dev, flags, 0)


def details(pid: int, number: int) -> tuple[int, int]:
    """Flags and position, by /proc/PID/fdinfo (proc_pid_fdinfo(5)). Raises OSError, ValueError."""
    words = _information(pid, number)
    return int(words["flags"], 8), int(words["pos"])


def _information(pid: int, number: int) -> dict[str, str]:
    with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as file:
        return dict(line.split(":", 1) for line in file if ":" in line)


def descriptor_flags(pid: int, number: int) -> int:
    """How a process's descriptor was opened, with O_CLOEXEC as it is now; raises OSError, ValueError."""
    return details(pid, number)[0]


def holds_locks(pid: int) -> bool:
    """It holds a lock on any file that it has open, or had one taken for it: proc_pid_fdinfo(5), "lock:"."""
    for number in _numbers(pid):
        try:
            with open(f"/proc/{pid}/fdinfo/{number}", "rb") as file:
                if b"\nlock:" in file.read():
                    return True
        except OSError:
            continue
    return False


def same_open_file(pid: int, number: int, other: int, other_number: int) -> bool:
    """kcmp(2): two descriptors of two processes are the same open file; False if one of them is none."""
    try:
        return syscall(_SYS_KCMP, pid, other, _KCMP_FILE, number, other_number) == 0
    except OSError:
        return False


def opened_elsewhere(pid: int, wanted: tuple[int, int]) -> bool:
    """Another process, as far as we may see them, has the file of that device and inode open too.

    A descriptor by which nothing can be read or written (O_PATH) does not count, nor do the caller's own.
    Only what has that inode number is asked for more: of others the server may be dead, or be ourselves.
    """
    for other in _others(pid):
        for number in _numbers(other):
            try:
                words = _information(other, number)
                if int(words.get("ino", wanted[1])) != wanted[1] or int(words["flags"], 8) & _O_PATH:
                    continue
                found = os.stat(f"/proc/{other}/fd/{number}")
                if (found.st_dev, found.st_ino) == wanted:
                    return True
            except (OSError, ValueError, KeyError):
                continue
    return False


def own_files(pid: int) -> list[OpenFile]:
    """The regular files that a process has open and shares with no other process, one entry each.

    It may take milliseconds: to be called while the process still runs.
    """
    found: list[OpenFile] = []
    for number in _numbers(pid):
        if (file := look(pid, number)) is None:
            continue
        for index, other in enumerate(found):
            if other.path == file.path and _one_file(pid, other.numbers[0], pid, number):
                found[index] = structs.replace(other, numbers=(*other.numbers, number))
                break
        else:
            found.append(file)
    if not found:
        return []
    shared = _shared(pid, found)
    return [file for index, file in enumerate(found) if index not in shared]


def still_open(pid: int, files: list[OpenFile]) -> list[OpenFile]:
    """Those that the process, stopped by now, has open as before; with their positions."""
    kept = []
    for file in files:
        now = [look(pid, number) for number in file.numbers]
        if all(one is not None and (one.path, one.inode) == (file.path, file.inode) for one in now):
            with contextlib.suppress(OSError, ValueError):
                flags, position = details(pid, file.numbers[0])
                kept.append(structs.replace(file, flags=flags, position=position))
    return kept


def _shared(pid: int, files: list[OpenFile]) -> set[int]:
    """Indexes of those that another process has open too: the very same open file."""
    paths = {file.path: index for index, file in enumerate(files)}
    shared = set()
    for other in _others(pid):
        for number in _numbers(other):
            try:
                path = os.readlink(f"/proc/{other}/fd/{number}")
            except OSError:
                continue
            if path not in paths:
                continue
            for index, file in enumerate(files):
                if file.path == path and _one_file(pid, file.numbers[0], other, number):
                    shared.add(index)
    return shared


def _others(pid: int) -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in (pid, os.getpid()):
            yield int(name)


def _numbers(pid: int) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return []


def _one_file(pid: int, number: int, other: int, other_number: int) -> bool:
    """kcmp(2): both are the same open file; where it cannot be asked, they are."""
    try:
        return syscall(_SYS_KCMP, pid, other, _KCMP_FILE, number, other_number) == 0
    except OSError:
        return True
