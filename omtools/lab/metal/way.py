"""Running programs on the machines: by SSH into mCii, and through it to the others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import asyncssh

from omtools.errors import LabError, MetalIsHere
from omtools.i18n import _
from omtools.lab import enter
from omtools.lab.lab import Lab
from omtools.lab.metal import plan
from omtools.lab.metal.here import BASELINE, as_lab
from omtools.lab.metal.identity import SERVER
from omtools.lab.metal.lab import MetalLab
from omtools.lab.settings import PACKAGE_HOME, node_name
from omtools.lab.state import NodeState

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_PATIENCE = 30.0
_FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_NULL = os.makedev(1, 3)  # /dev/null: Documentation/admin-guide/devices.txt
_LOST = 255  # what ssh(1) says when the connection breaks


@contextlib.asynccontextmanager
async def connected(lab: MetalLab, word: str) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """An SSH connection to a machine, as root.

    Raises:
        MetalMachineOff: it, or mCii on the way to it, has no power.
        MetalIsHere: it is this machine.
        LabError: it does not answer.
    """
    node, server = lab.powered(word), lab.powered(node_name(SERVER))
    options: dict[str, Any] = {
        "username": "root", "config": None, "client_keys": [str(plan.user_key(lab.directory))],
        "known_hosts": str(plan.known_hosts(lab.directory)), "agent_path": None, "x509_trusted_certs": None,
        "connect_timeout": _PATIENCE, "login_timeout": _PATIENCE,
    }  # fmt: skip
    try:
        if node["here"]:
            raise MetalIsHere(node=node["name"], what="SSH")
        if server["here"]:
            options["proxy_command"] = reach(server, node)
            async with asyncssh.connect(node["address"], 22, host_key_alias=node["name"], **options) as only:
                yield only
            return
        async with asyncssh.connect(
            "127.0.0.1", server["ssh_port"], host_key_alias=server["name"], **options
        ) as first:
            if node["name"] == server["name"]:
                yield first
                return
            async with asyncssh.connect(
                node["address"], 22, host_key_alias=node["name"], tunnel=first, **options
            ) as second:
                yield second
    except (OSError, asyncssh.Error) as error:
        why = _("{node} does not let us in: {why}").format(node=node["name"], why=_text(error))
        raise LabError(why=why) from error


def reach(server: dict[str, Any], node: dict[str, Any]) -> list[str]:
    """The proxy command of SSH that leads out of this machine's namespaces as mCii; see `reach.py`."""
    code = f"import sys; sys.path.insert(0, {str(PACKAGE_HOME)!r})\n"
    code += "from omtools.lab.metal.reach import main\nmain()"
    return [sys.executable, "-c", code, str(server["pid"]), node["address"], "22"]


def _here(lab: MetalLab, word: str) -> tuple[Lab, NodeState] | None:
    """The lab of namespaces in whose node a program for that machine is run; None: it is emulated.

    What starts there is to be able to move to a processor that lacks much, if its owner has not said else.
    """
    node = lab.powered(word)
    if not node["here"]:
        return None
    os.environ.setdefault("GLIBC_TUNABLES", BASELINE)
    return as_lab(lab.directory, node["pid"])


def _text(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def execute(lab: MetalLab, word: str, argv: Sequence[str]) -> int:
    """Run a program on a machine with our standard files and return its exit status (128 + signal)."""
    if found := _here(lab, word):
        return enter.execute(*found, argv)
    with _blocking_again():
        return asyncio.run(_execute(lab, word, argv))


async def _execute(lab: MetalLab, word: str, argv: Sequence[str]) -> int:
    async with connected(lab, word) as connection:
        process: asyncssh.SSHClientProcess[bytes] = await connection.create_process(
            f"PATH={_PATH} exec {shlex.join(argv)}", encoding=None,
            stdin=_own(0), stdout=_own(1), stderr=_own(2),
        )  # fmt: skip
        loop = asyncio.get_running_loop()
        for signum in _FORWARDED:
            loop.add_signal_handler(signum, _forward, process, signum)
        return _status(await process.wait())


def _own(descriptor: int) -> int:
    """A descriptor of ours for asyncssh, which closes what it is given."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return asyncssh.DEVNULL
    # Nobody can wait for /dev/null with epoll, and nobody needs to.
    if stat.S_ISCHR(found.st_mode) and found.st_rdev == _NULL:
        return asyncssh.DEVNULL
    return os.dup(descriptor)


@contextlib.contextmanager
def _blocking_again() -> Iterator[None]:
    """Undo that asyncio makes descriptors non-blocking, for everybody who shares them: our shell, for one."""
    before = {}
    for descriptor in (0, 1, 2):
        with contextlib.suppress(OSError):
            before[descriptor] = os.get_blocking(descriptor)
    try:
        yield
    finally:
        for descriptor, blocking in before.items():
            with contextlib.suppress(OSError):
                os.set_blocking(descriptor, blocking)


def _forward(process: asyncssh.SSHClientProcess[bytes], signum: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        process.send_signal(signum.name.removeprefix("SIG"))


def _status(done: asyncssh.SSHCompletedProcess) -> int:
    if done.returncode is None:
        return _LOST
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def shell(lab: MetalLab, word: str) -> int:
    """Run an interactive shell on a machine, on our terminal."""
    if found := _here(lab, word):
        return enter.shell(*found)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return execute(lab, word, ["/bin/sh"])
    with raw_terminal(), _blocking_again():
        return asyncio.run(_shell(lab, word))


async def _shell(lab: MetalLab, word: str) -> int:
    async with connected(lab, word) as connection:
        process: asyncssh.SSHClientProcess[bytes] = await connection.create_process(
            encoding=None, stdin=_own(0), stdout=_own(1), stderr=_own(2),
            term_type=os.environ.get("TERM", "dumb"), term_size=tuple(shutil.get_terminal_size()),
        )  # fmt: skip

        def resized() -> None:
            with contextlib.suppress(OSError):
                process.change_terminal_size(*shutil.get_terminal_size())

        asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, resized)
        return _status(await process.wait())


@contextlib.contextmanager
def raw_terminal() -> Iterator[None]:
    """Our terminal passes on every key as it is; nothing is done where standard input is none."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSAFLUSH, before)


def run(
    lab: MetalLab, word: str, argv: Sequence[str], *, stdin: str = "", check: bool = False,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program on a machine to its end and return what it printed.

    Args:
        lab: the lab.
        word: the machine's name or number.
        argv: the program and its arguments.
        stdin: what it reads.
        check: raise subprocess.CalledProcessError unless its exit status is 0.
        timeout: seconds after which subprocess.TimeoutExpired is raised.
    """

    async def go() -> subprocess.CompletedProcess[str]:
        async with connected(lab, word) as connection:
            command = f"PATH={_PATH} exec {shlex.join(argv)}"
            found = await connection.run(command, input=stdin, errors="replace")
            out, err = str(found.stdout), str(found.stderr)
            return subprocess.CompletedProcess(list(argv), _status(found), out, err)

    try:
        done = asyncio.run(asyncio.wait_for(go(), timeout))
    except TimeoutError:
        assert timeout is not None
        raise subprocess.TimeoutExpired(list(argv), timeout) from None
    if check:
        done.check_returncode()
    return done
