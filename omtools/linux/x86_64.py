"""What only holds on x86-64: registers, restarts of interrupted calls, the gadgets and the stub program.

Nothing above `omtools.linux` and `omtools.image` may know any of this.
"""

from __future__ import annotations

import ctypes
import struct

PAGE = 4096


class Registers(ctypes.Structure):
    """struct user_regs_struct of <sys/user.h>, in the order of PTRACE_GETREGS."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx"),
            *("rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base"),
            *("ds", "es", "fs", "gs"),
        )
    ]
    r15: int
    r14: int
    r13: int
    r12: int
    rbp: int
    rbx: int
    r11: int
    r10: int
    r9: int
    r8: int
    rax: int
    rcx: int
    rdx: int
    rsi: int
    rdi: int
    orig_rax: int
    rip: int
    cs: int
    eflags: int
    rsp: int
    ss: int
    fs_base: int
    gs_base: int
    ds: int
    es: int
    fs: int
    gs: int

    def copy(self) -> Registers:
        """An independent copy."""
        return Registers.from_buffer_copy(self)

    @property
    def call(self) -> int:
        """Number of the system call it was stopped in, -1 outside of any."""
        return signed(self.orig_rax)

    @property
    def result(self) -> int:
        """The signed result of a system call, as it stands in rax."""
        return signed(self.rax)

    @property
    def arguments(self) -> tuple[int, int, int, int, int, int]:
        """The six arguments of a system call, unsigned."""
        return (self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9)


CS_64BIT = 0x33  # __USER_CS, arch/x86/include/asm/segment.h; 32-bit code runs with 0x23
NO_CALL = (1 << 64) - 1  # orig_rax of a process that is not in a system call

# Kernel-internal results of interrupted calls, include/linux/errno.h.
ERESTARTSYS = 512
ERESTARTNOINTR = 513
ERESTARTNOHAND = 514
ERESTART_RESTARTBLOCK = 516
RESTARTS = frozenset({-ERESTARTSYS, -ERESTARTNOINTR, -ERESTARTNOHAND, -ERESTART_RESTARTBLOCK})


def signed(value: int) -> int:
    """A 64-bit register as a signed number."""
    return value - (1 << 64) if value >> 63 else value


def unsigned(value: int) -> int:
    """A signed number as it stands in a 64-bit register."""
    return value & ((1 << 64) - 1)


SYSCALL = b"\x0f\x05"

SYSCALL_INT3 = b"\x0f\x05\xcc"
"""``syscall; int3``: one call, then a stop."""

# One entry of a batch: number, six arguments, result.
SLOT = struct.Struct("<8Q")

BATCH = bytes.fromhex(
    # rbx = first slot, r12 = number of slots
    "4d85e4"      # loop: test r12, r12
    "742a"        #       jz   done
    "488b03"      #       mov  rax, [rbx]
    "488b7b08"    #       mov  rdi, [rbx+8]
    "488b7310"    #       mov  rsi, [rbx+16]
    "488b5318"    #       mov  rdx, [rbx+24]
    "4c8b5320"    #       mov  r10, [rbx+32]
    "4c8b4328"    #       mov  r8,  [rbx+40]
    "4c8b4b30"    #       mov  r9,  [rbx+48]
    "0f05"        #       syscall
    "48894338"    #       mov  [rbx+56], rax
    "4883c340"    #       add  rbx, 64
    "49ffcc"      #       dec  r12
    "ebd1"        #       jmp  loop
    "cc"          # done: int3
)
"""Runs every slot of an array in one stop."""

SERVE = bytes.fromhex(
    # rbx = control block: +0 u32 go, +8 slot (number, arguments, result)
    "cc"          # serve: int3
    "833b00"      # look:  cmp  dword [rbx], 0
    "7513"        #        jne  run
    "b8ca000000"  #        mov  eax, 202  (futex)
    "4889df"      #        mov  rdi, rbx
    "31f6"        #        xor  esi, esi  (FUTEX_WAIT, shared)
    "31d2"        #        xor  edx, edx  (as long as it is 0)
    "4531d2"      #        xor  r10d, r10d  (no timeout)
    "0f05"        #        syscall
    "ebe8"        #        jmp  look
    "488b4308"    # run:   mov  rax, [rbx+8]
    "488b7b10"    #        mov  rdi, [rbx+16]
    "488b7318"    #        mov  rsi, [rbx+24]
    "488b5320"    #        mov  rdx, [rbx+32]
    "4c8b5328"    #        mov  r10, [rbx+40]
    "4c8b4330"    #        mov  r8,  [rbx+48]
    "4c8b4b38"    #        mov  r9,  [rbx+56]
    "0f05"        #        syscall
    "48894340"    #        mov  [rbx+64], rax
    "ebc3"        #        jmp  serve
)
"""The deputy's loop: stop; while told nothing, wait on the futex; do the call; stop again."""

