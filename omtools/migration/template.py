"""The keeper template: a small process from which every keeper is forked, and the agent's workers.

It has imported all that keepers need and nothing else, so that a keeper's own memory is what it writes to.
It outlives the agent that started it; keepers outlive it in turn.

    python -m omtools.migration.template RUN_DIRECTORY
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import pwd
import signal
import socket
import sys
import traceback
from pathlib import Path

import msgspec

from omtools.errors import AgentRunning, NotYourProcess, OmError, RestoreFailed
from omtools.i18n import _
from omtools.linux import namespaces as ns
from omtools.linux.events import ChildEvents
from omtools.linux.interfaces import listen
from omtools.linux.libc import malloc_gives_back
from omtools.migration.control import Control
from omtools.migration.errand import DESCRIPTORS, work
from omtools.migration.guest_keeper import GuestKeeper
from omtools.migration.home_keeper import HomeKeeper
from omtools.migration.log import Log
from omtools.migration.orders import (
    DeputyOrder,
    EndOrder,
    GuestOrder,
    Launched,
    Order,
    Refused,
    WorkerOrder,
)
from omtools.migration.rehearsal import rehearse, rehearse_link

SOCKET = "template.sock"
LOG = "keepers.log"
LOG_LIMIT = 4 << 20  # bytes; a longer log starts anew
_ORDER_LIMIT = 1 << 16

_decoder = msgspec.json.Decoder(Order)


def main(arguments: list[str]) -> None:
    """Serve orders until told to end (by an `EndOrder`, or SIGTERM)."""
    run = Path(arguments[0])
    listener = _listen(run / SOCKET)
    _open_log(run / LOG)
    if os.fork():
        os._exit(0)  # whoever started it need not stay its parent
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are reaped by the kernel
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    rehearse()
    _share()
    if ready := os.environ.pop("OMTOOLS_READY_FD", ""):
        os.write(int(ready), b"ready\n")
        os.close(int(ready))
    rehearsed = False
    while True:
        connection, _address = listener.accept()
        with connection:
            order, descriptors = _hear(connection)
            if order is None:
                continue
            if isinstance(order, EndOrder):
                break
            if isinstance(order, WorkerOrder):
                _send_on(order, descriptors, listener)
                continue
            if not rehearsed:
                rehearse_link(order.credentials)
                _share()
                rehearsed = True
            _serve(order, connection, listener)
    (run / SOCKET).unlink(missing_ok=True)


def _share() -> None:
    """What is here now is shared with every keeper: a collection must not touch it."""
    gc.collect()
    malloc_gives_back()
    gc.freeze()


def _listen(path: Path) -> socket.socket:
    """The template's socket; raises AgentRunning when another one serves it."""
    guard = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)  # two that start at once must not both find nobody
        return _listen_alone(path)
    finally:
        os.close(guard)


def _listen_alone(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    probe = socket.socket(socket.AF_UNIX)
    with probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
        else:
            raise AgentRunning(pid=0, socket=str(path))
    old = os.umask(0o077)
    try:
        listener.bind(str(path))
    finally:
        os.umask(old)
    listener.listen(64)
    return listener


def _open_log(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.stat().st_size > LOG_LIMIT:
            path.unlink()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _hear(connection: socket.socket) -> tuple[Order | None, list[int]]:
    """Read one order, and the descriptors with it; None: there is none, or no good one, which is answered."""
    connection.settimeout(5.0)
    line, descriptors = b"", list[int]()
    with contextlib.suppress(OSError):
        while not line.endswith(b"\n") and len(line) < _ORDER_LIMIT:
            piece, found, _flags, _from = socket.recv_fds(
                connection, _ORDER_LIMIT, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
            descriptors += found
            if not piece:
                return None, _closed(descriptors)
            line += piece
    try:
        order: Order = _decoder.decode(line)
        if (len(descriptors) == DESCRIPTORS) != isinstance(order, WorkerOrder):
            raise msgspec.ValidationError(f"{len(descriptors)} descriptors")
    except msgspec.MsgspecError as error:
        _answer(connection, Refused(OmError(detail=f"order: {error}").to_wire()))
        return None, _closed(descriptors)
    return order, descriptors


def _closed(descriptors: list[int]) -> list[int]:
    for descriptor in descriptors:
        os.close(descriptor)
    return []


def _send_on(order: WorkerOrder, descriptors: list[int], listener: socket.socket) -> None:
    """Fork a worker; who waits for its first word hears from it, or that there is nobody."""
    with contextlib.suppress(OSError):
        if os.fork() == 0:
            listener.close()
            work(order, descriptors)
    _closed(descriptors)


def _serve(order: DeputyOrder | GuestOrder, connection: socket.socket, listener: socket.socket) -> None:
    """Fork the order's keeper, which answers by itself."""
    try:
        child = os.fork()
    except OSError as error:
        _answer(connection, Refused(RestoreFailed(node="", why=f"fork: {error}").to_wire()))
        return
    if child == 0:
        status = 1
        try:
            listener.close()
            _keep(order, connection)
            status = 0
        except BaseException:  # the last stand of a process of its own: into the log with it
            traceback.print_exc()
        finally:
            os._exit(status)


def _answer(connection: socket.socket, word: Launched | Refused) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(msgspec.json.encode(word) + b"\n")


def _keep(order: DeputyOrder | GuestOrder, connection: socket.socket) -> None:
    """In the forked keeper: become the process's owner, answer, do the work."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a shutdown's: the agent brings processes home first
    role = "deputy" if isinstance(order, DeputyOrder) else "guest"
    log = Log(f"role={role} pid={order.pid} mig={order.migration}", order.debug)
    try:
        control = Control(order.control)
        _become(order.uid, order.gid)
    except (OSError, OmError) as error:
        _answer(connection, Refused(_refusal(order, error).to_wire()))
        return
    children = ChildEvents()
    try:
        if isinstance(order, GuestOrder):
            listener = listen(order.address, backlog=2)
            _answer(connection, Launched(os.getpid(), listener.getsockname()[1]))
            connection.close()
            GuestKeeper(order, children, control, log).serve(listener)
        else:
            _answer(connection, Launched(os.getpid()))
            connection.close()
            HomeKeeper(order, children, control, log).run()
    except OSError as error:
        log.warning(f"{type(error).__name__}: {error}")
        _answer(connection, Refused(_refusal(order, error).to_wire()))
        raise
    finally:
        control.close()


def _refusal(order: DeputyOrder | GuestOrder, error: Exception) -> OmError:
    return error if isinstance(error, OmError) else RestoreFailed(node=order.home, why=str(error))


def _become(uid: int, gid: int) -> None:
    """Act as the process's owner from here on; only root can become another."""
    if os.getuid() == uid:
        return
    if os.getuid() != 0:
        raise NotYourProcess(pid=0, user=os.getuid(), why=_("this agent serves only its own user"))
    try:
        os.initgroups(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    ns.prctl(ns.Pr.SET_DUMPABLE, 1)  # else its /proc belongs to root, and it may not map its user's ids


if __name__ == "__main__":
    main(sys.argv[1:])
