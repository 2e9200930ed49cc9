"""omtools.image.foreign_vdso: the functions of a vdso, and what stands in for them."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from omtools.image.foreign_vdso import CannotStandIn, functions, stand_in
from omtools.linux import proc

BASE = 0x1234_5000


def vdso() -> bytes:
    """This machine's."""
    (mapping,) = (m for m in proc.mappings(os.getpid()) if m.name == "[vdso]")
    with Path("/proc/self/mem").open("rb", buffering=0) as memory:
        return os.pread(memory.fileno(), mapping.size, mapping.start)


def test_the_functions_of_this_kernel() -> None:
    found = {function.name: function for function in functions(vdso())}
    assert {"clock_gettime", "gettimeofday", "time", "clock_getres", "getcpu"} <= set(found)
    assert all(0 < f.at < f.at + f.size <= len(vdso()) for f in found.values())


def test_each_leads_where_it_should() -> None:
    ours = vdso()
    at = {function.name: function.at for function in functions(ours)}
    copy, stubs = stand_in(ours, ours, BASE)
    assert len(copy) == len(ours)
    for name in ("gettimeofday", "time"):
        stub = next(stub for stub in stubs if stub.start == at[name])
        code = copy[stub.start : stub.stop]
        assert code[:2] == b"\x49\xbb"
        assert struct.unpack("<Q", code[2:10])[0] == BASE + at[name]
        assert code[10:] == b"\x41\xff\xe3"
    changed = {index for index, (a, b) in enumerate(zip(ours, copy, strict=True)) if a != b}
    assert changed <= {index for stub in stubs for index in stub}


def test_clocks_of_cpu_time_are_asked_of_the_kernel() -> None:
    ours = vdso()
    (function,) = (f for f in functions(ours) if f.name == "clock_gettime")
    copy, stubs = stand_in(ours, ours, BASE)
    (stub,) = (stub for stub in stubs if stub.start == function.at)
    code = copy[stub.start : stub.stop]
    for jump in (3, 8, 13):  # the displacements of js and je
        target = jump + 1 + code[jump]
        assert code[target : target + 8] == b"\xb8\xe4\x00\x00\x00\x0f\x05\xc3"


@pytest.mark.parametrize("damage", [b"", b"\x7fELF", b"\x7fELF" + bytes(60) + b"\xff" * 300])
def test_what_is_no_vdso(damage: bytes) -> None:
    if damage.endswith(b"\xff"):
        damage = vdso()[:0x28] + b"\xff" * 8 + vdso()[0x30:]  # its section table is nowhere
    with pytest.raises(CannotStandIn, match="cannot be read"):
        functions(damage)


def test_a_function_without_room() -> None:
    ours = vdso()
    (function,) = (f for f in functions(ours) if f.name == "time")
    symbol, short = struct.pack("<QQ", function.at, function.size), struct.pack("<QQ", function.at, 5)
    with pytest.raises(CannotStandIn, match="time"):
        stand_in(ours.replace(symbol, short), ours, BASE)
