"""omdiscd as a part of `openmosix start` and `stop`, as the init script had it."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from omtools.agent.paths import config_dir, run_dir
from omtools.commands._common import say

_LOCK = "omdiscd.lock"  # in the run directory: held by the one that runs, whose pid is in it
_END_PATIENCE = 10.0


def is_wanted(directory: Path) -> bool:
    """Whether this node finds the others itself: its cluster's key has signed it, and it reads no map."""
    from omtools.agent.config import has_map, read_settings  # noqa: PLC0415 - only where one starts

    member = (directory / "cluster.json").exists()
    return member and (not has_map(directory) or read_settings(directory / "openmosix.config").discover)


def running(directory: Path | None = None) -> int | None:
    """The pid of the omdiscd of that run directory (None: ours), None if there is none."""
    path = (directory or run_dir()) / _LOCK
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 16, 0)
        return int(text) if text.isdigit() else None
    else:
        return None
    finally:
        os.close(descriptor)


def start(environment: Mapping[str, str]) -> None:
    """Start it, where it is wanted and does not run; why it cannot it says itself, and the agent runs on."""
    directory = config_dir().absolute()
    if not is_wanted(directory) or running() is not None:
        return
    command = [sys.executable, "-m", "omtools.commands.omdiscd"]
    subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False)


def stop() -> None:
    """End it, if it runs; one that belongs to somebody else is left alone, and said to be."""
    pid = running()
    if pid is None:
        return
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        select.select([process], [], [], _END_PATIENCE)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        say(f"omdiscd (pid {pid}): {error.strerror}.")
    finally:
        os.close(process)
