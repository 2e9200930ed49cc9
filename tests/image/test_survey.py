"""omtools.image.survey: every refusal, on processes that deserve it."""

from __future__ import annotations

import mmap
import os
import signal
import struct
from pathlib import Path

import pytest
from tracees import child_of, fork, python, seized, until

from omtools.errors import (
    AlreadyTraced,
    CannotMigrate,
    ForeignArchitecture,
    KernelThread,
    NoSuchProcess,
    OmError,
    ZombieProcess,
)
from omtools.image.survey import region_obstacle, shared_elsewhere, survey
from omtools.linux import proc
from omtools.linux.proc import Mapping
from omtools.linux.x86_64 import PAGE

READY = "print('ready', flush=True)\nimport signal\nwhile True: signal.pause()"
LIBC = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"


def refusal(pid: int) -> OmError:
    with pytest.raises(OmError) as caught:
        survey(pid)
    return caught.value


def test_an_ordinary_process() -> None:
    with python() as child:
        found = survey(child.pid)
        assert (found.pid, found.uid, found.gid, found.threads) == (child.pid, os.getuid(), os.getgid(), 1)
        assert found.command.startswith("python")
        assert 1 << 20 < found.resident_bytes < 1 << 30


def test_nothing_there() -> None:
    assert isinstance(refusal(2**22), NoSuchProcess)


def test_a_zombie() -> None:
    pid = fork()
    if pid == 0:
        os._exit(0)
    try:
        until(lambda: proc.stat(pid).state == "Z")
        assert isinstance(refusal(pid), ZombieProcess)
    finally:
        os.waitpid(pid, 0)


def test_a_traced_process() -> None:
    with seized() as child:
        refused = refusal(child.pid)
        assert isinstance(refused, AlreadyTraced)
        assert refused.fields == {"pid": child.pid, "tracer": os.getpid()}


def test_a_kernel_thread() -> None:
    if "kthreadd" not in Path("/proc/2/comm").read_text():
        pytest.skip("this pid namespace has no kernel threads")
    assert isinstance(refusal(2), KernelThread)


THREADS = """
import threading, time
threading.Thread(target=lambda: time.sleep(1000), daemon=True).start()
"""
MLOCK = LIBC + "import mmap\na = mmap.mmap(-1, 4096)\na[0] = 1\n" + """
address = ctypes.addressof(ctypes.c_char.from_buffer(a))
assert libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(4096)) == 0
"""
SECCOMP = LIBC + """
import struct
allow = ctypes.create_string_buffer(struct.pack("<HBBI", 6, 0, 0, 0x7fff0000))
program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", 1, ctypes.addressof(allow)))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(program)), 0, 0) == 0
"""
CPU_TIMER = LIBC + """
timer = ctypes.c_void_p()
assert libc.timer_create(2, None, ctypes.byref(timer)) == 0
"""
OTHER_CPU_TIMER = LIBC + """
import time
timer = ctypes.c_void_p()
assert libc.timer_create(time.pthread_getcpuclockid(__import__("threading").get_ident()), None,
                         ctypes.byref(timer)) == 0
"""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (THREADS, "it has 2 threads"),
        (MLOCK, "locked memory"),
        (SECCOMP, "sandbox of its own"),
        (CPU_TIMER, "counts its CPU time"),
        (OTHER_CPU_TIMER, "counts its CPU time"),
    ],
)
def test_what_ties_a_process_to_its_home(code: str, words: str) -> None:
    with python(code + READY) as child:
        if "timer" in code and not Path(f"/proc/{child.pid}/timers").read_text():
            pytest.skip("this kernel does not list timers")
        refused = refusal(child.pid)
        assert isinstance(refused, CannotMigrate)
        assert words in str(refused)


def test_a_timer_that_counts_real_time_does_not_matter() -> None:
    with python(CPU_TIMER.replace("timer_create(2", "timer_create(1") + READY) as child:
        assert survey(child.pid).threads == 1


def test_one_of_several_threads() -> None:
    with python(THREADS + READY) as child:
        (other,) = {int(name) for name in os.listdir(f"/proc/{child.pid}/task")} - {child.pid}
        assert f"it is a thread of process {child.pid}" in str(refusal(other))


