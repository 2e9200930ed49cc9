"""omtools.linux.cpuid, compared with what the kernel tells of the processor."""

from __future__ import annotations

import struct
from pathlib import Path

from omtools.linux.cpuid import cpuid, xsave_layout


def test_the_maker() -> None:
    _most, b, c, d = cpuid(0)
    assert f"vendor_id\t: {struct.pack('<3I', b, d, c).decode()}" in Path("/proc/cpuinfo").read_text()


def test_where_avx_is() -> None:
    """The first component has the same place everywhere."""
    avx = " avx " in Path("/proc/cpuinfo").read_text()
    assert xsave_layout().places.get(2) == ((576, 256) if avx else None)


def test_components_do_not_overlap() -> None:
    end = 576
    for offset, size in sorted(xsave_layout().places.values()):
        assert offset >= end
        end = offset + size
