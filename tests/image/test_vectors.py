"""omtools.image.vectors: registers that travel between processors with different sets of them."""

from __future__ import annotations

import struct

import pytest
from tracees import Child, python

from omtools.image.vectors import PKRU, NotThere, VectorRegisters, put_together, take_apart
from omtools.linux import ptrace
from omtools.linux.cpuid import XsaveLayout, xsave_layout

# Offsets of two makers: one puts AVX-512 where the other has MPX.
SERVER = XsaveLayout({2: (576, 256), 5: (832, 64), 6: (896, 512), 7: (1408, 1024), 9: (2432, 8)})
DESKTOP = XsaveLayout({2: (576, 256), 5: (1088, 64), 6: (1152, 512), 7: (1664, 1024), 9: (2688, 8)})
OLD = XsaveLayout({2: (576, 256)})
_AT_START = (0x55555554).to_bytes(8, "little")


def area(layout: XsaveLayout, used: dict[int, bytes], mask: int, legacy_used: int = 3) -> bytes:
    """An XSAVE area as the kernel shows it."""
    size = max(offset + length for offset, length in layout.places.values())
    content = bytearray(size)
    content[:464] = bytes(number & 0xFF for number in range(464))
    struct.pack_into("<Q", content, 464, mask)
    struct.pack_into("<Q", content, 512, legacy_used | sum(1 << number for number in used))
    for number, piece in used.items():
        offset, length = layout.places[number]
        assert len(piece) == length
        content[offset : offset + length] = piece
    return bytes(content)


def empty(layout: XsaveLayout, mask: int) -> bytes:
    return area(layout, {}, mask, 0)


def test_between_makers_components_change_their_places() -> None:
    used = {2: b"y" * 256, 5: b"k" * 64, 7: b"z" * 1024}
    travelling = take_apart(area(SERVER, used, 0xE7), SERVER)
    assert travelling.components == used
    there = put_together(travelling, empty(DESKTOP, 0xE7), DESKTOP)
    assert there == area(DESKTOP, used, 0xE7)
    back = put_together(take_apart(there, DESKTOP), empty(SERVER, 0xE7), SERVER)
    assert back == area(SERVER, used, 0xE7)


def test_to_a_processor_with_fewer_as_long_as_the_others_are_not_used() -> None:
    travelling = take_apart(area(SERVER, {2: b"y" * 256}, 0xE7), SERVER)
    assert put_together(travelling, empty(OLD, 7), OLD) == area(OLD, {2: b"y" * 256}, 7)


@pytest.mark.parametrize(("number", "size"), [(5, 64), (6, 512), (7, 1024)])
def test_registers_in_use_that_are_not_there(number: int, size: int) -> None:
    travelling = take_apart(area(SERVER, {number: b"x" * size}, 0xE7), SERVER)
    with pytest.raises(NotThere, match="AVX-512"):
        put_together(travelling, empty(OLD, 7), OLD)


def test_what_the_kernel_does_not_give_to_programs_is_not_there() -> None:
    travelling = take_apart(area(SERVER, {2: b"y" * 256}, 0xE7), SERVER)
    with pytest.raises(NotThere, match="AVX"):
        put_together(travelling, empty(OLD, 3), OLD)


def test_protection_keys_that_were_never_used_do_not_matter() -> None:
    travelling = take_apart(area(SERVER, {PKRU: _AT_START}, 0x2E7), SERVER)
    assert put_together(travelling, empty(OLD, 7), OLD) == area(OLD, {}, 7)
    home = put_together(take_apart(empty(OLD, 7), OLD), empty(SERVER, 0x2E7), SERVER)
    assert take_apart(home, SERVER).components == {PKRU: _AT_START}


def test_protection_keys_in_use() -> None:
    travelling = take_apart(area(SERVER, {PKRU: bytes(8)}, 0x2E7), SERVER)
    with pytest.raises(NotThere, match="PKU"):
        put_together(travelling, empty(OLD, 7), OLD)


def test_a_frame_that_is_too_large_for_the_other_kernel() -> None:
    real = area(SERVER, {}, 0xE7)
    stack = bytes(464) + b"SXPF" + bytes(100)
    travelling = take_apart(real, SERVER, stack)
    assert put_together(travelling, real, SERVER) == real
    with pytest.raises(NotThere, match="handler"):
        put_together(travelling, empty(OLD, 7), OLD)
    assert not take_apart(real, SERVER, bytes(600)).framed


def test_a_real_one_is_put_together_as_it_was() -> None:
    with python("import time\nprint('ready', flush=True)\ntime.sleep(100)") as child:
        assert isinstance(child, Child)
        ptrace.seize(child.pid)
        ptrace.interrupt(child.pid)
        ptrace.wait(child.pid)
        real = ptrace.get_xstate(child.pid)
        registers = take_apart(real, xsave_layout())
        assert isinstance(registers, VectorRegisters)
        assert registers.size == len(real)
        assert put_together(registers, real, xsave_layout()) == real
        ptrace.detach(child.pid)
