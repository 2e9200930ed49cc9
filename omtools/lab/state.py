"""What is known of a lab from one command to the next: a directory with one file that says all of it.

The directory is `omlab` in the user's runtime directory (root: /run/omlab), or, where there is none,
/tmp/omlab-UID, which must be the user's own. Below it a directory for each lab. A process is remembered by
pid and start time, and the file by the boot and pid namespace in which it was written: a pid that
was given to another process since, also after a reboot, is never mistaken for ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from omtools.errors import LabError
from omtools.i18n import _
from omtools.linux import proc
from omtools.linux.namespaces import namespace_id

Mode = Literal["namespaces", "plain"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,15}")
# Unix sockets below a node's run directory must stay below 108 bytes; the agent wants 48 of them.
_LONGEST_HOME = 40


class Being(msgspec.Struct, frozen=True):
    """A process, unmistakable while the machine is up: pid and start time in clock ticks."""

    pid: int
    start: int

    @staticmethod
    def of(pid: int) -> Being:
        """The process that has that pid now; raises OSError if none has."""
        return Being(pid, proc.stat(pid).start_ticks)

    def alive(self) -> bool:
        """Whether it still exists and is no zombie."""
        try:
            found = proc.stat(self.pid)
        except OSError:
            return False
        return found.start_ticks == self.start and found.state not in "ZX"

    def kill(self, patience: float = 10.0, then: Callable[[], object] | None = None) -> bool:
        """Kill it and wait until it is gone.

        Args:
            patience: how long to wait, in seconds.
            then: called if it is still there after a second; then waiting goes on.

        Returns:
            Whether it is gone.
        """
        try:
            fd = os.pidfd_open(self.pid)
        except OSError:
            return True
        try:
            if not self.alive():  # looked at only now: the pidfd holds on to what was looked at
                return True
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            ready, _w, _x = select.select([fd], [], [], min(1.0, patience))
            if not ready and then:
                then()
                ready, _w, _x = select.select([fd], [], [], patience)
            return bool(ready)
        finally:
            os.close(fd)


class NodeState(msgspec.Struct):
    """One node.

    Attributes:
        number: 1, 2, …
        name: its host name.
        address: its IPv4 address, without the prefix length.
        being: process 1 of its pid namespace; None in plain mode, or while it is not built.
        agent: its agent.
    """

    number: int
    name: str
    address: str
    being: Being | None = None
    agent: Being | None = None


class LabState(msgspec.Struct):
    """The file `lab.json`.

    Attributes:
        name: the lab's name, OMLAB_NAME.
        mode: how the nodes are made.
        reason: why it is plain, if nobody asked for that.
        boot: the kernel's boot id.
        pidns: the pid namespace in which the pids count.
        hub: process 1 of the lab itself.
        nodes: by rising number.
    """

    name: str
    mode: Mode
    boot: str
    pidns: int
    reason: str = ""
    hub: Being | None = None
    nodes: list[NodeState] = []


def boot_id() -> str:
    """Different after each start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def own_pidns() -> int:
    """The pid namespace of the caller."""
    return namespace_id("self", "pid")


def lab_name() -> str:
    """The name of the user's lab: OMLAB_NAME, or `lab`."""
    name = os.environ.get("OMLAB_NAME", "lab")
    if not _NAME.fullmatch(name):
        why = _("OMLAB_NAME may have up to 16 letters, digits, - and _, not “{name}”")
        raise LabError(why=why.format(name=name))
    return name


def base_directory() -> Path:
    """The directory of all of the user's labs; it need not exist yet."""
    uid = os.getuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    # Root uses /run if it can: XDG_RUNTIME_DIR may be that of the user who called sudo.
    candidates = [Path("/run")] if uid == 0 else []
    for candidate in [*candidates, Path(runtime or f"/run/user/{uid}")]:
        with contextlib.suppress(OSError):
            found = candidate.stat()
            if candidate.is_absolute() and found.st_uid == uid and os.access(candidate, os.W_OK):
                base = candidate / "omlab"
                if len(os.fsencode(base)) <= _LONGEST_HOME:
                    return base
    return Path(f"/tmp/omlab-{uid}")


@contextlib.contextmanager
def locked_base() -> Iterator[Path]:
    """Hold the user's lab directory for one `omlab` at a time; it goes away again when it is empty.

    Raises:
        LabError: the directory is somebody else's, or cannot be made.
    """
    base = base_directory()
    while True:
        try:
            base.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise LabError(why=f"{base}: {error.strerror}") from error
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, fd)
            _check_owner(base, os.fstat(fd))
            fcntl.flock(fd, fcntl.LOCK_EX)
            if not _still_there(base, fd):
                continue  # another omlab took it away while we waited for its lock
            try:
                yield base
            finally:
                with contextlib.suppress(OSError):
                    base.rmdir()
            return


def _still_there(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise LabError(why=_("{path} is not a directory of yours alone; remove it").format(path=path))


def load(directory: Path) -> LabState | None:
    """The lab whose directory that is, or None if there is none, or it cannot be read.

    Raises:
        LabError: it was built from another pid namespace, so that its pids mean nothing here.
    """
    try:
        state = msgspec.json.decode((directory / "lab.json").read_bytes(), type=LabState)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
    if state.boot == boot_id() and state.pidns != own_pidns():
        raise LabError(
            why=_(
                "it was started outside of this pid namespace (is this a shell inside a node?); "
                "use omlab out there, or remove {directory} if that is gone for good"
            ).format(directory=directory)
        )
    return state


def save(directory: Path, state: LabState) -> None:
    """Write it so that a reader, and a crash, finds the old or the new one, never half of it."""
    new = directory / "lab.json.new"
    new.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
    new.rename(directory / "lab.json")


def remove_tree(directory: Path) -> None:
    """Delete the lab's directory with whatever its nodes left in it."""
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        # a home may hold directories without write permission (Go's module cache, for one)
        for parent, names, _files in os.walk(directory):
            for path in (os.path.join(parent, name) for name in names):
                if not os.path.islink(path):
                    os.chmod(path, 0o700)  # before os.walk, from the top down, looks into it
        shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        raise LabError(why=_("{path} could not be removed").format(path=directory))


def processes_of(directory: Path) -> list[Being]:
    """All processes of ours that were started with this lab's mark in their environment."""
    mark = b"OMLAB_DIR=" + os.fsencode(directory)
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    found.append(Being.of(int(entry)))
    return found
