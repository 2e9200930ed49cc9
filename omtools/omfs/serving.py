"""The process that serves this node's files to other nodes with one user's rights.

It is a worker (`omtools.migration.errand`). Its arguments are the number of the inherited control socket and
the order as JSON.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import socket
import sys
import threading
from typing import NoReturn

import msgspec

from omtools.linux.libc import malloc_keeps
from omtools.omfs.exports import parse_exports
from omtools.omfs.local import LocalFiles
from omtools.omfs.orders import Admit, Admitted, Done, Question, Reply, ServeOrder
from omtools.omfs.secured import Listening
from omtools.omfs.server import Sessions, serve
from omtools.omfs.worker import Control, become, farewell, first_word, inherited_listener, leave_home

_FIRST_SECONDS = 30.0  # for an admitted client's first connection


class _Door:
    """One client's way in: a listening socket where only its certificate is good."""

    def __init__(self, admit: Admit, sessions: Sessions) -> None:
        self._sessions = sessions
        self._listening = Listening(admit.address, admit.credentials)
        self.port = self._listening.port
        self._open = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._welcome, name="door", daemon=True).start()

    @property
    def in_use(self) -> bool:
        """Somebody is inside."""
        return self._open > 0

    def _welcome(self) -> None:
        with self._listening:
            while True:
                try:
                    raw = self._listening.accept(_FIRST_SECONDS)
                except TimeoutError:
                    if not self.in_use:
                        return  # the client comes by another door, if at all
                    continue
                except OSError:
                    return
                with self._lock:
                    self._open += 1
                threading.Thread(target=self._serve, args=(raw,), name="client", daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):
                secured = self._listening.secure(raw)
                serve(secured, self._sessions)
        finally:
            with self._lock:
                self._open -= 1


class Serving:
    """All doors of one user's server."""

    def __init__(self, order: ServeOrder) -> None:
        exports = parse_exports(order.exports)
        self.sessions = Sessions(lambda: LocalFiles(exports))
        self._doors: list[_Door] = []

    def answer(self, question: Question) -> Reply:
        """See `Control`."""
        assert isinstance(question, Admit)
        self._doors = [door for door in self._doors if door.in_use]
        try:
            door = _Door(question, self.sessions)
        except OSError as error:
            return Done({"error": "OmError", "detail": error.strerror or str(error)})
        self._doors.append(door)
        return Admitted(door.port)


def keep_memory() -> None:
    """Have malloc keep large blocks: mebibytes come and go with each read, and each would be mapped anew."""
    malloc_keeps(mapped=32 << 20, free=512 << 20, more=64 << 20)


def collect_rarely() -> None:
    """Have Python look for cycles less often: nodes come and go by the thousand, and are in none."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def open_many_files() -> None:
    """Raise the soft limit of open files to the hard one."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(arguments: list[str]) -> NoReturn:
    """Serve until told to end."""
    leave_home()
    keep_memory()
    collect_rarely()
    open_many_files()
    sys.setswitchinterval(0.0005)
    order = msgspec.json.decode(arguments[1], type=ServeOrder)
    become(order.uid, order.gid, order.groups)
    serving = Serving(order)
    control = Control(
        inherited_listener(int(arguments[0])), serving.answer, lambda: bool(len(serving.sessions)),
        stays=order.stays,
    )  # fmt: skip
    first_word(Done())
    os.dup2(2, 1)
    farewell(control.run(), Done())
    os._exit(0)  # at once: until then its threads would answer whoever is inside
