"""Floating point and vector registers, as they travel between processors that keep different sets of them.

The XSAVE area is as large as its processor has registers, and what follows the first 576 bytes lies where
each maker and model likes (CPUID.0DH). So only the components that are in use travel, by their number.
"""

from __future__ import annotations

import struct

import msgspec

from omtools.linux.cpuid import XsaveLayout

_LEGACY = 512       # x87 and SSE: the FXSAVE area
_EXTENDED = 576     # behind it and the XSAVE header: where components begin
_MASK_AT = 464      # USER_XSTATE_XCR0_WORD * 8, <asm/user.h>: which components the kernel gives to programs
_FRAME_MARK = (0x46505853).to_bytes(4, "little")  # FP_XSTATE_MAGIC1, <asm/sigcontext.h>
_LEGACY_BITS = 0b11
PKRU = 9            # XFEATURE_PKRU, arch/x86/include/asm/fpu/types.h
_PKRU_AT_START = (0x55555554).to_bytes(8, "little")  # init_pkru_value, arch/x86/mm/pkeys.c
_NAMES = {
    2: "AVX", 3: "MPX", 4: "MPX", 5: "AVX-512", 6: "AVX-512", 7: "AVX-512", PKRU: "PKU", 17: "AMX", 18: "AMX",
}  # fmt: skip


class VectorRegisters(msgspec.Struct, frozen=True):
    """The registers of one thread.

    Attributes:
        size: bytes of the area that they were in; signal frames on its stack have as much.
        used: the components that are not in their initial state, bit n for component n.
        legacy: the FXSAVE area.
        components: those in use from 2 on, by number.
        framed: a signal's frame on its stack has such an area, or did.
    """

    size: int
    used: int
    legacy: bytes
    components: dict[int, bytes]
    framed: bool = False


class NotThere(Exception):
    """Registers are in use that the processor does not have; `args[0]` names them."""


def take_apart(area: bytes, layout: XsaveLayout, stack: bytes = b"") -> VectorRegisters:
    """What is in an XSAVE area of this layout; `stack` is what the thread has on its stack."""
    used = int.from_bytes(area[_LEGACY : _LEGACY + 8], "little")
    components = {
        number: area[offset : offset + size]
        for number, (offset, size) in layout.places.items()
        if used >> number & 1 and offset + size <= len(area)
    }
    return VectorRegisters(len(area), used, area[:_LEGACY], components, _FRAME_MARK in stack)


def put_together(registers: VectorRegisters, example: bytes, layout: XsaveLayout) -> bytes:
    """The XSAVE area for a thread whose area now is `example`, of this layout; raises NotThere."""
    mask = int.from_bytes(example[_MASK_AT : _MASK_AT + 8], "little")
    area = bytearray(len(example))
    area[:_LEGACY] = registers.legacy
    area[_MASK_AT:_LEGACY] = example[_MASK_AT:_LEGACY]
    if registers.framed and len(example) < registers.size:
        # When the handler returns the kernel takes only x87 and SSE from a frame that is too large for it.
        raise NotThere("what a signal's handler is to restore")
    components = dict(registers.components)
    if components.get(PKRU) == _PKRU_AT_START and not mask >> PKRU & 1:
        del components[PKRU]  # as every process has it: no key was ever made
    elif mask >> PKRU & 1:
        components.setdefault(PKRU, _PKRU_AT_START)
    lacking = {
        _NAMES.get(number, f"#{number}") for number in components if not _fits(number, mask, area, layout)
    }
    if lacking:
        raise NotThere(" ".join(sorted(lacking)))
    used = registers.used & _LEGACY_BITS
    for number, content in components.items():
        offset = layout.places[number][0]
        area[offset : offset + len(content)] = content
        used |= 1 << number
    struct.pack_into("<Q", area, _LEGACY, used)
    return bytes(area)


def _fits(number: int, mask: int, area: bytearray, layout: XsaveLayout) -> bool:
    offset, size = layout.places.get(number, (0, 0))
    return bool(mask >> number & 1) and offset >= _EXTENDED and offset + size <= len(area)
