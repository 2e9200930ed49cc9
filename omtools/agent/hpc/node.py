"""What two files of admin/ do with the node as a whole: another map, and out of the cluster."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import socket
import struct
from pathlib import Path

from omtools.agent.config_file import replace_file, with_key
from omtools.agent.hpc import words
from omtools.cluster.map import parse_map
from omtools.errors import OmError

_MAP = "openmosix.map"
_CONFIG = "openmosix.config"
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
    _replace(directory / _MAP, text)


def kept(directory: Path, key: str, unset: str) -> str:
    """What openmosix.config says for a key, `unset` if nothing; raises OSError where it has an error."""
    from omtools.agent.config import read_settings  # noqa: PLC0415 - seldom asked, by a small process

    try:
        return read_settings(directory / _CONFIG).others.get(key, unset)
    except OmError as error:
        raise OSError(errno.EIO, str(error)) from error


def keep(directory: Path, key: str, value: str) -> None:
    """Set that key of openmosix.config; raises OSError."""
    path = directory / _CONFIG
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    _replace(path, with_key(before, key, shlex.quote(value) if value else ""))


def _replace(path: Path, text: str) -> None:
    try:
        replace_file(path, text)
    except OmError as error:
        why = error.__cause__
        raise why if isinstance(why, OSError) else OSError(errno.EIO, str(error)) from None


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
