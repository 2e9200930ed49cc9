"""Run a command as an ordinary user, for tests that run as root: `as_nobody.py UID HOME CMD...`.

The interpreter or the checkout may lie below a directory that only root may enter (/root, as pyenv has it).
So this happens in a mount namespace in which such a directory shows nothing but the way to them.
"""

import os
import stat
import sys
from pathlib import Path

from omtools.linux.namespaces import Clone, Mount, mount, unshare


def open_ways(paths: list[Path]) -> None:
    """Make each of the paths reachable for others."""
    for path in paths:
        for parent in reversed(path.parents):
            if parent.exists() and not stat.S_IMODE(parent.stat().st_mode) & stat.S_IXOTH:
                children = sorted({one for one in paths if parent in one.parents})
                handles = [(one, os.open(one, os.O_PATH | os.O_DIRECTORY)) for one in children]
                mount("tmpfs", parent, "tmpfs", Mount(0), "mode=755")
                for one, handle in handles:
                    one.mkdir(parents=True, exist_ok=True)
                    mount(f"/proc/self/fd/{handle}", one, None, Mount.BIND | Mount.REC)
                    os.close(handle)


def main() -> None:
    """Become the user, then the command."""
    uid, home, *argv = sys.argv[1:]
    unshare(Clone.NEWNS)
    mount(None, "/", None, Mount.REC | Mount.PRIVATE)
    here = Path(__file__).resolve().parents[2]
    open_ways(sorted({Path(sys.prefix), Path(sys.base_prefix), here}))
    os.setgroups([])
    os.setresgid(int(uid), int(uid), int(uid))
    os.setresuid(int(uid), int(uid), int(uid))
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "OPENMOSIX_"))
    }
    environment.update(HOME=home, XDG_RUNTIME_DIR=home, PYTHONDONTWRITEBYTECODE="1", PYTHONPATH=str(here))
    os.chdir(home)
    os.execvpe(argv[0], argv, environment)


if __name__ == "__main__":
    main()
