"""omtools.migration.transfer: pages from one real process into another, over a real link."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tracees import fork, until

from omtools.agent.certificates import make_identity
from omtools.image.pages import CHUNK, PAGE_HEADER, Range, total
from omtools.image.restore import FilesAtHome
from omtools.linux.memory import PageMap, ProcessMemory
from omtools.linux.x86_64 import PAGE
from omtools.migration.frames import Kind
from omtools.migration.link import Link, LinkBroken, accept, connect
from omtools.migration.orders import Credentials, Endpoint
from omtools.migration.transfer import HomeSink, guest_sink, receive_pages, send_pages

PAGES = 3 * CHUNK // PAGE + 5
ONE, OTHER = make_identity("one"), make_identity("other")


def _sending() -> list[str]:
    """Threads of a transfer that are still there."""
    return [thread.name for thread in threading.enumerate() if thread.name in ("read pages", "write pages")]


@pytest.fixture
def pair() -> Iterator[tuple[Link, Link]]:
    """Two ends of a link."""
    made: list[Link] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        own = Credentials(ONE.certificate, ONE.key, OTHER.certificate)
        thread = threading.Thread(target=lambda: made.append(accept(listener, own, 20)))
        thread.start()
        theirs = Credentials(OTHER.certificate, OTHER.key, ONE.certificate)
        end = connect(Endpoint(*listener.getsockname()), theirs)
        thread.join()
    yield end, made[0]
    end.close()
    made[0].close()


@contextlib.contextmanager
def process(work: Callable[[], None]) -> Iterator[int]:
    """A forked child that has done its work and waits."""
    told, tell = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            work()
            os.write(tell, b"!")
            while True:
                signal.pause()
        finally:
            os._exit(1)
    try:
        os.close(tell)
        assert os.read(told, 1) == b"!"
        yield pid
    finally:
        os.close(told)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@dataclass
class Area:
    """Memory at the same place in this process and all that it forks."""

    map: mmap.mmap
    start: int

    def pages(self, first: int, count: int, readable: bool = True) -> Range:
        return Range(self.start + first * PAGE, self.start + (first + count) * PAGE, readable)


@contextlib.contextmanager
def area(pages: int, descriptor: int = -1) -> Iterator[Area]:
    flags = mmap.MAP_PRIVATE | (mmap.MAP_ANONYMOUS if descriptor < 0 else 0)
    made = mmap.mmap(descriptor, pages * PAGE, flags)
    anchor = ctypes.c_char.from_buffer(made)
    try:
        yield Area(made, ctypes.addressof(anchor))
    finally:
        del anchor
        made.close()


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Run it; its result or its exception comes in the list."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(work())
        except (OSError, LinkBroken) as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def test_pages_arrive_where_they_belong(pair: tuple[Link, Link]) -> None:
    here, there = pair
    content = random.Random(1).randbytes(PAGES * PAGE)
    with area(PAGES) as a:

        def fill() -> None:
            a.map[:] = content

        with process(fill) as source, process(lambda: None) as target:
            ranges = [a.pages(0, PAGES - 10), a.pages(PAGES - 8, 3), a.pages(PAGES - 1, 1, readable=False)]
            thread, sent = in_thread(lambda: send_pages(here, source, ranges))
            received = receive_pages(there, guest_sink(target))
            thread.join()
            assert sent == [received] == [total(ranges)]
            memory = ProcessMemory(target)
            for piece in ranges:
                offset, length = piece.start - a.start, piece.end - piece.start
                assert memory.read(piece.start, length) == content[offset : offset + length]
            assert memory.read(a.start + (PAGES - 10) * PAGE, 2 * PAGE) == bytes(2 * PAGE)
        assert a.map[:PAGE] == bytes(PAGE)  # nothing of it was this process's


def test_nothing_to_send(pair: tuple[Link, Link]) -> None:
    here, there = pair
    thread, sent = in_thread(lambda: send_pages(here, os.getpid(), []))
    assert receive_pages(there, guest_sink(os.getpid())) == 0
    thread.join()
    assert sent == [0]


def test_a_source_that_dies(pair: tuple[Link, Link]) -> None:
    here, _there = pair
    with area(PAGES) as a:
        pid = fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        with pytest.raises(OSError, match=r"No such (process|file)"):
            send_pages(here, pid, [a.pages(0, PAGES)])
    assert not _sending()


def test_memory_that_is_not_there(pair: tuple[Link, Link]) -> None:
    here, _there = pair
    for readable in (True, False):
        with pytest.raises(OSError, match=r"memory of|/proc/mem|Input/output"):
            send_pages(here, os.getpid(), [Range(PAGE, 2 * PAGE, readable)])
    assert not _sending()


def test_a_link_that_breaks_while_sending(pair: tuple[Link, Link]) -> None:
    here, there = pair
    there.close()
    with area(8 * PAGES) as a, pytest.raises(LinkBroken):
        send_pages(here, os.getpid(), [a.pages(0, 8 * PAGES)] * 8)
    assert not _sending()


def test_a_link_that_breaks_while_receiving(pair: tuple[Link, Link]) -> None:
    here, there = pair
    here.send(Kind.PAGES, PAGE_HEADER.pack(0x1000) + bytes(PAGE))
    here.close()
    got: list[int] = []
    with pytest.raises(LinkBroken):
        receive_pages(there, lambda address, _data: got.append(address))
    assert got == [0x1000]
    assert not _sending()


def test_a_target_that_cannot_be_written_is_said_after_the_end(pair: tuple[Link, Link]) -> None:
    here, there = pair
    with area(PAGES) as a:
        thread, sent = in_thread(lambda: send_pages(here, os.getpid(), [a.pages(0, PAGES)]))
        calls: list[int] = []

        def refuse(address: int, _data: memoryview) -> None:
            calls.append(address)
            raise OSError(28, "No space left on device")

        with pytest.raises(OSError, match="No space left"):
            receive_pages(there, refuse)
        thread.join()
        assert sent == [PAGES * PAGE]
        assert calls == [a.start]  # once is enough
        here.send(Kind.GO)
        assert there.receive()[0] is Kind.GO  # the stream is in step


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Kind.GO, b""),
        (Kind.PAGES, b""),
        (Kind.PAGES, PAGE_HEADER.pack(0)),
        (Kind.PAGES, bytes(CHUNK + PAGE_HEADER.size + 1)),
        (Kind.END, b"short"),
    ],
)
def test_what_is_no_page(pair: tuple[Link, Link], kind: Kind, body: bytes) -> None:
    here, there = pair
    thread, _sent = in_thread(lambda: here.send(kind, body))
    with pytest.raises(LinkBroken, match=f"{kind.name} of"):
        receive_pages(there, guest_sink(os.getpid()))
    there.close()
    thread.join()


def test_coming_home_leaves_a_file_s_own_pages_alone(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(random.Random(2).randbytes(6 * PAGE))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with area(6, descriptor) as a, process(lambda: None) as home:
            file = path.read_bytes()
            data = bytearray(file)
            data[3 * PAGE + 17] ^= 0xFF
            sink = HomeSink(home, FilesAtHome([(a.start, a.start + 6 * PAGE)], []))
            try:
                sink(a.start, memoryview(bytearray(file[: 2 * PAGE])))
                sink(a.start + 2 * PAGE, memoryview(data)[2 * PAGE :])
            finally:
                sink.close()
            assert ProcessMemory(home).read(a.start, 6 * PAGE) == data
            pagemap = PageMap(home)
            try:
                own = pagemap.runs(a.start, a.start + 6 * PAGE, private_only=True)
            finally:
                pagemap.close()
            assert own == [(a.start + 3 * PAGE, a.start + 4 * PAGE)]
    finally:
        os.close(descriptor)


def test_coming_home_writes_all_other_memory(pair: tuple[Link, Link]) -> None:
    here, there = pair
    with area(4) as a, process(lambda: None) as home:
        a.map[:5] = b"hello"
        sink = HomeSink(home, FilesAtHome([], []))
        thread, sent = in_thread(lambda: send_pages(here, os.getpid(), [a.pages(0, 4)]))
        try:
            assert receive_pages(there, sink) == 4 * PAGE
        finally:
            sink.close()
        thread.join()
        assert sent == [4 * PAGE]
        assert ProcessMemory(home).read(a.start, 5) == b"hello"
        until(lambda: not _sending())
