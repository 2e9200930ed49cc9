"""Becoming a program on a lab's node, on the pseudo-terminal that is our standard input.

``python -m omtools.shell.entrance NODE COMMAND``, with "" for NODE here on this machine. Omsh starts it in a
session of its own. The program gets a session inside the node's pid namespace, with that terminal as the
controlling one, so it has job control; we wait for it outside and end as it did.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from omtools.errors import NodeShellError, OmError
from omtools.i18n import _
from omtools.lab.lab import Lab
from omtools.lab.settings import NodeFiles, environment
from omtools.lab.state import NodeState
from omtools.linux.namespaces import enter, set_parent_death_signal
from omtools.shell.toolbox import tool_directory

TOOLS = "OMSH_TOOLS"  # a variable of the environment: what goes before the PATH here, behind it on MACHINE
MACHINE = "OMSH_MACHINE"  # another: process 1 of this machine as a node of a lab of machines
_CANNOT = 126  # what a shell exits with


def main() -> int:
    """Do it; returns the program's exit status."""
    if not sys.argv[1]:
        return _attend(lambda: _become(_here(), Path.home(), sys.argv[2]))
    if pid := os.environ.pop(MACHINE, ""):
        return _this_machine(int(pid))
    try:
        lab = Lab.find()
        node = lab.node_state(sys.argv[1])
        if lab.state.mode == "namespaces":
            _enter(node)
    except OmError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    own = environment(lab.directory, lab.state, node)
    own["PATH"] = f"{tool_directory(lab)}:{own['PATH']}"
    return _attend(lambda: _become(own, NodeFiles(lab.directory, node.name).home, sys.argv[2]))


def _this_machine(pid: int) -> int:
    from omtools.lab.metal.here import BASELINE, as_lab  # noqa: PLC0415 - only in such a lab
    from omtools.lab.metal.plan import home  # noqa: PLC0415

    lab, node = as_lab(home(), pid)
    try:
        _enter(node)
    except OmError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    os.environ.setdefault("GLIBC_TUNABLES", BASELINE)
    own = environment(lab.directory, lab.state, node)
    own["PATH"] = f"{own['PATH']}:/usr/sbin:/sbin:{own.pop(TOOLS)}"
    return _attend(lambda: _become(own, NodeFiles(lab.directory, node.name).home, sys.argv[2]))


def _here() -> dict[str, str]:
    tools = os.environ.get(TOOLS, "")
    path = os.environ.get("PATH", os.defpath)
    return {**os.environ, "PATH": f"{tools}:{path}" if tools else path}


def _attend(become: Callable[[], NoReturn]) -> int:
    """Fork the program and wait for its end."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            become()
        os._exit(_CANNOT)
    # The terminal's signals are for those who have it as their own; a hang-up ends the program, and then us.
    for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def _enter(node: NodeState) -> None:
    if node.being is None or not node.being.alive():
        raise NodeShellError(node=node.name, why=_("the node is dead; `omlab up` repairs it"))
    try:
        enter(node.being.pid)
    except OSError as error:
        raise NodeShellError(node=node.name, why=error.strerror or str(error)) from error


def _become(own: dict[str, str], home: Path, command: str) -> NoReturn:
    set_parent_death_signal(signal.SIGHUP)
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(home)
    for signum in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):  # Python's own settings of them
        signal.signal(signum, signal.SIG_DFL)
    os.execvpe("sh", ["sh", "-c", f"exec {command}"], own)


if __name__ == "__main__":
    sys.exit(main())
