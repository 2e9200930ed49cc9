"""Pages on their way: reading and sending overlap on one side, receiving and writing on the other."""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections.abc import Callable, Sequence

import msgspec

from omtools.image.model import Image
from omtools.image.pages import CHUNK, PAGE_HEADER, PageReader, Range, chunks, total
from omtools.linux.memory import ProcessMemory
from omtools.linux.x86_64 import PAGE
from omtools.migration.frames import Kind
from omtools.migration.link import Link, LinkBroken

_BUFFERS = 4


Progress = Callable[[int, int], None]
"""Is told how many bytes have travelled, of how many; 0: nobody knows."""


def send_pages(link: Link, pid: int, ranges: Sequence[Range], tell: Progress | None = None) -> int:
    """Send the contents of `ranges` and `tell` how far that is; returns bytes. Raises LinkBroken, OSError."""
    amount = total(ranges)
    sent = 0
    free: queue.SimpleQueue[bytearray | None] = queue.SimpleQueue()
    full: queue.SimpleQueue[tuple[int, memoryview, bytearray] | OSError | None] = queue.SimpleQueue()
    for _index in range(_BUFFERS):
        free.put(bytearray(CHUNK))
    reader = PageReader(pid)

    def read() -> None:
        try:
            for address, length, readable in chunks(ranges):
                buffer = free.get()
                if buffer is None:
                    return
                view = memoryview(buffer)[:length]
                reader.read_into(address, readable, view)
                full.put((address, view, buffer))
            full.put(None)
        except OSError as error:
            full.put(error)
        finally:
            reader.close()

    thread = threading.Thread(target=read, name="read pages")
    thread.start()
    try:
        while (item := full.get()) is not None:
            if isinstance(item, OSError):
                raise item
            address, view, buffer = item
            link.send_large(Kind.PAGES, PAGE_HEADER.pack(address), view)
            sent += len(view)
            free.put(buffer)
            if tell is not None:
                tell(sent, amount)
    finally:
        free.put(None)
        thread.join()
    link.send(Kind.END, PAGE_HEADER.pack(amount))
    return amount


def receive_image(link: Link) -> Image:
    """The next frame, which must be an image. Raises LinkBroken."""
    kind, _serial, body = link.receive()
    if kind is not Kind.IMAGE:
        raise LinkBroken(f"{kind.name} in place of an image")
    return msgspec.msgpack.decode(body, type=Image)


def relay(source: Link, target: Link) -> tuple[int, LinkBroken | None]:
    """Pass an image and its pages on; `source` is heard out in any case.

    Returns bytes, and how `target` broke if it did. Raises LinkBroken if `source` does.
    """
    broken = None
    amount = 0
    while True:
        kind, _serial, body = source.receive()
        if broken is None:
            try:
                target.send_large(kind, b"", body)
            except LinkBroken as error:
                broken = error
        amount += len(body)
        if kind is Kind.END:
            return amount, broken


Sink = Callable[[int, memoryview], None]
"""Puts bytes at an address; called in a thread of its own."""


def receive_pages(link: Link, sink: Sink, tell: Progress | None = None) -> int:
    """Receive pages up to END and hand them to `sink`, and `tell` how far that is; returns bytes.

    An OSError of the sink is raised after END: the stream stays in step, and the link can say why.
    """
    free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
    full: queue.SimpleQueue[tuple[int, memoryview, bytearray] | None] = queue.SimpleQueue()
    for _index in range(_BUFFERS):
        free.put(bytearray(CHUNK + PAGE_HEADER.size))
    failures: list[OSError] = []

    def write() -> None:
        while (item := full.get()) is not None:
            address, view, buffer = item
            if not failures:
                try:
                    sink(address, view)
                except OSError as error:
                    failures.append(error)
            free.put(buffer)

    thread = threading.Thread(target=write, name="write pages")
    thread.start()
    try:
        amount = _receive(link, free, full, tell)
    finally:
        full.put(None)
        thread.join()
    if failures:
        raise failures[0]
    return amount


def _receive(
    link: Link,
    free: queue.SimpleQueue[bytearray],
    full: queue.SimpleQueue[tuple[int, memoryview, bytearray] | None],
    tell: Progress | None,
) -> int:
    received = 0
    while True:
        kind, _serial, length = link.receive_header()
        if kind is Kind.END and length == PAGE_HEADER.size:
            body = bytearray(length)
            link.receive_into(memoryview(body))
            return int(PAGE_HEADER.unpack(body)[0])
        if kind is not Kind.PAGES or not PAGE_HEADER.size < length <= CHUNK + PAGE_HEADER.size:
            raise LinkBroken(f"{kind.name} of {length} bytes among the pages")
        buffer = free.get()
        view = memoryview(buffer)[:length]
        link.receive_into(view)
        full.put((PAGE_HEADER.unpack_from(view)[0], view[PAGE_HEADER.size :], buffer))
        received += length - PAGE_HEADER.size
        if tell is not None:
            tell(received, 0)


def guest_sink(pid: int) -> Sink:
    """Writes into fresh memory."""
    memory = ProcessMemory(pid)

    def put(address: int, data: memoryview) -> None:
        try:
            memory.write(address, data)
        except OSError as error:
            if error.errno != errno.EFAULT:
                raise
            _force(pid, address, data)

    return put


def _force(pid: int, address: int, data: memoryview) -> None:
    """Into memory that its owner may not write to: pages of PROT_NONE that were not always so."""
    file = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        done = 0
        while done < len(data):
            done += os.pwrite(file, data[done:], address + done)
    finally:
        os.close(file)


class HomeSink:
    """Writes into the deputy: pages of file mappings only where they differ from the file.

    So program text and untouched data stay the file's own pages, as they were before the process left.
    """

    def __init__(self, pid: int, file_ranges: Sequence[tuple[int, int]]) -> None:
        self._put = guest_sink(pid)
        self._file_ranges = list(file_ranges)
        self._file = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """Close /proc/PID/mem."""
        os.close(self._file)

    def __call__(self, address: int, data: memoryview) -> None:
        """Put `data` at `address`; a piece never spans two regions."""
        if not any(start <= address < end for start, end in self._file_ranges):
            self._put(address, data)
            return
        present = os.pread(self._file, len(data), address)
        if present == data:
            return
        for offset in range(0, len(data), PAGE):
            page = data[offset : offset + PAGE]
            if present[offset : offset + PAGE] != page:
                os.pwrite(self._file, page, address + offset)
