"""Running a program on a node, as if it had been started there: `omlab exec` and `omlab shell`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import sys
import termios
import tty
from collections.abc import Callable, Sequence
from typing import NoReturn

from omtools.errors import LabError
from omtools.i18n import _
from omtools.lab.lab import Lab
from omtools.lab.settings import NodeFiles, environment
from omtools.lab.state import NodeState
from omtools.linux.namespaces import enter, set_parent_death_signal

# What a program may be sent by a caller who knows only our pid. Job control's stop and continue signals
# keep their effect on us: a terminal sends them to the program as well.
_FORWARDED = {
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGALRM,
}  # fmt: skip
_SI_KERNEL = 0x80  # asm-generic/siginfo.h: a terminal's Ctrl-C, which its whole foreground group gets
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def execute(lab: Lab, node: NodeState, argv: Sequence[str]) -> int:
    """Run a program on a node with our standard files and return its exit status (128 + signal)."""
    here = _current_directory()
    _enter(lab, node)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {*_FORWARDED, signal.SIGCHLD})
    child = _fork(lambda: _become(lab, node, argv, blocked, here))
    while True:
        found = signal.sigwaitinfo({*_FORWARDED, signal.SIGCHLD})
        if found.si_signo == signal.SIGCHLD:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return _shell_status(status)
        elif found.si_code != _SI_KERNEL:
            os.kill(child, found.si_signo)


def shell(lab: Lab, node: NodeState) -> int:
    """Run an interactive shell on a node, on a terminal of its own that is joined to ours.

    A shell needs its own session for job control, and a session cannot take over our terminal (nor could
    the shell see our process group from inside its pid namespace); so it gets a pseudo-terminal.
    """
    program = [_find_shell()]
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return execute(lab, node, program)
    _enter(lab, node)
    master, slave = pty.openpty()
    _copy_size(sys.stdin.fileno(), master)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def start() -> None:
        os.close(master)
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for fd in (0, 1, 2):
            os.dup2(slave, fd)
        os.close(slave)
        _become(lab, node, program, blocked, None)

    child = _fork(start)
    os.close(slave)
    try:
        _relay(master, child)
    finally:
        os.close(master)
    return _shell_status(os.waitpid(child, 0)[1])


def _enter(lab: Lab, node: NodeState) -> None:
    if lab.state.mode == "plain":
        return
    if node.being is None or not node.being.alive():
        why = _("node {name} is dead; `omlab up` repairs it").format(name=node.name)
        raise LabError(why=why)
    try:
        enter(node.being.pid)
    except OSError as error:
        raise LabError(why=f"{node.name}: {error.strerror} ({error.filename})") from error


def _fork(body: Callable[[], None]) -> int:
    """Fork; the child is in the pid namespace that was entered."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            body()
        os._exit(_NOT_EXECUTABLE)
    return child


def _become(
    lab: Lab, node: NodeState, argv: Sequence[str], blocked: set[int | signal.Signals], here: str | None,
) -> NoReturn:
    """Become the program; if that fails say so and end as a shell would."""
    # If we are killed the program would run on with nobody to tell its exit status.
    set_parent_death_signal(signal.SIGKILL)
    own = environment(lab.directory, lab.state, node)
    _go_to_directory(lab, node, here)
    for signum in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):  # Python's own settings of them
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    try:
        os.execvpe(argv[0], list(argv), own)
    except OSError as error:
        message = _("omlab: {program}: {why}").format(program=argv[0], why=error.strerror)
        os.write(2, f"{message}\n".encode())
        os._exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE)


def _current_directory() -> str | None:
    with contextlib.suppress(OSError):
        return os.getcwd()
    return None


def _go_to_directory(lab: Lab, node: NodeState, here: str | None) -> None:
    """Stay in the same directory if the node has it (setns went to its root), else go to the node's home."""
    if here is not None:
        with contextlib.suppress(OSError):
            os.chdir(here)
            return
    os.chdir(NodeFiles(lab.directory, node.name).home)


def _find_shell() -> str:
    wanted = os.environ.get("SHELL", "")
    for candidate in (wanted, "bash", "sh"):
        if candidate and (found := shutil.which(candidate)):
            return found
    return "/bin/sh"


def _shell_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _copy_size(source: int, target: int) -> None:
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(source, termios.TIOCGWINSZ, struct.pack("4H", 0, 0, 0, 0))
        fcntl.ioctl(target, termios.TIOCSWINSZ, size)


def _relay(master: int, child: int) -> None:
    """Pass bytes between our terminal and the pseudo-terminal until the shell ends."""
    terminal, output = sys.stdin.fileno(), sys.stdout.fileno()
    before = termios.tcgetattr(terminal)
    ended = os.pidfd_open(child)
    signal.signal(signal.SIGWINCH, lambda *_: _copy_size(terminal, master))
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda number, _frame: os.kill(child, number))
    os.set_blocking(master, False)  # a shell that prints while it is pasted into must not block us both
    tty.setraw(terminal)
    try:
        _pass_bytes(terminal, output, master, ended)
    finally:
        os.close(ended)
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


def _pass_bytes(terminal: int, output: int, master: int, ended: int) -> None:
    typed = b""
    listening = True
    while True:
        sources = [master, ended] + ([terminal] if listening and not typed else [])
        ready, writable, _x = select.select(sources, [master] if typed else [], [])
        if writable:
            typed = typed[os.write(master, typed) :]
        if master in ready:
            try:
                data = os.read(master, 65536)
            except BlockingIOError:
                continue
            except OSError:  # EIO: nobody has the other end open any more
                return
            _write_all(output, data)
        elif ended in ready:
            return  # only now: everything that the shell said has been read
        if terminal in ready:
            typed = os.read(terminal, 4096)
            if not typed:
                listening, typed = False, b"\x04"  # our terminal is gone: end of file for the shell


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
