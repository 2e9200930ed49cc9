"""Locks that belong to an open file, not to a process: F_OFD_SETLK of fcntl(2), and flock(2).

Both can wait, and another thread can break the waiting off: no thread of Python's `fcntl.fcntl` ever sees
EINTR, so waiting calls go to the C library directly, and a real-time signal whose handler does nothing
ends them.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import struct
import threading
from collections.abc import Callable
from typing import NamedTuple

from omtools.linux.libc import C, fail, syscall

_F_OFD_GETLK, _F_OFD_SETLK, _F_OFD_SETLKW = 36, 37, 38  # linux/fcntl.h
_FLOCK = struct.Struct("<hhxxxxqqixxxx")  # struct flock: type, whence, start, len, pid; asm-generic/fcntl.h
_SYS_TGKILL = 234  # asm/unistd_64.h
_BREAK_OFF = signal.SIGRTMAX - 4
_AGAIN_SECONDS = 0.01  # the signal may come just before the thread goes to sleep: it is sent again

C.fcntl.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
C.flock.argtypes = [ctypes.c_int, ctypes.c_int]
C.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
C.signal.restype = ctypes.c_void_p


class Range(NamedTuple):
    """A record lock: fcntl.F_RDLCK, F_WRLCK or F_UNLCK of bytes from `start` on; `length` 0: to the end.

    Attributes:
        pid: the holder, in answers; -1 if it is an open file, as here.
    """

    kind: int
    start: int
    length: int
    pid: int = 0


def get_conflict(fd: int, wanted: Range) -> Range | None:
    """The first lock of another open file or process that forbids `wanted`; None if it is free."""
    raw = fcntl.fcntl(fd, _F_OFD_GETLK, _FLOCK.pack(wanted.kind, os.SEEK_SET, wanted.start, wanted.length, 0))
    kind, _whence, start, length, pid = _FLOCK.unpack(raw)
    return None if kind == fcntl.F_UNLCK else Range(kind, start, length, pid)


def set_lock(fd: int, wanted: Range) -> None:
    """Set or end a lock at once; EAGAIN if somebody else's forbids it."""
    fcntl.fcntl(fd, _F_OFD_SETLK, _FLOCK.pack(wanted.kind, os.SEEK_SET, wanted.start, wanted.length, 0))


def wait_for_lock(fd: int, wanted: Range, waiting: Waiting) -> None:
    """Set a lock as soon as it is free.

    Raises:
        OSError: EINTR if `waiting` was broken off.
    """
    raw = ctypes.create_string_buffer(
        _FLOCK.pack(wanted.kind, os.SEEK_SET, wanted.start, wanted.length, 0), _FLOCK.size
    )
    waiting.run(lambda: C.fcntl(fd, _F_OFD_SETLKW, raw))


def wait_for_flock(fd: int, operation: int, waiting: Waiting) -> None:
    """Take flock(2) as soon as it is free; raises as `wait_for_lock`."""
    waiting.run(lambda: C.flock(fd, operation))


class Waiting:
    """One system call that waits in one thread, and that another thread may break off."""

    _prepared = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread = 0
        self._broken = False
        self._over = threading.Event()
        if not Waiting._prepared:
            # The handler must be no Python: those run in the main thread only. abs(3) does no harm.
            C.signal(_BREAK_OFF, ctypes.cast(C.abs, ctypes.c_void_p))
            C.siginterrupt(_BREAK_OFF, 1)  # no SA_RESTART
            Waiting._prepared = True

    def run(self, call: Callable[[], int]) -> None:
        """Make the call (of the C library, -1 and errno); raises OSError."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {_BREAK_OFF})  # some programs' threads block them all
        with self._lock:
            self._thread = threading.get_native_id()
        try:
            while True:
                if self._broken:
                    raise OSError(errno.EINTR, os.strerror(errno.EINTR))
                if call() != -1:
                    return
                error = fail()
                if error.errno != errno.EINTR:
                    raise error
        finally:
            with self._lock:
                self._thread = 0
            self._over.set()

    def break_off(self) -> None:
        """Let it end with EINTR; returns when it has ended (or is not running yet, then it will not)."""
        self._broken = True
        while True:
            with self._lock:
                if not self._thread:
                    return
                syscall(_SYS_TGKILL, os.getpid(), self._thread, _BREAK_OFF)
            if self._over.wait(_AGAIN_SECONDS):
                return
