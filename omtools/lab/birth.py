"""The birth of a lab's long-lived processes: inside other namespaces, without us, and never unrecorded.

`omlab up` may be killed at any instant, and nothing may remain that `omlab down` does not find. So a
process is born in two steps: it is made and prepared, tells its pid, and waits; only when its pid is in
the state file is it released and execs. If we are gone before that, it ends by itself.

Who makes it: a midwife, forked from us, enters the namespaces (setns into a pid namespace counts for
children only), forks an attendant *inside*, and the attendant clones the newborn and ends. The newborn is
thus an orphan of the inner pid namespace and its process 1 becomes its parent. Were the midwife its parent,
the orphan would fall to process 1 of the *outer* pid namespace, which would have to reap it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from omtools.lab.state import Being
from omtools.linux import libc
from omtools.linux.namespaces import NAMESPACES, Clone, clone3, enter

SYS_CLOSE_RANGE = 436  # asm/unistd_64.h
CLOSE_RANGE_CLOEXEC = 4  # linux/close_range.h
_LIMIT = 65536


@dataclass
class Plan:
    """What to give birth to.

    Attributes:
        argv: the program; argv[0] is a path.
        environment: all of its environment.
        host: pid of a process whose namespaces (`kinds`) it is born in; 0: ours.
        kinds: which of them.
        flags: its own new namespaces.
        before: called inside `host`'s namespaces by the process that then clones.
        prepare: called in the new process, in its namespaces.
        log: file that takes its standard output and error; None: /dev/null.
        keep: inherited descriptors, under the numbers that they have.
    """

    argv: Sequence[str]
    environment: Mapping[str, str]
    host: int = 0
    kinds: Sequence[str] = tuple(NAMESPACES)
    flags: Clone = field(default_factory=lambda: Clone(0))
    before: Callable[[], None] | None = None
    prepare: Callable[[], None] | None = None
    log: Path | None = None
    keep: Sequence[int] = field(default_factory=tuple)


@dataclass
class Newborn:
    """A prepared process that waits to be released."""

    being: Being
    gate: socket.socket

    def release(self) -> None:
        """Let it go on to its exec.

        Raises:
            OSError: the exec failed.
        """
        with self.gate:
            self.gate.send(b"go")
            # It closes its end by the exec; anything it still says is why it could not.
            answer = self.gate.recv(_LIMIT)
        if answer:
            _raise(answer)

    def drop(self) -> None:
        """Send it away; it ends."""
        self.gate.close()


def bear(plan: Plan) -> Newborn:
    """Make a process up to the point where it waits to be released.

    Raises:
        OSError: whatever went wrong in there, with the errno it had.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # The kernel adds the sender's pid to each message, as it is in *our* pid namespace.
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # Python 3.12 warns of forking where there are threads: the midwife does nothing that waits for one.
        warnings.simplefilter("ignore", DeprecationWarning)
        midwife = os.fork()
    if midwife == 0:
        ours.close()
        _ended_by(theirs, lambda: _assist(plan, theirs))
    theirs.close()
    try:
        message, ancillary, _, _ = ours.recvmsg(_LIMIT, socket.CMSG_SPACE(struct.calcsize("3i")))
    except BaseException:
        ours.close()
        raise
    finally:
        os.waitpid(midwife, 0)
    if message != b"born":
        ours.close()
        _raise(message)
    _, _, credentials = ancillary[0]
    pid, _, _ = struct.unpack("3i", credentials)
    return Newborn(Being.of(pid), ours)


def _raise(message: bytes) -> NoReturn:
    if not message:
        raise OSError(0, "it was killed")
    errno, text, where = json.loads(message)
    raise OSError(errno, text, where)


def _ended_by(report: socket.socket, work: Callable[[], None]) -> NoReturn:
    """Run the whole life of a forked child: it never returns into the caller's program."""
    try:
        work()
        os._exit(0)
    except OSError as error:
        message = json.dumps([error.errno or 0, error.strerror or str(error), str(error.filename or "")])
    except BaseException:  # nothing may escape from here into a copy of the caller's program
        message = json.dumps([0, traceback.format_exc(), ""])
    with contextlib.suppress(OSError):
        report.send(message.encode())
    os._exit(1)


def _assist(plan: Plan, report: socket.socket) -> None:
    if plan.host:
        enter(plan.host, plan.kinds)
    attendant = os.fork()
    if attendant == 0:
        _ended_by(report, lambda: _deliver(plan, report))
    os.waitpid(attendant, 0)


def _deliver(plan: Plan, report: socket.socket) -> None:
    if plan.before:
        plan.before()
    if clone3(plan.flags).pid == 0:
        _ended_by(report, lambda: _live(plan, report))


def _live(plan: Plan, report: socket.socket) -> None:
    os.setsid()
    _connect_standard_files(plan.log)
    if plan.prepare:
        plan.prepare()
    report.send(b"born")
    if report.recv(16) != b"go":
        os._exit(0)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for signum in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):  # Python's own settings of them
        signal.signal(signum, signal.SIG_DFL)
    # Descriptors without close-on-exec that our caller happened to have are none of its business.
    libc.syscall(SYS_CLOSE_RANGE, 3, 0xFFFFFFFF, CLOSE_RANGE_CLOEXEC)
    for fd in plan.keep:
        os.set_inheritable(fd, True)
    os.umask(0o022)
    os.execve(plan.argv[0], list(plan.argv), dict(plan.environment))


def _connect_standard_files(log: Path | None) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    output = null
    if log is not None:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
