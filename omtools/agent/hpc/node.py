"""What two files of admin/ do with the node as a whole: another map, and out of the cluster."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import tempfile
from pathlib import Path

from omtools.agent.hpc import words
from omtools.cluster.map import parse_map
from omtools.errors import OmError

_MAP = "openmosix.map"
_PEERCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid; unix(7)


def install_map(directory: Path, text: str, own: int) -> None:
    """Replace this node's map by another one, in openmosix.map's syntax, in which it must be.

    Raises:
        OSError: EINVAL, it is no such map; or it cannot be written.
    """
    try:
        if own not in parse_map(text, _MAP).nodes:
            raise words.failure(errno.EINVAL)
    except OmError as error:
        raise OSError(errno.EINVAL, str(error)) from error
    descriptor, scratch = tempfile.mkstemp(dir=directory, prefix=f".{_MAP}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
        os.replace(scratch, directory / _MAP)
    except OSError:
        os.unlink(scratch)
        raise


def tell_agent(agent: Path, number: signal.Signals) -> None:
    """Send the agent that listens there a signal: SIGUSR1, read the configuration anew; SIGTERM, end.

    Raises:
        OSError: EIO, there is none.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(agent))
        except OSError:
            raise words.failure(errno.EIO) from None
        raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
        pid = int(_PEERCRED.unpack(raw)[0])
    if pid <= 0:
        raise words.failure(errno.EIO)
    os.kill(pid, number)
