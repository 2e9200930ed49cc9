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


def malloc_keeps(mapped: int, free: int, more: int = 0) -> None:
    """Have malloc keep large blocks that come and go, not map each anew (mallopt(3); glibc only).

    Args:
        mapped: bytes from which a block is a mapping of its own.
        free: bytes that may lie free at the end of the heap.
        more: bytes that the heap grows by at a time; 0: as it is.
    """
    if not hasattr(C, "mallopt"):
        return
    mmap_threshold, trim_threshold, top_pad = -3, -1, -2  # <malloc.h>: M_MMAP_THRESHOLD and so on
    for parameter, value in ((mmap_threshold, mapped), (trim_threshold, free), (top_pad, more)):
        if value:
            C.mallopt(parameter, value)


def malloc_gives_back() -> None:
    """Return what malloc holds free to the kernel (malloc_trim(3); glibc only)."""
    if hasattr(C, "malloc_trim"):
        C.malloc_trim(0)
