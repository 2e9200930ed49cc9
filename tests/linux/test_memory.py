"""omtools.linux.memory: another process's memory, tried on this one and on a child."""

from __future__ import annotations

import ctypes
import errno
import itertools
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from tracees import python

from omtools.linux.libc import C
from omtools.linux.memory import PageMap, ProcessMemory, read_forced
from omtools.linux.x86_64 import PAGE

OWN = os.getpid
PROT_NONE, PROT_READ = 0, 1
MAP_NORESERVE = 0x4000


class Area:
    """Pages of this process."""

    def __init__(self, pages: int, descriptor: int = -1, *, shared: bool = False) -> None:
        flags = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
        if descriptor < 0:
            flags |= mmap.MAP_ANONYMOUS | MAP_NORESERVE
        self.map = mmap.mmap(descriptor, pages * PAGE, flags)
        self.map.madvise(mmap.MADV_NOHUGEPAGE)
        self._anchor = ctypes.c_char.from_buffer(self.map)
        self.start = ctypes.addressof(self._anchor)
        self.end = self.start + pages * PAGE

    def protect(self, page: int, protection: int) -> None:
        result = C.mprotect(ctypes.c_void_p(self.start + page * PAGE), ctypes.c_size_t(PAGE), protection)
        assert result == 0

    def close(self) -> None:
        del self._anchor
        self.map.close()


@contextmanager
def area(pages: int, descriptor: int = -1, *, shared: bool = False) -> Iterator[Area]:
    made = Area(pages, descriptor, shared=shared)
    try:
        yield made
    finally:
        made.close()


def test_reading_and_writing_another_process() -> None:
    code = """
import ctypes
buffer = ctypes.create_string_buffer(b"x" * 20000)
print("ready", flush=True)
print(ctypes.addressof(buffer), flush=True)
input()
print(buffer.raw[:12], len(buffer.raw.rstrip(b"y")), flush=True)
input()
"""
    with python(code) as child:
        address = int(child.read_line())
        memory = ProcessMemory(child.pid)
        assert memory.read(address, 5) == b"xxxxx"
        assert memory.read(address, 20001) == b"x" * 20000 + b"\0"
        memory.write(address, b"hello ")
        memory.write(address + 6, bytearray(b"wor"))
        memory.write(address + 9, memoryview(bytearray(b"..ld!"))[2:])
        assert child.answer(b"") == b"b'hello world!' 20001"
        child.kill()
        child.wait()
        with pytest.raises(ProcessLookupError):
            memory.read(address, 1)


@given(st.integers(0, 4 * PAGE), st.integers(0, 4 * PAGE), st.binary(min_size=1, max_size=40))
def test_any_piece_at_any_place(offset: int, length: int, pattern: bytes) -> None:
    offset, length = min(offset, 4 * PAGE), min(length, 4 * PAGE - min(offset, 4 * PAGE))
    with area(4) as a:
        a.map[:] = (pattern * (4 * PAGE))[: 4 * PAGE]
        memory = ProcessMemory(OWN())
        expected = a.map[offset : offset + length]
        assert memory.read(a.start + offset, length) == expected
        buffer = bytearray(length)
        memory.read_into(a.start + offset, buffer)
        assert buffer == expected
        memory.write(a.start, expected)
        assert a.map[:length] == expected


def test_what_is_not_there_or_forbidden() -> None:
    with area(3) as a:
        a.protect(1, PROT_NONE)
        memory = ProcessMemory(OWN())
        for address in (0, 1, a.start + PAGE, (1 << 63) - PAGE, (1 << 64) - 8):
            with pytest.raises(OSError, match="memory of") as caught:
                memory.read(address, 8)
            assert caught.value.errno == errno.EFAULT
        with pytest.raises(OSError, match=f"{a.start + PAGE:#x}"):  # it tells how far it came
            memory.read(a.start + PAGE - 100, 200)
        with pytest.raises(OSError, match="memory of"):
            memory.read(a.start, 3 * PAGE)
        a.protect(2, PROT_READ)
        assert memory.read(a.start + 2 * PAGE, 4) == bytes(4)
        with pytest.raises(OSError, match="memory of"):
            memory.write(a.start + 2 * PAGE, b"no")


