"""omtools.image.pages: which pages travel, and their contents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from tracees import Child, python

from omtools.errors import CannotMigrate
from omtools.image.model import Region, RegionKind
from omtools.image.pages import CHUNK, CopySource, PageReader, Range, chunks, ranges_of, total
from omtools.linux import proc
from omtools.linux.x86_64 import PAGE

HOLDER = """
import ctypes, mmap, sys
def area(pages, descriptor=-1, flags=mmap.MAP_PRIVATE):
    a = mmap.mmap(descriptor, pages * 4096, flags | (mmap.MAP_ANONYMOUS if descriptor < 0 else 0))
    a.madvise(15)  # MADV_NOHUGEPAGE
    return a, ctypes.addressof(ctypes.c_char.from_buffer(a))
libc = ctypes.CDLL(None)
holes, holes_at = area(10)
for page in (0, 3, 4, 9): holes[page * 4096] = page + 1
hidden, hidden_at = area(3)
hidden[4096] = 77
assert libc.mprotect(ctypes.c_void_p(hidden_at), ctypes.c_size_t(3 * 4096), 0) == 0
file = open(PATH, "r+b")
text, text_at = area(0, file.fileno())  # all of it: its last page is not full
text[4096] = 33
shared, shared_at = area(4, flags=mmap.MAP_SHARED)
shared[2 * 4096] = 9
print("ready", flush=True)
print(holes_at, hidden_at, text_at, shared_at, flush=True)
input()
"""


class Holder:
    """A child with regions of every kind."""

    def __init__(self, child: Child) -> None:
        self.pid = child.pid
        self.holes, self.hidden, self.text, self.shared = map(int, child.read_line().split())

    def region(self, start: int, pages: int, kind: RegionKind = "private", *, file: bool = False) -> Region:
        """The region as `capture` would have it."""
        (found,) = [m for m in proc.mappings(self.pid) if m.start <= start < m.end]
        return Region(start, start + pages * PAGE, found.protection, kind, file, found.name, found.offset)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "file"
    made.write_bytes(b"".join(bytes([65 + page]) * PAGE for page in range(4))[: 4 * PAGE - 10])
    return made


def holder_of(path: Path) -> str:
    return HOLDER.replace("PATH", repr(str(path)))


@pytest.fixture
def holder(path: Path) -> Iterator[Holder]:
    with python(holder_of(path)) as child:
        yield Holder(child)


def pages(ranges: list[Range], base: int) -> list[int]:
    return [(at - base) // PAGE for piece in ranges for at in range(piece.start, piece.end, PAGE)]


def test_only_what_exists_of_anonymous_memory(holder: Holder) -> None:
    found = ranges_of(holder.pid, [holder.region(holder.holes, 10)])
    assert pages(found, holder.holes) == [0, 3, 4, 9]
    assert all(piece.readable for piece in found)
    shared = ranges_of(holder.pid, [holder.region(holder.shared, 4, "shared")])
    assert pages(shared, holder.shared) == [2]


def test_forbidden_pages_travel_too(holder: Holder) -> None:
    (found,) = ranges_of(holder.pid, [holder.region(holder.hidden, 3)])
    assert found == Range(holder.hidden + PAGE, holder.hidden + 2 * PAGE, False)
    reader = PageReader(holder.pid)
    buffer = bytearray(PAGE)
    try:
        reader.read_into(found.start, found.readable, memoryview(buffer))
    finally:
        reader.close()
    assert buffer == bytes([77]).ljust(PAGE, b"\0")


def test_all_of_a_file_that_can_be_read(holder: Holder) -> None:
    (found,) = ranges_of(holder.pid, [holder.region(holder.text, 4, file=True)])
    assert found == Range(holder.text, holder.text + 4 * PAGE, True)  # its last page is not full
    reader = PageReader(holder.pid)
    buffer = bytearray(4 * PAGE)
    try:
        reader.read_into(found.start, found.readable, memoryview(buffer))
    finally:
        reader.close()
    assert buffer[:1] + buffer[PAGE : PAGE + 2] + buffer[2 * PAGE : 2 * PAGE + 1] == b"A\x21BC"
    assert buffer[-10:] == bytes(10)


def test_of_a_file_that_may_not_be_read_only_its_own_pages(holder: Holder) -> None:
    region = holder.region(holder.text, 4, file=True)
    hidden = Region(region.start, region.end, 0, "private", True, region.name, region.offset)
    assert pages(ranges_of(holder.pid, [hidden]), holder.text) == [1]


def test_a_mapping_beyond_its_file_is_refused(path: Path) -> None:
    with python(holder_of(path)) as child:
        holder = Holder(child)
        region = holder.region(holder.text, 4, file=True)
        with path.open("r+b") as file:
            file.truncate(PAGE + 1)
        with pytest.raises(CannotMigrate, match="beyond its end"):
            ranges_of(holder.pid, [region])


def test_copying_is_a_single_round(holder: Holder) -> None:
    regions = [holder.region(holder.holes, 10), holder.region(holder.hidden, 3)]
    (ranges,) = CopySource(holder.pid, regions).rounds()
    assert ranges == ranges_of(holder.pid, regions)
    assert total(ranges) == 5 * PAGE


def test_reading_what_is_not_there(holder: Holder) -> None:
    reader = PageReader(holder.pid)
    try:
        for readable in (True, False):
            with pytest.raises(OSError, match=r"Bad address|Input/output error"):
                reader.read_into(PAGE, readable, memoryview(bytearray(10)))
    finally:
        reader.close()


spans = st.tuples(st.integers(0, 2000), st.integers(1, 1500), st.booleans()).map(
    lambda span: Range(span[0] * PAGE, (span[0] + span[1]) * PAGE, span[2])
)


@given(st.lists(spans, max_size=10))
def test_pieces_cover_the_ranges_exactly(ranges: list[Range]) -> None:
    pieces = list(chunks(ranges))
    assert all(0 < length <= CHUNK for _at, length, _readable in pieces)
    joined: list[Range] = []
    for piece in ranges:
        at = piece.start
        while at < piece.end:
            address, length, readable = pieces.pop(0)
            assert (address, readable) == (at, piece.readable)
            at += length
        joined.append(Range(piece.start, at, piece.readable))
    assert (joined, pieces) == (ranges, [])
