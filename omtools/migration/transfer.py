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
from omtools.image.restore import FilesAtHome, without
from omtools.linux.memory import ProcessMemory
from omtools.linux.x86_64 import PAGE
from omtools.migration.frames import HEADER, Kind
from omtools.migration.link import Link, LinkBroken

_BUFFERS = 4
_ALONE = 4 << 20  # bytes up to which one thread does both: it is over before a second one would help
_ROOM = CHUNK + HEADER.size + PAGE_HEADER.size


Progress = Callable[[int, int], None]
"""Is told how many bytes have travelled, of how many; 0: nobody knows."""


def send_pages(link: Link, pid: int, ranges: Sequence[Range], tell: Progress | None = None) -> int:
    """Send the contents of `ranges` and `tell` how far that is; returns bytes. Raises LinkBroken, OSError."""
    frames = _Frames(pid, ranges)
    amount = total(ranges)
    try:
        if amount <= _ALONE:
            buffer = memoryview(bytearray(_ROOM))
            while length := frames.fill(buffer):
                link.send_framed(buffer[:length])
                if tell is not None:
                    tell(frames.laid, amount)
        else:
            _send_while_reading(link, frames, lambda sent: tell(sent, amount) if tell is not None else None)
    finally:
        frames.close()
    link.send(Kind.END, PAGE_HEADER.pack(amount))
    return amount


class _Frames:
    """Lays pages out as they go over the link: many small pieces are sent at once.

    Attributes:
        laid: bytes of pages so far.
    """

    def __init__(self, pid: int, ranges: Sequence[Range]) -> None:
        self.laid = 0
        self._reader = PageReader(pid)
        self._pieces = chunks(ranges)
        self._next = next(self._pieces, None)

    def close(self) -> None:
        """Read no more."""
        self._reader.close()

    def fill(self, buffer: memoryview) -> int:
        """Frames of as many pieces as fit; returns bytes, 0: there are no more. Raises OSError."""
        at = 0
        while self._next is not None:
            address, length, readable = self._next
            begin = at + HEADER.size + PAGE_HEADER.size
            if begin + length > len(buffer):
                break
            HEADER.pack_into(buffer, at, PAGE_HEADER.size + length, Kind.PAGES, 0)
            PAGE_HEADER.pack_into(buffer, at + HEADER.size, address)
            at = begin + length
            self.laid += length
            self._reader.read_into(address, readable, buffer[begin:at])
            self._next = next(self._pieces, None)
        return at


def _send_while_reading(link: Link, frames: _Frames, tell: Callable[[int], None]) -> None:
    free: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
    full: queue.SimpleQueue[tuple[memoryview, int, int] | OSError | None] = queue.SimpleQueue()
    for _index in range(_BUFFERS):
        free.put(memoryview(bytearray(_ROOM)))

    def read() -> None:
        try:
            while (buffer := free.get()) is not None and (length := frames.fill(buffer)):
                full.put((buffer, length, frames.laid))
            full.put(None)
        except OSError as error:
            full.put(error)

    thread = threading.Thread(target=read, name="read pages")
    thread.start()
    try:
        while (item := full.get()) is not None:
            if isinstance(item, OSError):
                raise item
            buffer, length, laid = item
            link.send_framed(buffer[:length])
            free.put(buffer)
            tell(laid)
    finally:
        free.put(None)
        thread.join()


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
"""Puts bytes at an address; called in one thread at a time, not always the same."""


def receive_pages(link: Link, sink: Sink, tell: Progress | None = None) -> int:
    """Receive pages up to END and hand them to `sink`, and `tell` how far that is; returns bytes.

    An OSError of the sink is raised after END: the stream stays in step, and the link can say why.
    """
    arriving = _Arriving(link, tell)
    buffer = memoryview(bytearray(CHUNK + PAGE_HEADER.size))
    failure: OSError | None = None
    while arriving.amount is None and arriving.seen <= _ALONE:
        if (piece := arriving.next_into(buffer)) is not None and failure is None:
            try:
                sink(*piece)
            except OSError as error:
                failure = error
    if arriving.amount is None:
        failure = _receive_while_writing(arriving, sink, failure)
    if failure is not None:
        raise failure
    assert arriving.amount is not None
    return arriving.amount


class _Arriving:
    """The frames of a transfer.

    Attributes:
        seen: bytes that have come.
        amount: how many there were in all, once the end has come.
    """

    def __init__(self, link: Link, tell: Progress | None) -> None:
        self._link = link
        self._tell = tell
        self.seen = 0
        self.amount: int | None = None

    def next_into(self, buffer: memoryview) -> tuple[int, memoryview] | None:
        """The next piece and its address, or None: that was the end. Raises LinkBroken."""
        kind, _serial, length = self._link.receive_header()
        if kind is Kind.END and length == PAGE_HEADER.size:
            self._link.receive_into(buffer[:length])
            self.amount = int(PAGE_HEADER.unpack_from(buffer)[0])
            return None
        if kind is not Kind.PAGES or not PAGE_HEADER.size < length <= CHUNK + PAGE_HEADER.size:
            raise LinkBroken(f"{kind.name} of {length} bytes among the pages")
        self._link.receive_into(buffer[:length])
        self.seen += length - PAGE_HEADER.size
        if self._tell is not None:
            self._tell(self.seen, 0)
        return PAGE_HEADER.unpack_from(buffer)[0], buffer[PAGE_HEADER.size : length]


def _receive_while_writing(arriving: _Arriving, sink: Sink, failure: OSError | None) -> OSError | None:
    free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
    full: queue.SimpleQueue[tuple[int, memoryview, memoryview] | None] = queue.SimpleQueue()
    for _index in range(_BUFFERS):
        free.put(memoryview(bytearray(CHUNK + PAGE_HEADER.size)))
    failures = [failure] if failure is not None else []

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
        while (piece := arriving.next_into(buffer := free.get())) is not None:
            full.put((*piece, buffer))
    finally:
        full.put(None)
        thread.join()
    return failures[0] if failures else None


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

    def __init__(self, pid: int, files: FilesAtHome) -> None:
        self._put = guest_sink(pid)
        self._files = files
        self._came: list[tuple[int, int]] = []
        self._file = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """Close /proc/PID/mem."""
        os.close(self._file)

    def __call__(self, address: int, data: memoryview) -> None:
        """Put `data` at `address`; a piece never spans two regions."""
        if not any(start <= address < end for start, end in self._files.ranges):
            self._put(address, data)
            return
        start = self._came.pop()[0] if self._came and self._came[-1][1] == address else address
        self._came.append((start, address + len(data)))
        self._put_where_it_differs(address, bytes(data))

    def empty_the_rest(self) -> None:
        """Empty what comes back whole and did not come: there the guest has mapped new memory."""
        for start, end in self._files.whole:
            for first, last in without(start, end, self._came):
                for at in range(first, last, CHUNK):
                    self._put_where_it_differs(at, bytes(min(CHUNK, last - at)))

    def _put_where_it_differs(self, address: int, wanted: bytes) -> None:
        present = os.pread(self._file, len(wanted), address)
        if present == wanted:  # of two `bytes` it is memcmp(3), of a memoryview a hundred times slower
            return
        for offset in range(0, len(wanted), PAGE):
            page = wanted[offset : offset + PAGE]
            if present[offset : offset + PAGE] != page:
                os.pwrite(self._file, page, address + offset)