@given(st.integers(0, 2 * PAGE), st.binary(max_size=PAGE + 10).map(lambda b: b.replace(b"\0", b"!")),
       st.integers(1, 2 * PAGE))  # fmt: skip
def test_strings(offset: int, text: bytes, limit: int) -> None:
    with area(4) as a:
        a.protect(3, PROT_NONE)
        offset = min(offset, 3 * PAGE - len(text) - 1)
        a.map[: 3 * PAGE] = b"?" * (3 * PAGE)
        a.map[offset : offset + len(text) + 1] = text + b"\0"
        found = ProcessMemory(OWN()).read_string(a.start + offset, limit)
        assert found == (text + b"\0")[:limit]


def test_a_string_may_end_right_before_a_hole() -> None:
    with area(2) as a:
        a.protect(1, PROT_NONE)
        memory = ProcessMemory(OWN())
        a.map[PAGE - 4 : PAGE] = b"end\0"
        assert memory.read_string(a.start + PAGE - 4, 4096) == b"end\0"
        a.map[PAGE - 1 : PAGE] = b"!"
        assert memory.read_string(a.start + PAGE - 4, 4) == b"end!"
        with pytest.raises(OSError, match="memory of"):
            memory.read_string(a.start + PAGE - 4, 5)


@given(st.sets(st.integers(0, 30)))
def test_which_pages_exist(touched: set[int]) -> None:
    with area(31) as a:
        for page in touched:
            a.map[page * PAGE] = 1
        pagemap = PageMap(OWN())
        try:
            runs = pagemap.runs(a.start, a.end)
            own = pagemap.runs(a.start, a.end, private_only=True)
        finally:
            pagemap.close()
        pages = {(at - a.start) // PAGE for start, end in runs for at in range(start, end, PAGE)}
        assert pages == touched
        assert own == runs
        assert all(end < start for (_, end), (start, _) in itertools.pairwise(runs))


def test_pages_of_files_are_told_from_own_ones(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"f" * 4 * PAGE)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with area(4, descriptor) as a:
            assert a.map[0] == a.map[PAGE] == ord("f")
            a.map[PAGE] = 0  # its own copy from here on
            pagemap = PageMap(OWN())
            try:
                own = pagemap.runs(a.start, a.end, private_only=True)
                assert own == [(a.start + PAGE, a.start + 2 * PAGE)]
                assert pagemap.runs(a.start, a.end)[0][0] == a.start
            finally:
                pagemap.close()
    finally:
        os.close(descriptor)


def test_a_map_larger_than_one_reading() -> None:
    border = 1 << 18  # pages read at a time
    with area(border + 20) as a:
        for page in (0, border - 1, border, border + 19):
            a.map[page * PAGE] = 1
        pagemap = PageMap(OWN())
        try:
            runs = pagemap.runs(a.start, a.end)
        finally:
            pagemap.close()
        pages = [(at - a.start) // PAGE for start, end in runs for at in range(start, end, PAGE)]
        assert pages == [0, border - 1, border, border + 19]


def test_a_forbidden_page_through_proc_mem() -> None:
    with area(3) as a:
        a.map[PAGE : PAGE + 3] = b"abc"
        a.protect(1, PROT_NONE)
        file = os.open(f"/proc/{OWN()}/mem", os.O_RDONLY)
        try:
            ranges = [(a.start + PAGE, a.start + 2 * PAGE), (a.start, a.start + PAGE)]
            pieces = list(read_forced(file, ranges))
        finally:
            os.close(file)
        assert [(at - a.start, len(data)) for at, data in pieces] == [(PAGE, PAGE), (0, PAGE)]
        assert pieces[0][1].startswith(b"abc")
