"""omtools.image.capture: the image of a real process, compared with what /proc tells of it."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import struct
import time
from collections.abc import Iterator

import msgspec
import pytest
from tracees import ECHO, Child, python, until

from omtools.errors import CannotMigrate, OmError
from omtools.image import capture
from omtools.image.capture import Before, add_trampolines, look_before, trampoline_page
from omtools.image.injection import Scratch, Tracee
from omtools.image.model import Image, Region, Resume
from omtools.image.restore import limit_guest
from omtools.image.vectors import take_apart
from omtools.linux import proc, ptrace
from omtools.linux.cpuid import xsave_layout
from omtools.linux.x86_64 import ERESTART_RESTARTBLOCK, PAGE, Registers, unsigned
from omtools.migration import residence
from omtools.migration.residence import Resident

SECOND = 1_000_000_000

RICH = """
import ctypes, faulthandler, mmap, os, resource, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
faulthandler.enable()  # an alternate signal stack
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGRTMIN + 3})
os.kill(os.getpid(), signal.SIGTERM)
libc.prctl(15, b"rich (one)", 0, 0, 0)
resource.setrlimit(resource.RLIMIT_STACK, (4 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))
hidden = mmap.mmap(-1, 3 * 4096)
shared = mmap.mmap(-1, 4096)
program = open("/proc/self/exe", "rb")
text = mmap.mmap(program.fileno(), 8192, mmap.MAP_PRIVATE, mmap.PROT_READ)
print("ready", flush=True)
for line in sys.stdin: print(line.strip(), flush=True)
"""


@contextlib.contextmanager
def frozen(child: Child) -> Iterator[tuple[Image, Resident]]:
    """Its image; it is let go at the end of the block."""
    resident = Resident(child.pid)
    try:
        yield resident.freeze(), resident
    finally:
        resident.release()


@contextlib.contextmanager
def rich() -> Iterator[tuple[Child, Image]]:
    with python(RICH) as child:
        with frozen(child) as (image, _resident):
            yield child, image
        assert child.answer(b"on") == b"on"


def bit(number: int) -> int:
    return 1 << (number - 1)


def test_what_it_says_of_signals() -> None:
    with rich() as (child, image):
        status = proc.status(child.pid)
        assert image.mask == bit(signal.SIGTERM) | bit(signal.SIGRTMIN + 3) == int(status["SigBlk"], 16)
        handlers = [struct.unpack_from("<Q", image.actions, 32 * index)[0] for index in range(64)]
        caught = sum(bit(index + 1) for index, handler in enumerate(handlers) if handler > 1)
        ignored = sum(bit(index + 1) for index, handler in enumerate(handlers) if handler == 1)
        assert ignored == int(status["SigIgn"], 16)
        assert caught == int(status["SigCgt"], 16) & ~bit(signal.SIGTRAP)  # held by ours just now
        assert caught & bit(signal.SIGUSR1)
        (pending,) = image.pending
        assert pending[0] == signal.SIGTERM
        pointer, flags, size = struct.unpack("<QixxxxQ", image.altstack)
        assert pointer
        assert flags == 0
        assert size >= 2048


def test_what_it_says_of_memory() -> None:
    with rich() as (child, image):
        scratch = Scratch(*image.scratch)
        kernel = ("[vvar]", "[vvar_vclock]", "[vdso]")
        mappings = [m for m in proc.mappings(child.pid) if not scratch.holds(m.start)]
        mappings = [m for m in mappings if m.name != "[vsyscall]"]
        assert [(r.start, r.end, r.protection, r.name, r.offset) for r in image.regions] == [
            (m.start, m.end, m.protection, m.name, m.offset) for m in mappings if m.name not in kernel
        ]
        assert image.vdso.mappings == [(m.name, m.start, m.end) for m in mappings if m.name in kernel]
        kinds = {region.name: region.kind for region in image.regions}
        assert kinds["[stack]"] == "stack"
        assert kinds["[heap]"] == "private"
        assert {r.kind for r in image.regions if r.name.startswith("/dev/zero")} == {"shared"}
        private = [region for region in image.regions if region.kind != "shared"]
        assert all(region.file == region.name.startswith("/") for region in private)
        stat = proc.stat(child.pid)
        layout = image.layout
        assert (layout.start_code, layout.end_code, layout.start_stack) == (
            stat.start_code, stat.end_code, stat.start_stack,
        )  # fmt: skip
        heap = next(m for m in mappings if m.name == "[heap]")
        assert layout.start_brk <= heap.start
        assert layout.brk == heap.end
        assert image.auxv == proc.auxv(child.pid)


def test_what_it_says_of_the_rest() -> None:
    with rich() as (child, image):
        assert (image.pid, image.command, image.personality) == (child.pid, b"rich (one)", 0)
        assert image.limits[resource.RLIMIT_STACK] == resource.prlimit(child.pid, resource.RLIMIT_STACK)
        assert image.limits[resource.RLIMIT_STACK][0] == 4 << 20
        rseq = ptrace.get_rseq(child.pid)
        assert image.rseq == (rseq.address, rseq.size, rseq.signature)
        assert image.robust[1] == 24
        assert image.tid_address
        assert bytes(ptrace.get_registers(child.pid)) == image.registers
        assert take_apart(ptrace.get_xstate(child.pid), xsave_layout()) == image.vectors
        assert 0 <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) - image.monotonic_ns < 60 * SECOND
        assert 0 <= time.clock_gettime_ns(time.CLOCK_BOOTTIME) - image.boottime_ns < 60 * SECOND
        assert image.resume is None


def test_it_travels() -> None:
    with rich() as (_child, image):
        again = msgspec.msgpack.decode(msgspec.msgpack.encode(image), type=Image)
        assert again == image
        assert bytes(again.general_registers()) == image.registers


def test_taking_it_changes_nothing() -> None:
    with python(RICH) as child:
        until(lambda: proc.stat(child.pid).state == "S")
        before = (proc.mappings(child.pid), proc.descriptors(child.pid), signals(child.pid))
        for _time in range(3):
            with frozen(child):
                pass
        assert (proc.mappings(child.pid), proc.descriptors(child.pid), signals(child.pid)) == before
        assert child.answer(b"unharmed") == b"unharmed"


def signals(pid: int) -> dict[str, str]:
    """All of its signals, without how many are queued for its user."""
    status = proc.status(pid)
    return {key: status[key] for key in status if key.startswith(("Sig", "Shd")) and key != "SigQ"}


def refused(code: str) -> OmError:
    with python(code) as child, pytest.raises(CannotMigrate) as caught, frozen(child):
        raise AssertionError("it was frozen")
    return caught.value


TIMER = "import signal\nsignal.setitimer(signal.ITIMER_VIRTUAL, 1000)\n"
MEMORY_FILE = "import mmap, os\nd = os.memfd_create('x')\nos.ftruncate(d, 4096)\nm = mmap.mmap(d, 4096)\n"
SHARED = """
import ctypes, mmap, os, signal
m = mmap.mmap(-1, 4096)
m[0] = 1
parent = os.getpid()
if os.fork() == 0:
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # it dies with its parent
    while os.getppid() == parent: signal.pause()
    os._exit(0)
