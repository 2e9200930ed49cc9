"""The table is complete, its classes are those decided, and the filter's rules agree with the plans."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from migration.calls.calls_fakes import ARENA, MASK, NUMBERS, Everywhere, Nowhere, planned
from omtools.migration.calls.commands import FCNTL, IOCTL, PRCTL
from omtools.migration.calls.model import (
    Answer,
    CallClass,
    ComeHome,
    Continue,
    CpuTime,
    Exit,
    Forward,
    Plan,
    Refusal,
)
from omtools.migration.calls.plan import plan
from omtools.migration.calls.spec import Native, Spec, Switch
from omtools.migration.calls.table import NATIVE_RULES, TABLE, name

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


def _names(text: str) -> list[str]:
    return text.split()


ALWAYS_NATIVE = _names("""
    munmap mprotect mremap madvise brk mincore mlock munlock mlock2 mlockall munlockall msync futex
    futex_waitv futex_wake futex_wait futex_requeue set_robust_list get_robust_list rseq membarrier
    arch_prctl set_tid_address rt_sigprocmask rt_sigpending rt_sigtimedwait rt_sigsuspend rt_sigreturn
    sigaltstack pause sched_yield nanosleep gettimeofday time getrandom getpid gettid getuid geteuid
    getgid getegid getresuid getresgid restart_syscall pkey_mprotect pkey_alloc pkey_free mseal
    map_shadow_stack getcpu
""")

HOME = _names("""
    clone fork vfork clone3 execve execveat signalfd signalfd4 io_setup io_destroy io_submit io_cancel
    io_getevents io_pgetevents io_uring_setup io_uring_enter io_uring_register shmget shmat shmdt shmctl
    mount umount2 move_mount fsopen fsconfig fsmount fspick open_tree open_tree_attr mount_setattr
    init_module finit_module delete_module ptrace process_vm_readv process_vm_writev setuid setgid
    setreuid setregid setresuid setresgid setfsuid setfsgid setgroups capset unshare setns seccomp
    userfaultfd perf_event_open bpf kcmp remap_file_pages vmsplice process_madvise swapon swapoff reboot
    ioperm iopl modify_ldt chroot pivot_root keyctl add_key request_key fanotify_init fanotify_mark
""")

FORWARDED = _names("""
    read write open openat openat2 creat close close_range dup dup2 dup3 socket accept sendmsg recvmsg
    poll select epoll_wait wait4 waitid kill tgkill getppid getgroups uname umask chdir flock
    inotify_init eventfd2 memfd_create timerfd_create splice tee sendfile copy_file_range pidfd_open
    sysinfo syslog fcntl ioctl semop msgrcv mq_open getpriority setpriority sched_setscheduler
    sched_setaffinity
