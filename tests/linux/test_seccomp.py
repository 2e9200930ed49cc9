"""omtools.linux.seccomp: the compiled filters in an interpreter of classic BPF, and one for real."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
from collections.abc import Mapping

import pytest
from hypothesis import example, given, strategies as st
from tracees import fork

from omtools.linux import seccomp
from omtools.linux.libc import C, syscall
from omtools.linux.seccomp import Rule, compile_filter
from omtools.migration.calls.plan import NATIVE_RULES

ALLOW, NOTIFY, KILL = 0x7FFF0000, 0x7FC00000, 0x80000000
X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
X32 = 0x40000000
Rules = Mapping[int, tuple[Rule, ...]]


def interpret(program: bytes, nr: int, args: tuple[int, ...], arch: int = X86_64) -> int:
    """What the kernel's interpreter does with the instructions used here.

    See Documentation/networking/filter.rst.
    """
    data = struct.pack("<IIQ6Q", nr & 0xFFFFFFFF, arch, 0, *args)
    code = list(struct.iter_unpack("<HBBI", program))
    assert 0 < len(code) <= 4096  # BPF_MAXINSNS
    accumulator = position = 0
    while True:
        operation, yes, no, k = code[position]  # IndexError: it ran off the end
        position += 1
        if operation == 0x20:
            assert k % 4 == 0
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif operation == 0x15:
            position += yes if accumulator == k else no
        elif operation == 0x35:
            position += yes if accumulator >= k else no
        elif operation == 0x54:
            accumulator &= k
        elif operation == 0x05:
            position += k
        elif operation == 0x06:
            return int(k)
        else:
            raise AssertionError(f"instruction {operation:#x}")


def expected(rules: Rules, nr: int, args: tuple[int, ...]) -> int:
    """What the rules mean, said in one line."""
    alternatives = rules.get(nr, ())
    holds = any(all(args[index] & mask == value for index, mask, value in rule) for rule in alternatives)
    return ALLOW if holds else NOTIFY


words = st.one_of(
    st.sampled_from([0, 1, 0xFFFFFFFF, 1 << 32, (1 << 64) - 1, 1 << 63]), st.integers(0, (1 << 64) - 1)
)


@st.composite
def equality(draw: st.DrawFn) -> tuple[int, int, int]:
    mask = draw(words)
    value = draw(words)
    return draw(st.integers(0, 5)), mask, value & mask if draw(st.integers(0, 9)) else value


rule: st.SearchStrategy[Rule] = st.lists(equality(), max_size=4).map(tuple)
rules_of_all: st.SearchStrategy[dict[int, tuple[Rule, ...]]] = st.dictionaries(
    st.integers(0, 470), st.lists(rule, max_size=4).map(tuple), max_size=60
)
six = st.tuples(words, words, words, words, words, words)


@st.composite
def situations(draw: st.DrawFn) -> tuple[dict[int, tuple[Rule, ...]], int, tuple[int, ...]]:
    """Rules, and a call that often keeps one of them, or misses it by one bit."""
    rules = draw(rules_of_all)
    nr = draw(st.integers(0, 480))
    args = list(draw(six))
    near = draw(st.booleans())
    if rules and near:
        nr = draw(st.sampled_from(sorted(rules)))
        if rules[nr]:
            for index, mask, value in draw(st.sampled_from(rules[nr])):
                args[index] = args[index] & ~mask & (1 << 64) - 1 | value
        if draw(st.booleans()):
            args[draw(st.integers(0, 5))] ^= 1 << draw(st.integers(0, 63))
    return rules, nr, tuple(args)


@given(situations())
@example(({0: (((0, 0, 1),),)}, 0, (0,) * 6))  # can never hold
@example(({0: ((),)}, 0, (0,) * 6))  # always holds
@example(({0: (((0, 1 << 32, 1 << 32),),)}, 0, (1 << 32, 0, 0, 0, 0, 0)))
def test_the_filter_does_what_the_rules_say(
    situation: tuple[dict[int, tuple[Rule, ...]], int, tuple[int, ...]],
) -> None:
    rules, nr, args = situation
    assert interpret(compile_filter(rules), nr, args) == expected(rules, nr, args)


@given(rules_of_all, st.integers(0, 500), six)
def test_foreign_numbers_and_architectures(rules: Rules, nr: int, args: tuple[int, ...]) -> None:
    program = compile_filter(rules)
    assert interpret(program, nr | X32, args) == NOTIFY
    assert interpret(program, -1, args) == NOTIFY
    assert interpret(program, nr, args, I386) == KILL
    assert interpret(program, nr, args, AARCH64) == KILL


def test_every_number_of_the_real_rules() -> None:
    program = compile_filter(NATIVE_RULES)
    for nr in range(600):
        for args in ((0,) * 6, ((1 << 64) - 1,) * 6, (1, 2, 3, 4, 5, 6)):
            assert interpret(program, nr, args) == expected(NATIVE_RULES, nr, args)
    for nr, alternatives in NATIVE_RULES.items():
        for alternative in alternatives:
            kept = [0] * 6
            for index, _mask, value in alternative:
                kept[index] |= value
            assert interpret(program, nr, tuple(kept)) == expected(NATIVE_RULES, nr, tuple(kept)) == ALLOW


def test_no_call_costs_more_than_a_dozen_comparisons() -> None:
    rules: dict[int, tuple[Rule, ...]] = dict.fromkeys(range(470), ((),))
    steps = 0

    def walk(position: int, depth: int) -> None:
        nonlocal steps
        operation, yes, no, k = code[position]
        if operation in (0x15, 0x35):
            steps = max(steps, depth + 1)
            walk(position + 1 + yes, depth + 1)
            walk(position + 1 + no, depth + 1)
        elif operation != 0x06:
            walk(position + 1 + (k if operation == 0x05 else 0), depth)

    code = list(struct.iter_unpack("<HBBI", compile_filter(rules)))
    walk(0, 0)
    assert steps <= 12


def test_without_rules_everything_is_told() -> None:
    assert interpret(compile_filter({}), 0, (0,) * 6) == NOTIFY


def install(program: bytes) -> int:
    """This process lives behind the filter from here on; its listener."""
    assert C.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    holder = ctypes.create_string_buffer(fprog, len(fprog))
    return syscall(seccomp.SYS_SECCOMP, seccomp.SET_MODE_FILTER, seccomp.FILTER_FLAG_NEW_LISTENER,
                   ctypes.addressof(holder))  # fmt: skip


GETUID, GETGID, GETPPID, DUP = 102, 104, 110, 32
ALL_ONES = (1 << 64) - 1


def behind_the_filter(told: int, tell: int) -> int:
    """In a child: calls allowed, answered, refused, let through; the exit status says how far it came."""
    rules: dict[int, tuple[Rule, ...]] = dict.fromkeys(range(450), ((),))
    for nr in (GETUID, GETGID, GETPPID):
        del rules[nr]
    rules[DUP] = (((0, ALL_ONES, told),),)
    parent = os.getppid()
    descriptor = install(compile_filter(rules))
    os.write(tell, descriptor.to_bytes(4, "little"))
    if syscall(GETUID) != 4711:
        return 1
    try:
        syscall(GETGID, 1, 2, 3, 4, 5, 6)
        return 2
    except OSError as error:
        if error.errno != errno.EXFULL:
            return 3
    if syscall(GETPPID) != parent:
        return 4
    syscall(DUP, told)  # by the rule: nobody is asked
    try:
        syscall(DUP, tell)
        return 5
    except OSError as error:
        return 0 if error.errno == errno.EMFILE else 6


def test_a_real_filter_and_its_listener() -> None:
    told, tell = os.pipe()
    pid = fork()
    if pid == 0:
        status = 99
        try:
            status = behind_the_filter(told, tell)
        finally:
            os._exit(status)
    listener = -1
    try:
        descriptor = int.from_bytes(os.read(told, 4), "little")
        listener = seccomp.take_descriptor(pid, descriptor)
        assert seccomp.set_sync_wake_up(listener) in (True, False)  # Linux 6.6 has it
        asked = seccomp.receive(listener)
        assert (asked.nr, asked.pid) == (GETUID, pid)
        seccomp.answer(listener, asked.cookie, 4711)
        asked = seccomp.receive(listener)
        assert (asked.nr, asked.args) == (GETGID, (1, 2, 3, 4, 5, 6))
        seccomp.answer(listener, asked.cookie, -errno.EXFULL)
        asked = seccomp.receive(listener)
        assert asked.nr == GETPPID
        seccomp.let_continue(listener, asked.cookie)
        asked = seccomp.receive(listener)
        assert (asked.nr, asked.args[0]) == (DUP, tell)
        seccomp.answer(listener, asked.cookie, -errno.EMFILE)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        with pytest.raises(FileNotFoundError):  # nobody waits for this answer any more
            seccomp.answer(listener, asked.cookie, 0)
    finally:
        for leftover in (told, tell, *((listener,) if listener >= 0 else ())):
            os.close(leftover)


def test_a_descriptor_of_nobody() -> None:
    with pytest.raises(ProcessLookupError):
        seccomp.take_descriptor(2**22, 0)
    pid = fork()
    if pid == 0:
        signal.pause()
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            seccomp.take_descriptor(pid, 4711)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
