"""Where an agent keeps its things: as root in /etc and /run, as a user under XDG's directories.

``OPENMOSIX_CONFIG`` and ``OPENMOSIX_RUN`` (the lab sets them) go before both.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from omtools.errors import BadConfiguration
from omtools.i18n import _

SYSTEM_CONFIG = Path("/etc/openmosix")
SYSTEM_RUN = Path("/run/openmosix")
SOCKET = "agent.sock"

_SUN_PATH = 107  # bytes of a unix socket's path, without the final NUL
# The longest that is put below the run directory: tunnels/<migration>.<leg>.sock
_LONGEST_BELOW = len("/tunnels/65535-4194304-1234567890ab.16777216.sock")


def config_dir() -> Path:
    """The configuration directory of an agent that runs as this user."""
    if given := os.environ.get("OPENMOSIX_CONFIG"):
        return Path(given)
    if os.geteuid() == 0:
        return SYSTEM_CONFIG
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(base) / "openmosix"


def run_dir() -> Path:
    """The run directory of an agent that runs as this user."""
    if given := os.environ.get("OPENMOSIX_RUN"):
        return Path(given)
    if os.geteuid() == 0:
        return SYSTEM_RUN
    if base := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(base) / "openmosix"
    return Path(f"/tmp/openmosix-{os.geteuid()}")


def agent_socket() -> Path:
    """The socket of the agent that a command of this user should ask.

    The user's own agent goes before the system's.
    """
    own = run_dir() / SOCKET
    if "OPENMOSIX_RUN" not in os.environ and not own.exists():
        system = SYSTEM_RUN / SOCKET
        if system.exists():
            return system
    return own


def make_run_dir(run: Path) -> None:
    """Create the run directory, or check that the one that is there is ours alone to write.

    Raises:
        BadConfiguration: somebody else could put things into it, or its path is too long for sockets.
    """
    if len(os.fsencode(run.absolute())) + _LONGEST_BELOW > _SUN_PATH:
        raise BadConfiguration(path=str(run), why=_("the path is too long for unix sockets below it"))
    try:
        run.parent.mkdir(parents=True, exist_ok=True)
        run.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700, exist_ok=True)
        # lstat: in /tmp anybody could have put a symbolic link under that name.
        found = run.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise BadConfiguration(path=str(run), why=_("it is no directory"))
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise BadConfiguration(
                path=str(run), why=_("it belongs to somebody else, or others may write in it")
            )
        (run / "keepers").mkdir(mode=0o700, exist_ok=True)
        # Keepers become their users and must get through to the sockets that are theirs.
        (run / "tunnels").mkdir(mode=0o711, exist_ok=True)
    except OSError as error:
        raise BadConfiguration(path=str(run), why=error.strerror or str(error)) from None
