"""The vdso of a process whose home has another kernel.

The process knows the addresses of the functions in its home's vdso (vdso(7)): its C library has looked them
up when it began. Where it is a guest of another kernel, a copy of the home's vdso is put at the old place,
with a stub in the place of each function, which leads to this kernel's own vdso, which stands elsewhere, or
makes the system call. At home its own vdso is still there, so it must leave with no register that points into
ours: it is not frozen there (`clock_code`), and in a stub it is taken back to the stub's begin.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_EHDR = struct.Struct("<16xHHIQQQIHHHHHH")  # Elf64_Ehdr without e_ident, <elf.h>
_SHDR = struct.Struct("<IIQQQQIIQQ")        # Elf64_Shdr
_SYM = struct.Struct("<IBBHQQ")             # Elf64_Sym
_SHT_DYNSYM = 11
_STT_FUNC = 2

# Numbers of <asm/unistd_64.h>.
_BY_CALL = {"clock_getres": 229, "getcpu": 309}
_BY_VDSO = {"gettimeofday": 96, "time": 201}
_CLOCK_GETTIME, _GETRANDOM = 228, 318


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a vdso.

    Attributes:
        name: without the prefix ``__vdso_``.
        at: offset from the vdso's begin.
        size: bytes.
    """

    name: str
    at: int
    size: int


class CannotStandIn(Exception):
    """The vdso is not of a kind known here; `args[0]` says why."""


def functions(code: bytes) -> list[Function]:
    """The functions that a vdso exports, each once; raises CannotStandIn."""
    try:
        return _functions(code)
    except (struct.error, IndexError, OverflowError, ValueError):
        raise CannotStandIn("its vdso cannot be read") from None


def _functions(code: bytes) -> list[Function]:
    *_, table, _flags, _size, _n, _m, each, count, _names = _EHDR.unpack_from(code)
    sections = [_SHDR.unpack_from(code, table + index * each) for index in range(count)]
    found: dict[int, Function] = {}
    for _name, kind, _flags, _address, offset, size, link, *_rest in sections:
        if kind != _SHT_DYNSYM:
            continue
        strings = sections[link][4]
        for at in range(offset, offset + size, _SYM.size):
            name_at, info, _other, section, value, length = _SYM.unpack_from(code, at)
            if info & 0xF == _STT_FUNC and section:
                name = code[strings + name_at : code.index(b"\0", strings + name_at)].decode("ascii")
                found[value] = Function(name.removeprefix("__vdso_"), value, length)
    return list(found.values())


def stand_in(theirs: bytes, ours: bytes, base: int) -> tuple[bytes, list[range]]:
    """The copy of a home's vdso for a guest of this kernel, and the offsets of its stubs.

    Args:
        theirs: the home's vdso.
        ours: this kernel's.
        base: where ours stands in the guest.

    Raises:
        CannotStandIn: a function has no counterpart here, or no room for it.
    """
    here = {function.name: base + function.at for function in functions(ours)}
    copy = bytearray(theirs)
    stubs = []
    for function in functions(theirs):
        stub = _stub(function.name, here)
        if stub is None:
            continue
        if len(stub) > function.size:
            raise CannotStandIn(f"{function.name} of its vdso is too short")
        copy[function.at : function.at + len(stub)] = stub
        stubs.append(range(function.at, function.at + len(stub)))
    return bytes(copy), stubs


def _stub(name: str, here: dict[str, int]) -> bytes | None:
    if name == "clock_gettime":
        return _clock_gettime(here.get(name))
    if name in _BY_VDSO:
        return _jump(here[name]) if name in here else _system_call(_BY_VDSO[name])
    if name in _BY_CALL:
        return _system_call(_BY_CALL[name])
    if name == "getrandom":
        # cmp r8, -1; je to the end: the question for the size of its state is answered "not supported".
        call = _system_call(_GETRANDOM)
        return b"\x49\x83\xf8\xff\x74" + bytes([len(call)]) + call + b"\xb8\xda\xff\xff\xff\xc3"  # -ENOSYS
    return None  # of an enclave (SGX): nothing that a guest could have here


def _clock_gettime(address: int | None) -> bytes:
    """CPU clocks by the call, which the guest's filter sees; the others, read from memory, by our vdso."""
    call = _system_call(_CLOCK_GETTIME)
    if address is None:
        return call
    jump = _jump(address)
    # test edi, edi; js call; cmp edi, CLOCK_PROCESS_CPUTIME_ID; je call; the same for CLOCK_THREAD_CPUTIME_ID
    tests = (b"\x85\xff\x78", b"\x83\xff\x02\x74", b"\x83\xff\x03\x74")
    whole = sum(len(test) + 1 for test in tests) + len(jump)
    code = b""
    for test in tests:
        code += test + bytes([whole - len(code) - len(test) - 1])
    return code + jump + call


def _jump(address: int) -> bytes:
    return b"\x49\xbb" + struct.pack("<Q", address) + b"\x41\xff\xe3"  # movabs r11, address; jmp r11


def _system_call(number: int) -> bytes:
    return b"\xb8" + struct.pack("<I", number) + b"\x0f\x05\xc3"  # mov eax, number; syscall; ret
