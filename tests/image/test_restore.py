"""omtools.image.restore: what can be tried without a process."""

from __future__ import annotations

import struct

from hypothesis import given, strategies as st

from omtools.image.model import Region
from omtools.image.restore import _altstack, _map_call, without

spans = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: (min(pair), max(pair)))


@given(spans, st.lists(spans, max_size=8))
def test_what_no_hole_covers(whole: tuple[int, int], holes: list[tuple[int, int]]) -> None:
    parts = without(*whole, holes)
    covered = {at for start, end in holes for at in range(start, end)}
    assert [at for start, end in parts for at in range(start, end)] == [
        at for at in range(*whole) if at not in covered
    ]
    assert all(start < end for start, end in parts)


def test_parts_around_and_between_holes() -> None:
    assert without(10, 20, []) == [(10, 20)]
    assert without(10, 20, [(0, 100)]) == []
    assert without(10, 20, [(15, 16), (12, 13)]) == [(10, 12), (13, 15), (16, 20)]
    assert without(10, 20, [(5, 12), (11, 14), (19, 30)]) == [(14, 19)]
    assert without(10, 10, []) == []


def test_an_alternate_stack_in_use_is_set_as_unused() -> None:
    raw = struct.pack("<QIxxxxQ", 0x7000_0000, 1 | 1 << 31, 8192)  # SS_ONSTACK | SS_AUTODISARM
    pointer, flags, _pad, size = struct.unpack("<QIIQ", _altstack(raw))
    assert (pointer, flags, size) == (0x7000_0000, 1 << 31, 8192)


def test_how_regions_are_mapped() -> None:
    def flags(region: Region) -> tuple[int, int]:
        _name, call = _map_call(region, region.start, region.end)
        assert call[1:3] == (region.start, region.size)
        return call[3], call[4]

    fixed = 0x20 | 0x100000  # MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
    assert flags(Region(4096, 8192, 1, "private", True, "/bin/x")) == (3, fixed | 2)  # writable until filled
    assert flags(Region(4096, 8192, 3, "shared", False, "")) == (3, fixed | 1)
    assert flags(Region(4096, 8192, 3, "stack", False, "[stack]")) == (3, fixed | 2 | 0x20100)
    assert flags(Region(4096, 8192, 0, "private", False, "")) == (0, fixed | 2 | 0x4000)
