"""Who reads and writes whose files by way of the mount: what a process at home does with other nodes' files.

Requests name the thread that made them (struct fuse_in_header, <linux/fuse.h>). What the kernel reads and
writes without asking the mount (this node's own files, FUSE_PASSTHROUGH) is not counted here.
"""

from __future__ import annotations

import os
import threading

from omtools.linux.fuse import abi
from omtools.linux.fuse.handler import Buffer, Request
from omtools.linux.proc import process_of
from omtools.omfs.fuse import FilesHandler
from omtools.omfs.fuse_nodes import MountNode
from omtools.omfs.orders import Use

_MOST = 4096  # threads that are remembered


class Uses:
    """Sums by thread and node."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[tuple[int, int], list[int]] = {}  # bytes read, written, calls
        self._threads: dict[int, int] = {}  # which process each belongs to, asked while it waits for us

    def add(self, thread: int, node: int, read: int, written: int) -> None:
        """A thread that waits for its answer has had so many bytes of that node's files."""
        with self._lock:
            process = self._threads.get(thread)
            if process is None:
                process = self._threads[thread] = process_of(thread)
                if len(self._threads) > _MOST:
                    self._sweep()
            sums = self._sums.setdefault((process, node), [0, 0, 0])
            sums[0] += read
            sums[1] += written
            sums[2] += 1

    def _sweep(self) -> None:
        """Forget who has ended."""
        living = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        self._threads = {}
        self._sums = {key: sums for key, sums in self._sums.items() if key[0] in living}

    def told(self) -> list[Use]:
        """All processes that have done anything and live."""
        with self._lock:
            if self._sums:
                self._sweep()
            return [Use(process, node, *sums) for (process, node), sums in self._sums.items()]


def node_of(place: MountNode) -> int:
    """The number of the node below whose directory it lies, 0 if it is none's."""
    name = b""
    while place.parent is not None:
        place, name = place.parent, place.name
    return int(name) if name.isdigit() else 0


class CountingHandler(FilesHandler):
    """`FilesHandler` that counts.

    Attributes:
        uses: the counts.
    """

    uses: Uses

    def read(self, request: Request, asked: abi.ReadIn) -> int | Buffer:
        """See `Handler`."""
        got = super().read(request, asked)
        self._count(request, asked.fh, got if isinstance(got, int) else len(got), 0)
        return got

    def write(self, request: Request, asked: abi.WriteIn, data: memoryview) -> int:
        """See `Handler`."""
        done = super().write(request, asked, data)
        self._count(request, asked.fh, 0, done)
        return done

    def _count(self, request: Request, fh: int, read: int, written: int) -> None:
        opened = self._open.get(fh)
        if opened is None:
            return
        if opened.owner < 0:
            opened.owner = node_of(opened.node)
        if opened.owner:
            self.uses.add(request.pid, opened.owner, read, written)
