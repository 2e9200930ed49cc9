"""The CPUID instruction (Intel SDM volume 2A; AMD APM volume 3), and where XSAVE puts what."""

from __future__ import annotations

import ctypes
import functools
import mmap
from dataclasses import dataclass

# push rbx; mov eax, edi; mov ecx, esi; mov r8, rdx; cpuid; mov [r8], eax; mov [r8+4], ebx; mov [r8+8], ecx;
# mov [r8+12], edx; pop rbx; ret
_CODE = bytes.fromhex("53 89f8 89f1 4989d0 0fa2 418900 41895804 41894808 4189500c 5b c3")
_XSTATE_LEAF = 0xD  # CPUID.0DH: processor extended state enumeration
_LAST_COMPONENT = 62


def cpuid(leaf: int, subleaf: int = 0) -> tuple[int, int, int, int]:
    """What the instruction leaves in eax, ebx, ecx and edx."""
    function = _function()
    out = (ctypes.c_uint32 * 4)()
    function(leaf, subleaf, out)
    return out[0], out[1], out[2], out[3]


@functools.cache
def _function() -> ctypes._FuncPointer:
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(_CODE)
    _pages.append(page)  # as long as the function can be called
    kind = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)
    return kind(ctypes.addressof(ctypes.c_char.from_buffer(page)))


_pages: list[mmap.mmap] = []


@dataclass(frozen=True)
class XsaveLayout:
    """Where the standard (not compacted) XSAVE format of one processor has its components.

    Attributes:
        places: (offset, size) of each component from 2 on, by its number: the bit in XCR0.
    """

    places: dict[int, tuple[int, int]]


@functools.cache
def xsave_layout() -> XsaveLayout:
    """This processor's; it differs between makers and models."""
    places = {}
    for number in range(2, _LAST_COMPONENT + 1):
        size, offset, _flags, _ = cpuid(_XSTATE_LEAF, number)
        if size and offset:  # supervisor components have no offset and never show in user memory
            places[number] = (offset, size)
    return XsaveLayout(places)