SERVE_AT = 64  # where SERVE stands behind BATCH in the gadget page
LOOK_AT = SERVE_AT + 1  # its entry behind the stop
AFTER_CALL_AT = SERVE_AT + SERVE.index(bytes.fromhex("48894340"))  # behind its ``syscall``
GADGET = BATCH.ljust(SERVE_AT, b"\x90") + SERVE


RESCUE_AT = 256  # where `rescue_code` stands in the gadget page


def orphan_safe_call(frame: int) -> bytes:
    """``syscall``, then back to what the process was doing, by a `rescue_frame` at address `frame`.

    Run under PTRACE_SYSCALL it stops behind the call, and its tracer moves it on. Should the tracer be gone
    by then, the process puts its own registers back and notices nothing.
    """
    return b"\x0f\x05" + _sigreturn(frame)


def rescue_code(frame: int, old_action: int) -> bytes:
    """A SIGTRAP handler for an orphan in an int3: SIGTRAP's old action again, then back as above."""
    return (
        b"\xb8\x0d\0\0\0\xbf\x05\0\0\0"  # mov eax, 13 (rt_sigaction); mov edi, 5 (SIGTRAP)
         b"\x48\xbe" + struct.pack("<Q", old_action)  # mov rsi, imm64
        + b"\x31\xd2\x41\xba\x08\0\0\0\x0f\x05"  # xor edx, edx; mov r10d, 8; syscall
        + _sigreturn(frame)
    )  # fmt: skip


def _sigreturn(frame: int) -> bytes:
    return b"\x48\xbc" + struct.pack("<Q", frame) + b"\xb8\x0f\0\0\0\x0f\x05"  # rsp; eax = 15; syscall


# struct _fpx_sw_bytes, <asm/sigcontext.h>: FP_XSTATE_MAGIC1, FP_XSTATE_MAGIC2, where they stand
_MAGIC1, _MAGIC2, _SOFTWARE_AT = 0x46505853, 0x46505845, 464
_UC_FLAGS = 1 | 2 | 4  # UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS, <asm/ucontext.h>
_NO_ALTSTACK_CHANGE = 0x7FFF  # an invalid ss_flags: rt_sigreturn then leaves the alternate stack as it is
_FRAME_HEAD = 512  # bytes of struct ucontext, rounded up so that the XSAVE area behind it is aligned to 64


def rescue_frame_size(xstate: bytes) -> int:
    """Bytes that `rescue_frame` takes."""
    return _FRAME_HEAD + len(xstate) + 64


