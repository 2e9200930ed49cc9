"""omtools.linux.proc on real processes, with the names that only a malicious or careless person gives."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tracees import ECHO, fork, python, seized, stop_in_call, until

from omtools.linux import proc
from omtools.linux.libc import C
from omtools.linux.x86_64 import PAGE

PR_SET_NAME = 15

ODD_FILES = [
    b"with spaces",
    b" leading and trailing ",
    b"new\nline",
    b"carriage\rreturn",
    b"form\x0cfeed\x0band\x1cseparators\x85",
    b"(parentheses) )(",
    b"not utf-8 \xff\xfe",
    "línea\u2028separada".encode(),
    b"already gone (deleted)",
]


@pytest.mark.parametrize("name", ODD_FILES)
def test_maps_of_oddly_named_files(tmp_path: Path, name: bytes) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(descriptor, 3 * PAGE)
    mapped = mmap.mmap(descriptor, 2 * PAGE, mmap.MAP_SHARED, mmap.PROT_READ, offset=PAGE)
    inode = os.fstat(descriptor).st_ino
    os.close(descriptor)
    try:
        (found,) = [m for m in proc.mappings(os.getpid()) if m.inode == inode and m.device != "00:00"]
        assert os.fsencode(found.name) == path.replace(b"\n", b"\\012")
        assert (found.size, found.offset, found.shared) == (2 * PAGE, PAGE, True)
        assert (found.readable, found.writable, found.executable) == (True, False, False)
        assert found.protection == 1
    finally:
        mapped.close()


def test_maps_are_in_order_and_complete() -> None:
    with python() as child:
        found = proc.mappings(child.pid)
        assert found == sorted(found, key=lambda m: m.start)
        assert all(before.end <= after.start for before, after in itertools.pairwise(found))
        names = {m.name for m in found}
        assert {"[stack]", "[vdso]"} <= names
        assert "" in names
        assert any(m.executable and m.name.startswith("/") for m in found)


ODD_NAMES = [
    b"plain", b"a b", b"a) S (b", b"))))", b"((", b"new\nline", b"cr\rUid:\t0\t0", b"\xff\xfe", b"x\x85y",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES)
def test_stat_and_status_of_oddly_named_processes(name: bytes) -> None:
    pid = fork()
    if pid == 0:
        C.prctl(PR_SET_NAME, ctypes.c_char_p(name), 0, 0, 0)
        while True:
            time.sleep(1000)
    try:
        until(lambda: Path(f"/proc/{pid}/comm").read_bytes() == name[:15] + b"\n")
        stat = proc.stat(pid)
        assert os.fsencode(stat.command) == name[:15]
        assert (stat.parent, stat.threads, stat.exit_signal) == (os.getpid(), 1, 17)
        status = proc.status(pid)
        assert status["Tgid"] == str(pid)
        assert status["Uid"].split()[0] == str(os.getuid())
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("['another', 'name']", b"another\0name"),
        ("['short', 'x' * 5000, 'not after a gap']", b"short"),  # there is less room than that
        ("[]", b""),
    ],
)
def test_a_process_is_shown_with_another_command_line(words: str, shown: bytes) -> None:
    script = f"from omtools.linux.proc import show_as; show_as({words}); print(open('/proc/self/cmdline', 'rb').read().rstrip(bytes(1)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr(shown)


def test_stat_agrees_with_other_files() -> None:
    with python() as child:
        stat = proc.stat(child.pid)
        stack = next(m for m in proc.mappings(child.pid) if m.name == "[stack]")
        heap = next(m for m in proc.mappings(child.pid) if m.name == "[heap]")
        assert stack.start <= stat.start_stack < stack.end
        assert stack.start <= stat.arg_start < stat.arg_end <= stat.env_start <= stat.env_end <= stack.end
        assert stat.start_brk <= heap.start
        assert stat.start_code < stat.end_code
        arguments = Path(f"/proc/{child.pid}/cmdline").read_bytes()
        assert len(arguments) == stat.arg_end - stat.arg_start
        started = stat.start_ticks / os.sysconf("SC_CLK_TCK")
        assert 0 <= time.clock_gettime(time.CLOCK_BOOTTIME) - started < 60
        assert not stat.flags & proc.PF_KTHREAD


def test_a_kernel_thread_says_so() -> None:
    if not Path("/proc/2/stat").exists() or "kthreadd" not in Path("/proc/2/comm").read_text():
        pytest.skip("this pid namespace has no kernel threads")
    assert proc.stat(2).flags & proc.PF_KTHREAD


def test_there_is_no_such_process() -> None:
    for ask in (proc.stat, proc.status, proc.mappings, proc.auxv, proc.descriptors):
        with pytest.raises((FileNotFoundError, ProcessLookupError)):
            ask(2**22)


def test_the_auxiliary_vector() -> None:
    vector = proc.auxv(os.getpid())
    assert proc.aux_value(vector, 6) == PAGE  # AT_PAGESZ
    entry = proc.aux_value(vector, proc.AT_ENTRY)
    program = next(m for m in proc.mappings(os.getpid()) if m.start <= entry < m.end)
    assert program.executable
    assert proc.aux_value(vector, 4711) == 0
    assert proc.aux_value(struct.pack("<4Q", 9, 17, 9, 18), 9) == 17


def test_how_long_it_has_slept() -> None:
    if not Path("/proc/self/sched").exists():
        pytest.skip("no /proc/PID/sched")
    with seized(ECHO) as child:
        stop_in_call(child.pid, 0)
        first = proc.asleep_for(child.pid)
        second = proc.asleep_for(child.pid)
        assert first is not None
        assert second is not None
        assert 0 <= first < 20
        assert second >= 0
    assert proc.asleep_for(2**22) is None


def test_cpu_time_and_descriptors(tmp_path: Path) -> None:
    user, system = proc.cpu_seconds(os.getpid())
    assert user + system == pytest.approx(sum(os.times()[:2]), abs=0.1)
    with open(tmp_path / "file", "w") as file:
        assert proc.descriptors(os.getpid())[file.fileno()] == str(tmp_path / "file")
    with subprocess.Popen(["/bin/sleep", "1000"], stdin=subprocess.DEVNULL) as child:
        assert proc.descriptors(child.pid).get(0) == "/dev/null"
        child.kill()


def test_a_thread_belongs_to_a_process() -> None:
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(proc.process_of(threading.get_native_id())))
    thread.start()
    thread.join()
    assert seen == [os.getpid()]
    assert proc.process_of(os.getpid()) == os.getpid()
    assert proc.process_of(0) == 0
    assert proc.process_of(4_194_304) == 4_194_304
