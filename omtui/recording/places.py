"""Where a recording is, unless somebody says otherwise, and who writes it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from omtools.agent.paths import run_dir
from omtools.errors import CannotRecord, RecordedAlready

NAME = "recording.sqlite"
SYSTEM = Path("/var/lib/openmosix")


def default_file() -> Path:
    """As root in /var/lib, as a user under XDG's directories; in a lab in the node's own directory."""
    if os.environ.get("OPENMOSIX_RUN"):
        return run_dir() / NAME
    if os.geteuid() == 0:
        return SYSTEM / NAME
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(base) / "openmosix" / NAME


def file_to_read() -> Path:
    """The user's own recording, else the system's: as commands ask the user's own agent first."""
    own, system = default_file(), SYSTEM / NAME
    # os.path.exists, because a directory that may not be looked into has nothing for us
    others = "OPENMOSIX_RUN" not in os.environ and not os.path.exists(own) and os.path.exists(system)
    return system if others else own


def lock_of(path: Path) -> Path:
    """The file that says who records."""
    return path.with_name(path.name + ".lock")


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """One collector per file: whoever has this.

    Raises:
        RecordedAlready: somebody else has it.
        CannotRecord: nothing can be written there.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise CannotRecord(path=str(path), why=error.strerror or str(error)) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(descriptor, 16, 0).decode().strip() or "?"
        os.close(descriptor)
        raise RecordedAlready(pid=pid, path=str(path)) from None
    try:
        with contextlib.suppress(OSError):  # on a full disk: it is locked all the same
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.truncate(descriptor, 0)
        os.close(descriptor)


def recorded_by(path: Path) -> int:
    """The pid of who records there at this moment, 0 if nobody does."""
    try:
        with open(lock_of(path), "rb") as file:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                word = file.read(16).decode(errors="replace").strip()
                return int(word) if word.isdigit() else 0
    except OSError:
        return 0
    return 0
