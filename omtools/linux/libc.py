"""The C library, by ctypes: raw system calls that raise OSError."""

from __future__ import annotations

import ctypes
import os
from typing import Any

C: Any = ctypes.CDLL(None, use_errno=True)
"""The loaded C library; errno is kept per thread."""

_raw_syscall = C.syscall
_raw_syscall.restype = ctypes.c_long
_raw_syscall.argtypes = [ctypes.c_long] * 7


def fail(what: str = "") -> OSError:
    """The OSError of the calling thread's errno."""
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what or None)


def syscall(nr: int, *args: int) -> int:
    """Make system call `nr` with up to six integer arguments; raises OSError."""
    result: int = _raw_syscall(nr, *args, *(0,) * (6 - len(args)))
    if result == -1 and (number := ctypes.get_errno()):
        raise OSError(number, os.strerror(number))
    return result