"""
WAITS = "print('ready', flush=True)\nimport signal\nwhile True: signal.pause()"


def test_what_ties_it_to_its_home() -> None:
    assert "counts its CPU time" in str(refused(TIMER + WAITS))
    assert "memory file" in str(refused(MEMORY_FILE + WAITS))
    assert "shares memory with another process" in str(refused(SHARED + WAITS))


def test_a_refusal_leaves_the_process_as_it_was() -> None:
    code = "import signal\nsignal.setitimer(signal.ITIMER_PROF, 1000)\n" + ECHO
    with python(code) as child:
        until(lambda: proc.stat(child.pid).state == "S")
        before = (proc.mappings(child.pid), proc.descriptors(child.pid), signals(child.pid))
        with pytest.raises(CannotMigrate), frozen(child):
            pass
        assert (proc.mappings(child.pid), proc.descriptors(child.pid), signals(child.pid)) == before
        assert child.answer(b"on") == b"on"


# -- timeouts that were running -------------------------------------------------------------------------

POLL, NANOSLEEP, CLOCK_NANOSLEEP, FUTEX, RESTART, READ = 7, 35, 230, 202, 219, 0


class FakeMemory:
    """Two timespecs at known places; where code is looked for there is none."""

    def read(self, address: int, length: int) -> bytes:
        if length != 16:
            return bytes(length)
        return {0x5000: struct.pack("<qq", 10, 500), 0x6000: struct.pack("<qq", 3, 7)}[address]


Arguments = tuple[int, ...]


def asleep(seconds: float | None = 2.0, wchan: str = "whatever") -> Before:
    """Read at the moment of CLOCK_MONOTONIC that is called 0 here."""
    return Before(seconds, wchan, 0)


def left(
    call: int, arguments: Arguments, before: Before, result: int = -ERESTART_RESTARTBLOCK, now: int = 0
) -> tuple[Resume | None, Registers]:
    """What `capture` finds out, and the registers as it leaves them."""
    registers = Registers()
    registers.orig_rax, registers.rax = call, unsigned(result)
    for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), arguments, strict=False):
        setattr(registers, name, unsigned(value))
    tracee = Tracee(0)
    tracee.memory = FakeMemory()  # type: ignore[assignment]  # all that is asked of it
    return capture._resume(tracee, registers, before, now), registers


RESTARTED = [
    (POLL, (0x1000, 1, 5000), asleep(), Resume(POLL, 3 * SECOND, 2, False)),
    (POLL, (0x1000, 1, 1000), asleep(), Resume(POLL, 0, 2, False)),  # it is over already
    (POLL, (0x1000, 1, 5000), asleep(None), Resume(POLL, 5 * SECOND, 2, False)),  # nobody knows: all of it
    (NANOSLEEP, (0x5000, 0x6000), asleep(), Resume(NANOSLEEP, 3 * SECOND + 7, 0, True)),  # written
    (NANOSLEEP, (0x5000, 0), asleep(), Resume(NANOSLEEP, 8 * SECOND + 500, 0, True)),
    (CLOCK_NANOSLEEP, (1, 0, 0x5000, 0x6000), asleep(), Resume(CLOCK_NANOSLEEP, 3 * SECOND + 7, 2, True)),
    (CLOCK_NANOSLEEP, (1, 0, 0x5000, 0), asleep(), Resume(CLOCK_NANOSLEEP, 8 * SECOND + 500, 2, True)),
    (FUTEX, (0x9000, 128, 1, 0x5000), asleep(), Resume(FUTEX, 8 * SECOND + 500, 3, True)),
    (RESTART, (0x1000, 1, 5000), asleep(2.0, "do_poll"), Resume(POLL, 3 * SECOND, 2, False)),
    (RESTART, (0x5000, 0), asleep(2.0, "hrtimer_nanosleep"), Resume(NANOSLEEP, 8 * SECOND + 500, 0, True)),
    (RESTART, (1, 0, 0x5000, 0), asleep(2.0, "common_nsleep"),
     Resume(CLOCK_NANOSLEEP, 8 * SECOND + 500, 2, True)),
    (RESTART, (0x9000, 0, 1, 0x5000), asleep(2.0, "futex_wait"), Resume(FUTEX, 8 * SECOND + 500, 3, True)),
]  # fmt: skip


@pytest.mark.parametrize(("call", "arguments", "before", "expected"), RESTARTED)
def test_what_is_left_of_a_timeout(
    call: int, arguments: Arguments, before: Before, expected: Resume
) -> None:
    assert left(call, arguments, before)[0] == expected


@pytest.mark.parametrize(("call", "arguments", "before", "expected"), RESTARTED)
def test_the_time_it_takes_to_look_counts(
    call: int, arguments: Arguments, before: Before, expected: Resume
) -> None:
    found, _registers = left(call, arguments, before, now=SECOND // 2)
    assert found is not None
    assert found.nanoseconds == max(0, expected.nanoseconds - SECOND // 2)


def test_calls_that_begin_again_by_themselves() -> None:
    for result in (-512, -513, 0, 5):
        assert left(POLL, (0x1000, 1, 5000), asleep(), result)[0] is None
    assert left(READ, (0, 0, 0), asleep(), -514)[0] is None


@pytest.mark.parametrize(
    ("call", "arguments", "expected"),
    [
        (232, (3, 0x1000, 8, 5000), Resume(232, 3 * SECOND, 3, False)),  # epoll_wait
        (232, (3, 0x1000, 8, -1), None),  # for ever
        (441, (3, 0x1000, 8, 0x5000), Resume(441, 8 * SECOND + 500, 3, True)),  # epoll_pwait2
        (441, (3, 0x1000, 8, 0), None),
        (128, (0x1000, 0, 0x5000, 8), Resume(128, 8 * SECOND + 500, 2, True)),  # rt_sigtimedwait
    ],
)
def test_calls_that_would_begin_with_all_of_their_time(
    call: int, arguments: Arguments, expected: Resume | None
) -> None:
    assert left(call, arguments, asleep(), -514)[0] == expected


def test_a_futex_that_waits_until_a_moment_is_made_once_more() -> None:
    found, registers = left(FUTEX, (0x9000, 9, 1, 0x5000), asleep())  # FUTEX_WAIT_BITSET: an absolute time
    assert found is None
    assert (registers.call, registers.result) == (FUTEX, -513)


def test_a_call_that_cannot_be_told() -> None:
    with pytest.raises(CannotMigrate, match="cannot be told"):
        left(RESTART, (0, 0), asleep(1.0, "somewhere_else"))
    with pytest.raises(CannotMigrate, match="cannot be told"):
        left(READ, (0, 0), asleep())


def test_a_sleeper_s_rest_for_real() -> None:
    code = "import ctypes\nprint('ready', flush=True)\nctypes.CDLL(None).poll(None, 0, 1000_000)"
    with python(code) as child:
        until(lambda: "poll" in look_before(child.pid).wchan or look_before(child.pid).wchan in ("", "0"))
        if look_before(child.pid).wchan in ("", "0"):
            pytest.skip("this kernel does not tell where a process sleeps")
        with frozen(child) as (image, _resident):
            found = image.resume
            assert found is not None
            assert (found.nr, found.argument, found.pointer) == (POLL, 2, False)
            assert 900 * SECOND < found.nanoseconds <= 1000 * SECOND
            page = trampoline_page(Scratch(*image.scratch))
            assert [r for r in image.regions if r.start == page] == [
                Region(page, page + PAGE, 5, "private", False, "")
            ]
        with frozen(child) as (again, _resident):  # now by restart_syscall
            assert again.resume is not None
            assert again.resume.nr == POLL


def test_one_page_of_trampolines_is_enough() -> None:
    scratch = Scratch(0x6000_0000_0000)
    regions: list[Region] = []
    add_trampolines(regions, scratch)
    add_trampolines(regions, scratch)
    assert len(regions) == 1
    assert not scratch.holds(regions[0].start)


def test_a_guest_with_by_chance_its_number_of_home(monkeypatch: pytest.MonkeyPatch) -> None:
    # What only a process at home is asked (its timers) would be trapped by a guest's filter, and never return.
    with python("import signal; signal.setitimer(signal.ITIMER_VIRTUAL, 1000)\n" + ECHO) as child:
        with pytest.raises(CannotMigrate, match="CPU time"), frozen(child):
            pass
        take = capture.take_image
        monkeypatch.setattr(residence, "take_image", lambda tracee, *rest, **more: take(tracee, *rest, pid=tracee.pid, **more))
        with frozen(child) as (image, _resident):
            assert image.pid == child.pid
        assert child.answer(b"on") == b"on"


def test_its_priority_goes_with_it() -> None:
    with python(ECHO) as child:
        os.setpriority(os.PRIO_PROCESS, child.pid, 7)
        with frozen(child) as (image, _resident):
            assert image.nice == 7
            with python(ECHO) as other:
                limit_guest(other.pid, image)
                assert os.getpriority(os.PRIO_PROCESS, other.pid) == 7