def rescue_frame(registers: Registers, mask: int, xstate: bytes, address: int) -> bytes:
    """What rt_sigreturn(2) needs at `address` (a multiple of 64) to put a stopped process back as it was.

    That is a struct ucontext with the XSAVE area behind it (struct rt_sigframe of the kernel's
    arch/x86/include/asm/sigframe.h, from its second member on). An interrupted call is made to begin again.
    """
    r = registers.copy()
    if r.call >= 0 and r.result in RESTARTS:
        r.rip -= 2
        r.rax = r.orig_rax
    head = struct.pack("<QQQiiQ", _UC_FLAGS, 0, 0, _NO_ALTSTACK_CHANGE, 0, 0)
    head += struct.pack(
        "<18Q", r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rbp, r.rbx, r.rdx,
        r.rax, r.rcx, r.rsp, r.rip, r.eflags,
    )  # fmt: skip
    head += struct.pack("<4H4QQ64xQ", r.cs, 0, 0, r.ss, 0, 0, 0, 0, address + _FRAME_HEAD, mask)
    area = bytearray(xstate)
    features = int.from_bytes(area[_SOFTWARE_AT : _SOFTWARE_AT + 8], "little")
    software = struct.pack("<IIQI28x", _MAGIC1, len(area) + 4, features, len(area))
    area[_SOFTWARE_AT : _SOFTWARE_AT + len(software)] = software
    return head.ljust(_FRAME_HEAD, b"\0") + bytes(area) + struct.pack("<I", _MAGIC2)


def load_number(nr: int) -> bytes:
    """Code that puts a call's number into eax; before a `resume_trampoline` it tells which call it makes."""
    return b"\xb8" + struct.pack("<I", nr)  # mov eax, imm32


def resume_trampoline(call: Registers, target: int) -> bytes:
    """Code that makes the call in rax once more and goes on at `target` with `call`'s own arguments.

    For a call whose timeout had to be replaced by what is left of it: the caller's registers must look
    as if it had passed its own pointer. Of its registers a call changes only rax, rcx and r11.
    """
    return b"\x0f\x05" + _give_back(call, target)  # syscall


def rest_trampoline(call: Registers, target: int, done: int) -> bytes:
    """Code that writes the rest of an interrupted write, and returns what both parts have written.

    If the rest fails the first part alone counts, as the kernel has it. `call` and `target` as above.
    """
    return (
        b"\x0f\x05"  # syscall
        b"\x48\x85\xc0\x78\x08"  # test rax, rax; js failed
        b"\x48\x05" + struct.pack("<I", done) + b"\xeb\x07"  # add rax, done; jmp out
        b"\x48\xc7\xc0" + struct.pack("<I", done)  # failed: mov rax, done
        + _give_back(call, target)  # out:
    )  # fmt: skip


REST_DONE_AT = (9, 18)  # where a `rest_trampoline` has its number of bytes done


def _give_back(call: Registers, target: int) -> bytes:
    code = b""
    for opcode, value in (
        (b"\x48\xbf", call.rdi),  # mov rdi, imm64
        (b"\x48\xbe", call.rsi),
        (b"\x48\xba", call.rdx),
        (b"\x49\xba", call.r10),
    ):
        code += opcode + struct.pack("<Q", value)
    return code + b"\xff\x25\0\0\0\0" + struct.pack("<Q", target)  # jmp [rip+0]


PROGRAM_BASE = 0x10000  # vm.mmap_min_addr's usual value: the lowest page an ordinary user may map
_CODE_AT = 120  # behind the ELF header (64 bytes) and the one program header (56)


def _program(code: bytes) -> bytes:
    """A complete ELF executable of one page that holds `code` (<elf.h>)."""
    size = _CODE_AT + len(code)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",  # 64 bit, little endian, version 1
        *(2, 62, 1),  # ET_EXEC, EM_X86_64, EV_CURRENT
        *(PROGRAM_BASE + _CODE_AT, 64, 0, 0),  # entry, program headers, no sections, no flags
        *(64, 56, 1, 0, 0, 0),
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, PROGRAM_BASE, PROGRAM_BASE, size, size, PAGE)  # PT_LOAD, R+X
    return header + load + code


STUB_PROGRAM = _program(b"\xcc" + SYSCALL_INT3)
"""What a guest starts as: a stop that tells its tracer that exec is over, then `STUB_GADGET`."""

STUB_GADGET = PROGRAM_BASE + _CODE_AT + 1  # where ``syscall; int3`` stands in the stub

PAUSE_PROGRAM = _program(b"\xb8\x22\0\0\0\x0f\x05\xeb\xf7")
"""pid 1 of a cage: ``loop: mov eax, 34 (pause); syscall; jmp loop``."""
