"""What omsh adds to a lab's nodes: a directory of commands that goes before the others.

Always ``cable``, which pulls and plugs a node's network cable; and, where the package was not installed, the
userland tools, so that a lesson's commands work from a checkout too.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys
from importlib.util import find_spec
from pathlib import Path

from omtools.i18n import _
from omtools.lab.lab import Lab
from omtools.lab.settings import PACKAGE_HOME

_SCREENS = {"omtui": "omtui.main", "mosmon": "omtui.mosmon.main"}  # a package above this one
_NOT_THERE = {"__init__", "omlab", "omsh", "lessons"}  # they are of this side of a node
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1  # linux/sockios.h, linux/if.h
_IFREQ = "16sh14x"  # struct ifreq of linux/if.h: name, flags, the rest of its union
_INTERFACE = b"eth0"

_SCRIPT = """\
#!{python}
import sys
sys.path.insert(0, {home!r})
from {module} import main
sys.exit(main())
"""


def tools() -> dict[str, str]:
    """The userland tools that this package has, each with the module that is it."""
    found = (PACKAGE_HOME / "omtools" / "commands").glob("*.py")
    names = {path.stem for path in found if "\ndef main(" in path.read_text(encoding="utf-8")}
    own = {name: f"omtools.commands.{name}" for name in names - _NOT_THERE if not name.startswith("_")}
    screens = {name: module for name, module in _SCREENS.items() if find_spec(module.partition(".")[0])}
    return own | screens


def tool_directory(lab: Lab) -> Path:
    """Where they are; it goes with the lab."""
    return lab.directory / "bin"


def furnish(lab: Lab) -> None:
    """Put the commands there. Raises OSError."""
    place = tool_directory(lab)
    place.mkdir(mode=0o700, exist_ok=True)
    beside = Path(sys.executable).parent
    modules = {name: module for name, module in tools().items() if not (beside / name).exists()}
    for name, module in {**modules, "cable": "omtools.shell.toolbox"}.items():
        path = place / name
        if not path.exists():
            new = place / f".{name}.{os.getpid()}"
            new.write_text(_SCRIPT.format(python=sys.executable, home=str(PACKAGE_HOME), module=module))
            new.chmod(0o700)
            new.replace(path)


def main() -> int:
    """``cable pull|plug|show``: the network cable of the node where it is run."""
    wanted = sys.argv[1] if len(sys.argv) == 2 else ""
    if wanted not in ("pull", "plug", "show"):
        print(_("cable: say `cable pull`, `cable plug` or `cable show`."), file=sys.stderr)
        return 2
    name = os.environ.get("OMLAB_NODE", "")
    try:
        plugged = _switch(wanted)
    except OSError as error:
        why = _("cable: this node has no cable of its own that could be moved ({why}).")
        print(why.format(why=error.strerror), file=sys.stderr)
        return 1
    words = _("The cable of {node} is plugged in.") if plugged else _("The cable of {node} is pulled.")
    print(words.format(node=name))
    return 0


def _switch(wanted: str) -> bool:
    """Switch the interface off or on; returns whether it is on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack(_IFREQ, _INTERFACE, 0))
        (flags,) = struct.unpack_from("h", answer, 16)
        if wanted == "show":
            return bool(flags & _IFF_UP)
        flags = flags | _IFF_UP if wanted == "plug" else flags & ~_IFF_UP
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack(_IFREQ, _INTERFACE, flags))
        return wanted == "plug"
