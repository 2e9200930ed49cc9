"""Another process's memory: process_vm_readv(2), process_vm_writev(2), /proc/PID/mem, /proc/PID/pagemap."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterable, Iterator

from omtools.linux.libc import C, fail
from omtools.linux.x86_64 import PAGE


class _IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


_readv = C.process_vm_readv
_readv.restype = ctypes.c_ssize_t
_writev = C.process_vm_writev
_writev.restype = ctypes.c_ssize_t
for _function in (_readv, _writev):
    _function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong,
                          ctypes.c_ulong]  # fmt: skip

_SMALL = 8192


class ProcessMemory:
    """Reads and writes the memory of one process, by its page protections.

    Raises OSError (EFAULT where nothing is mapped or the protection forbids it, ESRCH when the process
    is gone). One object serves one thread: its buffers are reused from call to call.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._buffer = ctypes.create_string_buffer(_SMALL)
        self._local = _IoVec(ctypes.addressof(self._buffer), 0)
        self._remote = _IoVec(0, 0)
        self._local_at = ctypes.addressof(self._local)
        self._remote_at = ctypes.addressof(self._remote)

    def read(self, address: int, length: int) -> bytes:
        """Exactly `length` bytes."""
        if length > _SMALL:
            large = bytearray(length)
            self.read_into(address, large)
            return bytes(large)
        self._local.base = ctypes.addressof(self._buffer)
        self._transfer(_readv, address, length)
        return self._buffer.raw[:length]

    def read_into(self, address: int, buffer: bytearray | memoryview) -> None:
        """Fill `buffer` from `address` on."""
        if not len(buffer):
            return
        pinned = ctypes.c_char.from_buffer(buffer)  # an array of that length would be a type of its own
        self._local.base = ctypes.addressof(pinned)
        self._transfer(_readv, address, len(buffer))
        del pinned

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Put all of `data` at `address`."""
        if not len(data):
            return
        if isinstance(data, bytes):
            pointer = ctypes.c_char_p(data)
            pinned: object = pointer
            self._local.base = ctypes.cast(pointer, ctypes.c_void_p).value
        else:
            pinned = ctypes.c_char.from_buffer(data)
            self._local.base = ctypes.addressof(pinned)
        self._transfer(_writev, address, len(data))
        del pinned

    def _transfer(self, function: object, address: int, length: int) -> None:
        self._local.length = self._remote.length = length
        self._remote.base = address
        done = function(self.pid, self._local_at, 1, self._remote_at, 1, 0)  # type: ignore[operator]
        if done != length:
            if done < 0:
                raise fail(f"memory of {self.pid} at {address:#x}")
            raise OSError(14, os.strerror(14), f"memory of {self.pid} at {address + done:#x}")  # EFAULT

    def read_string(self, address: int, limit: int) -> bytes:
        """Up to and with the first NUL, at most `limit` bytes (then without one)."""
        found = b""
        while len(found) < limit:
            here = address + len(found)
            piece = self.read(here, min(limit - len(found), PAGE - here % PAGE))
            end = piece.find(0)
            if end >= 0:
                return found + piece[: end + 1]
            found += piece
        return found


# The highest byte of a /proc/PID/pagemap entry, Documentation/admin-guide/mm/pagemap.rst:
# bit 63 present, bit 62 swapped, bit 61 of a file or of shared anonymous memory.
_EXISTS = bytes(1 if byte & 0xC0 else 0 for byte in range(256))
_PRIVATE = bytes(1 if byte & 0xC0 and not byte & 0x20 else 0 for byte in range(256))
_RUN = re.compile(b"\x01+")


class PageMap:
    """Which pages of a process exist, from /proc/PID/pagemap."""

    def __init__(self, pid: int) -> None:
        self._file = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def runs(self, start: int, end: int, *, private_only: bool = False) -> list[tuple[int, int]]:
        """Runs (start, end) of pages that are present or swapped.

        With `private_only` only pages of the process's own, not those of a file or of shared memory.
        """
        found = []
        step = 1 << 18
        for first in range(start // PAGE, end // PAGE, step):
            count = min(step, end // PAGE - first)
            raw = os.pread(self._file, count * 8, first * 8)
            exists = raw[7::8].translate(_PRIVATE if private_only else _EXISTS)
            found += [((first + m.start()) * PAGE, (first + m.end()) * PAGE) for m in _RUN.finditer(exists)]
        return found


def read_forced(memory_file: int, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """(address, bytes) of ranges that may not be readable, through an open /proc/PID/mem."""
    for start, end in ranges:
        position = start
        while position < end:
            piece = os.pread(memory_file, min(end - position, 1 << 20), position)
            if not piece:
                break
            yield position, piece
            position += len(piece)