def test_a_stopped_process() -> None:
    with python() as child:
        os.kill(child.pid, signal.SIGSTOP)
        until(lambda: proc.stat(child.pid).state == "T")
        assert f"kill -CONT {child.pid}" in str(refusal(child.pid))


def test_a_real_time_process() -> None:
    with python() as child:
        try:
            os.sched_setscheduler(child.pid, os.SCHED_FIFO, os.sched_param(1))
        except PermissionError:
            pytest.skip("no real-time classes for this user")
        assert "real-time class" in str(refusal(child.pid))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change ids")
def test_changed_ids() -> None:
    with python("import os\nos.setresgid(0, 65534, 0)\n" + READY) as child:
        assert "changed user or group ids" in str(refusal(child.pid))


def thirty_two_bit_program() -> bytes:
    """pause() for ever, as an ELF executable of i386."""
    code = b"\xb8\x1d\0\0\0\xcd\x80\xeb\xf7"  # mov eax, 29; int 0x80; jmp
    base, at = 0x08048000, 84
    header = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 3, 1, base + at, 52,
                         0, 0, 52, 32, 1, 0, 0, 0)  # fmt: skip
    load = struct.pack("<8I", 1, 0, base, base, at + len(code), at + len(code), 5, PAGE)
    return header + load + code


def test_a_32_bit_program(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_bytes(thirty_two_bit_program())
    path.chmod(0o755)
    try:
        with child_of(str(path)) as child:
            until(lambda: os.readlink(f"/proc/{child.pid}/exe") == str(path))
            refused = refusal(child.pid)
            assert isinstance(refused, ForeignArchitecture)
            assert "32-bit" in str(refused)
    except OSError as error:
        pytest.skip(f"this kernel does not run such programs: {error}")


def mapping(name: str, *, shared: bool = False, writable: bool = True, inode: int = 7) -> Mapping:
    return Mapping(0x1000, 0x2000, True, writable, False, shared, 0, "08:01", inode, name)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (mapping("/dev/dri/card0", shared=True), "maps the device /dev/dri/card0"),
        (mapping("/dev/kvm"), "maps the device"),
        (mapping("/anon_hugepage (deleted)"), "huge pages"),
        (mapping("/SYSV00000000 (deleted)", shared=True), "System V"),
        (mapping("/memfd:x (deleted)", shared=True), "memory file"),
        (mapping("/home/me/database", shared=True), "shared and writable: /home/me/database"),
        (mapping("/dev/shm/segment", shared=True), "shared and writable"),
        (mapping("/dev/zero (deleted)", shared=True, inode=9), "shares memory with another process"),
    ],
)
def test_mappings_that_tie(what: Mapping, words: str) -> None:
    assert words in region_obstacle(what, {("08:01", 9)})


@pytest.mark.parametrize(
    "what",
    [
        mapping(""),
        mapping("[heap]"),
        mapping("/lib/libc.so.6"),
        mapping("/usr/share/locale/archive", shared=True, writable=False),
        mapping("/dev/zero (deleted)", shared=True),
        mapping("/dev/shm/segment", shared=False),
    ],
)
def test_mappings_that_do_not(what: Mapping) -> None:
    assert region_obstacle(what, {("08:01", 9)}) == ""


def test_shared_memory_is_found_where_it_is() -> None:
    alone, both = mmap.mmap(-1, PAGE), mmap.mmap(-1, PAGE)
    both[0] = alone[0] = 1
    pid = fork()
    if pid == 0:
        alone.close()
        while True:
            signal.pause()
    try:
        mine = [m for m in proc.mappings(os.getpid()) if m.shared and m.name.startswith("/dev/zero")]
        keys = {(m.device, m.inode) for m in mine}
        assert len(keys) >= 2
        until(lambda: shared_elsewhere(os.getpid(), keys) != keys)
        found = shared_elsewhere(os.getpid(), keys)
        assert found < keys
        assert found
        assert shared_elsewhere(os.getpid(), set()) == set()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        alone.close()
        both.close()