""")


@pytest.mark.skipif(not HEADER.exists(), reason="no kernel headers here")
def test_every_number_of_the_header_has_an_entry_of_that_name() -> None:
    found = re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())
    assert len(found) > 350
    assert {int(nr): call for call, nr in found if name(int(nr)) != call} == {}


def test_no_number_up_to_linux_6_18_is_left_out() -> None:
    assert set(TABLE) == {*range(337), *range(424, 470)}
    assert len(NUMBERS) == len(TABLE), "a name twice"


def refusals(spec: Spec) -> list[Refusal]:
    if isinstance(spec, Refusal):
        return [spec]
    if isinstance(spec, Native):
        return refusals(spec.otherwise) if spec.otherwise is not None else []
    if isinstance(spec, Switch):
        return [each for case in (*spec.cases.values(), spec.default) for each in refusals(case)]
    return []


def test_every_reason_completes_its_sentence() -> None:
    reasons = {each.reason for call in TABLE.values() for each in refusals(call.spec)}
    assert len(reasons) > 20
    for reason in reasons:
        assert re.fullmatch(r"it [a-z].*[^.]", reason), reason
        assert "{" not in reason.format(call="fork", number=1)


@pytest.mark.parametrize("call", HOME)
def test_comes_home(call: str) -> None:
    assert TABLE[NUMBERS[call]].kind is CallClass.HOME
    decided = planned(call)
    assert isinstance(decided, ComeHome)
    assert call in decided.reason, "a reason names the call"


@pytest.mark.parametrize("call", ALWAYS_NATIVE)
def test_is_never_trapped(call: str) -> None:
    assert TABLE[NUMBERS[call]].kind is CallClass.NATIVE
    assert NATIVE_RULES[NUMBERS[call]] == ((),)
    assert planned(call) == Continue()


@pytest.mark.parametrize("call", FORWARDED)
def test_is_the_deputys(call: str) -> None:
    assert TABLE[NUMBERS[call]].kind is CallClass.FORWARDED
    assert NUMBERS[call] not in NATIVE_RULES


def test_the_other_classes() -> None:
    kinds = {kind: {call.name for call in TABLE.values() if call.kind is kind} for kind in CallClass}
    assert kinds[CallClass.EXIT] == {"exit", "exit_group"}
    assert kinds[CallClass.MIRRORED] == {"rt_sigaction", "setrlimit", "prlimit64"}
    assert kinds[CallClass.NATIVE] == {
        *ALWAYS_NATIVE, "mmap", "clock_gettime", "clock_getres", "clock_nanosleep"
    }
    assert "_sysctl" in kinds[CallClass.ANSWERED]


@pytest.mark.parametrize("nr", [337, 423, 470, 999, 0x40000000, 0x40000001, 2**31 - 1, -1])
def test_unknown_numbers_come_home_and_are_named(nr: int) -> None:
    decided = plan(nr, (0,) * 6, Nowhere(), ARENA)
    assert isinstance(decided, ComeHome)
    assert str(nr) in decided.reason or f"{nr:#x}" in decided.reason
    assert name(nr).startswith("syscall_")


@pytest.mark.parametrize(
    ("prot", "flags", "reason"),
    [
        (3, 0x22, ""),
        (3, 0x20022, ""),             # MAP_STACK
        (3, 0x4022 | 1 << 35, ""),    # MAP_NORESERVE
        (3, 0x32, ""),                # MAP_FIXED
        (1, 0x02, "file"),
        (3, 0x01, "file"),
        (3, 0x21, "share"),
        (3, 0x23, "share"),
        (3, 0x40022, "huge"),
        (3, 0x28, "not known"),       # MAP_DROPPABLE
        (3, 0x20, "not known"),
    ],
)
def test_mmap(prot: int, flags: int, reason: str) -> None:
    decided = planned("mmap", 0, 4096, prot, flags, -1, 0)
    if reason:
        assert isinstance(decided, ComeHome)
        assert reason in decided.reason
    else:
        assert decided == Continue()


@pytest.mark.parametrize("clock", [0, 1, 4, 5, 6, 7, 8, 9, 11])
def test_wall_clocks_are_native(clock: int) -> None:
    for call in ("clock_gettime", "clock_getres", "clock_nanosleep"):
        assert planned(call, clock | 0xABCD << 32, 4096) == Continue()


@pytest.mark.parametrize(
    ("call", "args", "kind"),
    [
        ("clock_gettime", (2, 4096), CpuTime),
        ("clock_gettime", (3, 4096), CpuTime),
        ("clock_gettime", (-6, 4096), CpuTime),
        ("clock_gettime", (-2 & 0xFFFFFFFF, 4096), CpuTime),
        ("clock_gettime", (2, 0), Forward),
        ("clock_gettime", (10, 4096), Forward),
        ("clock_gettime", ((~7 << 3) | 3, 4096), Forward),   # of a descriptor
        ("clock_gettime", ((~4711 << 3) | 2, 4096), ComeHome),
        ("clock_gettime", ((~4711 << 3) | 6, 4096), ComeHome),
        ("clock_nanosleep", (2, 0, 4096, 0), ComeHome),
        ("times", (4096,), CpuTime),
        ("times", (0,), Forward),
        ("getrusage", (0, 4096), CpuTime),
        ("getrusage", (1, 4096), CpuTime),
        ("getrusage", (-1, 4096), Forward),
        ("getitimer", (0, 4096), Forward),
        ("setitimer", (1, 0, 0), ComeHome),
        ("setitimer", (2, 0, 0), ComeHome),
        ("timer_create", (1, 0, 4096), Forward),
        ("timer_create", (2, 0, 4096), ComeHome),
        ("timer_create", (-6, 0, 4096), ComeHome),
        ("exit", (7,), Exit),
        ("exit_group", (0,), Exit),
        ("personality", (0xFFFFFFFF,), Forward),
        ("personality", (0x0040000,), ComeHome),
        ("prlimit64", (0, 7, 8192, 0), Forward),
        ("prlimit64", (4711, 7, 0, 8192), Forward),
        ("prlimit64", (4711, 7, 8192, 0), ComeHome),
        ("prctl", (15, 0), Forward),
        ("prctl", (4, 1), ComeHome),
        ("prctl", (22, 1), ComeHome),
        ("prctl", (35, 1), ComeHome),
        ("prctl", (47, 1), Forward),
        ("prctl", (47, 2), ComeHome),
        ("prctl", (0x53564D41, 0, 4096, 4096), Continue),
        ("prctl", (12345,), ComeHome),
        ("fcntl", (0, 1), Forward),
        ("fcntl", (0, 999), ComeHome),
        ("ioctl", (0, 0x5413, 4096), Forward),
        ("ioctl", (0, 0xC0306400, 4096), ComeHome),
        ("semctl", (0, 0, 13), ComeHome),
        ("semctl", (0, 0, 2), Forward),
        ("rt_sigaction", (1, 0, 4096, 8), Continue),
        ("setsockopt", (3, 1, 2, 0, 4), Forward),
        ("setsockopt", (3, 0, 64, 0, 4), ComeHome),
        ("setsockopt", (3, 132, 1, 0, 4), ComeHome),
        ("getsockopt", (3, 6, 35, 4096, 4096), ComeHome),
        ("getsockopt", (3, 1, 26, 4096, 4096), ComeHome),
        ("sendto", (3, 0, 0, 0x4000000, 0, 0), ComeHome),
        ("sendmsg", (3, 0, 0x4000000), ComeHome),
        ("_sysctl", (), Answer),
    ],
)
def test_arguments_decide(call: str, args: tuple[int, ...], kind: type[Plan]) -> None:
    assert type(planned(call, *args, memory=Everywhere(bytes(4096)))) is kind


def test_every_case_of_a_call_has_a_plan() -> None:
    """No combination of a listed command or request and anything else fails to be planned."""
    memory = Everywhere(bytes(4096))
    for call, switch, where in (("fcntl", FCNTL, 1), ("ioctl", IOCTL, 1), ("prctl", PRCTL, 0)):
        for number in switch.cases:
            for other in (0, 1, 8192):
                args = [other] * 6
                args[where] = number
                decided = planned(call, *args, memory=memory)
                if isinstance(decided, ComeHome):
                    assert "{" not in decided.reason
                else:
                    assert isinstance(decided, Forward | Answer), (call, number)


def test_unknown_requests_are_named() -> None:
    for call, args, said in (
        ("ioctl", (0, 0xC0306400, 0), "0xc0306400"),
        ("fcntl", (0, 999), "999"),
        ("prctl", (12345,), "12345"),
        ("setsockopt", (3, 132, 5, 0, 4), "option 5 of level 132"),
    ):
        decided = planned(call, *args)
        assert isinstance(decided, ComeHome)
        assert said in decided.reason


def test_flags_of_forwards() -> None:
    memory = Everywhere(b"name\0" * 800)
    opening = {
        call.name
        for nr, call in TABLE.items()
        if isinstance(it := plan(nr, (8192,) * 6, memory, ARENA), Forward) and it.opens
    }
    assert opening == {"open", "openat", "creat"} | {"openat2"}
    stoppable = {
        request
        for request in range(0x5400, 0x5460)
        if isinstance(it := planned("ioctl", 0, request, 8192, memory=memory), Forward) and it.needs_mask
    }
    assert {0x5402, 0x5403, 0x5404, 0x5410, 0x540B} <= stoppable
    assert not {0x5401, 0x540F, 0x5413, 0x541B} & stoppable
    for call, args, mirror in (
        ("rt_sigaction", (1, 8192, 0, 8), True),
        ("setrlimit", (7, 8192), True),
        ("prlimit64", (0, 7, 8192, 0), True),
        ("prlimit64", (0, 7, 0, 8192), False),
        ("prctl", (15, 8192), True),
        ("prctl", (16, 8192), False),
    ):
        decided = planned(call, *args, memory=memory)
        assert isinstance(decided, Forward)
        assert decided.mirror is mirror, call


@pytest.mark.parametrize("call", ["getppid", "lseek", "fstat", "stat", "getcwd", "kill", "pipe2", "fcntl"])
def test_returns_at_once(call: str) -> None:
    decided = planned(call)
    assert isinstance(decided, Forward)
    assert not decided.may_block


@pytest.mark.parametrize(
    ("call", "args", "waits"),
    [
        ("read", (0, 0, 1), True),
        ("accept", (3, 0, 0), True),
        ("fcntl", (3, 7, 0), True),
        ("recvfrom", (3, 0, 0, 0x40), False),
        ("recvmsg", (3, 0, 0), True),
        ("wait4", (-1, 0, 0), True),
        ("wait4", (-1, 0, 1), False),
        ("poll", (0, 0, 0), False),
        ("poll", (0, 0, 5), True),
        ("poll", (0, 0, -1), True),
        ("epoll_wait", (3, 4096, 8, 0), False),
        ("select", (0, 0, 0, 0, 0), True),
        ("flock", (3, 2), True),
        ("flock", (3, 6), False),
    ],
)
def test_may_wait(call: str, args: tuple[int, ...], waits: bool) -> None:
    decided = planned(call, *args)
    assert isinstance(decided, Forward)
    assert decided.may_block is waits


def test_rules_are_well_formed() -> None:
    for nr, rules in NATIVE_RULES.items():
        assert rules, name(nr)
        for index, mask, value in (equality for alternative in rules for equality in alternative):
            assert 0 <= index < 6
            assert 0 < mask <= MASK
            assert value & mask == value, "a value its mask can never give"


REGISTER = st.one_of(
    st.integers(0, 64),
    st.sampled_from([0x22, 0x40022, 0x53564D41, 0x41555856, 0xFFFFFFFA, 2**32, 2**63, MASK, 0xFFFFFFFF]),
    st.integers(0, MASK),
)


@given(nr=st.sampled_from(sorted(NATIVE_RULES)), args=st.tuples(*[REGISTER] * 6))
@settings(deadline=None)
def test_the_filter_lets_through_exactly_what_the_plan_would_continue(nr: int, args: tuple[int, ...]) -> None:
    passes = any(all(args[i] & mask == value for i, mask, value in rule) for rule in NATIVE_RULES[nr])
    assert passes is isinstance(plan(nr, args, Everywhere(bytes(64)), ARENA), Continue)
