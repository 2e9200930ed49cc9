"""Processes that cannot move: the right error, and no harm done."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from omtools.errors import OmError
from omtools.linux import ptrace

from .journey import LIMIT, build, ended, expect, line, running, tell, until
from .nest import FINAL, Nest


async def _refused(nest: Nest, pid: int) -> tuple[str, str]:
    """The error's name and sentence."""
    deputy, guest = await nest.send(pid)
    state = await deputy.until("away", *FINAL)
    assert state.phase == "failed", state
    assert state.error is not None
    await guest.end()
    error = OmError.from_wire(state.error)
    return type(error).__name__, str(error)


async def test_no_such_process(nest: Nest) -> None:
    nest.wired = True  # its guest's keeper waits less long
    with subprocess.Popen(["true"]) as done:
        pass
    assert (await _refused(nest, done.pid))[0] == "NoSuchProcess"


async def test_a_zombie(nest: Nest) -> None:
    nest.wired = True
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert (await _refused(nest, process.pid))[0] == "ZombieProcess"


@pytest.mark.skipif(not Path("/proc/2/stat").exists(), reason="no kernel thread in sight")
async def test_a_kernel_thread(nest: Nest) -> None:
    if "kthreadd" not in Path("/proc/2/stat").read_text():
        pytest.skip("no kernel thread in sight")
    nest.wired = True
    assert (await _refused(nest, 2))[0] == "KernelThread"


async def test_init(nest: Nest) -> None:
    nest.wired = True
    assert (await _refused(nest, 1))[0] in ("CannotMigrate", "NotYourProcess")


async def test_a_traced_process(nest: Nest) -> None:
    nest.wired = True
    with subprocess.Popen(["sleep", "100"]) as process:  # asyncio would take the tracer's reports away
        try:
            ptrace.seize(process.pid)
            name, sentence = await _refused(nest, process.pid)
            assert name == "AlreadyTraced"
            assert f"already traced by process {os.getpid()}" in sentence
            ptrace.interrupt(process.pid)
            ptrace.wait(process.pid)
            ptrace.detach(process.pid)
            await nest.away(process.pid)
        finally:
            process.kill()


def _tiny_32_bit(folder: Path) -> Path:
    """An ELF of 32 bits that waits for ever: loop: mov eax, 29 (pause); int 0x80; jmp loop."""
    code = b"\xb8\x1d\0\0\0\xcd\x80\xeb\xf7"
    base, start = 0x08048000, 0x54
    head = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 3, 1, base + start, 0x34, 0, 0,
                       0x34, 0x20, 1, 0, 0, 0)  # fmt: skip
    load = struct.pack("<8I", 1, 0, base, base, start + len(code), start + len(code), 5, 0x1000)
    path = folder / "tiny"
    path.write_bytes(head + load + code)
    path.chmod(0o755)
    return path


async def test_a_32_bit_program(nest: Nest, tmp_path: Path) -> None:
    nest.wired = True
    try:
        process = subprocess.Popen([_tiny_32_bit(tmp_path)])
    except OSError:
        pytest.skip("this kernel runs no 32-bit programs")
    with process:
        name, sentence = await _refused(nest, process.pid)
        process.kill()
    assert name == "ForeignArchitecture"
    assert "32" in sentence


async def test_a_stopped_process(nest: Nest) -> None:
    nest.wired = True
    async with running("sleep", "100") as process:
        os.kill(process.pid, signal.SIGSTOP)
        await until(lambda: ") T" in Path(f"/proc/{process.pid}/stat").read_text(), "stopped")
        name, sentence = await _refused(nest, process.pid)
        assert (name, "kill -CONT" in sentence) == ("CannotMigrate", True)
        assert ") T" in Path(f"/proc/{process.pid}/stat").read_text()
        os.kill(process.pid, signal.SIGCONT)
        await nest.away(process.pid)


OBSTACLES = {
    "threads": "2 threads",
    "shared": "shares memory",
    "sysv": "System V shared memory",
    "locked": "locked memory",
    "device": "device",
    "writable": "shared and writable",
    "itimer": "CPU time",
    "timer": "CPU time",
    "seccomp": "sandbox",
    "signalfd": "signals from a descriptor",
}


@pytest.mark.parametrize("case", OBSTACLES)
async def test_what_ties_it_to_its_home(nest: Nest, tmp_path: Path, workshop: Path, case: str) -> None:
    nest.wired = True
    async with running(build("tied", workshop), case, cwd=tmp_path) as process:
        if await line(process) != "ready":
            pytest.skip("no device here can be mapped" if case == "device" else "not possible here")
        for _again in range(3):
            name, sentence = await _refused(nest, process.pid)
            assert name == "CannotMigrate"
            assert OBSTACLES[case] in sentence
        tell(process)
        await expect(process, "unharmed")
        assert await ended(process) == 0


FULL = """
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
try:
    while True: os.open("/dev/null", os.O_RDONLY)
except OSError: pass
os.write(1, b"ready\\n")
os.read(0, 1)
os.close(3)
os.write(1, b"ready\\n")
os.read(0, 1)
"""


async def test_a_process_that_can_open_nothing_more(nest: Nest) -> None:
    """To be moved it needs a number for a moment; it runs on, and moves once it has one."""
    nest.wired = True
    async with running(sys.executable, "-I", "-c", FULL) as process:
        await expect(process, "ready")
        _name, sentence = await _refused(nest, process.pid)
        assert "Too many open files" in sentence
        tell(process)
        await expect(process, "ready")
        await nest.away(process.pid)
        tell(process)
        assert await ended(process) == 0


LIMITED = """
import resource
room = 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1])
resource.setrlimit(resource.RLIMIT_AS, (room + %d, room + %d))
print("ready", flush=True)
for _turn in range(2):
    print(len(input()), flush=True)
try:
    bytearray(300 << 20)
except MemoryError:
    print("no more", flush=True)
"""


@pytest.mark.parametrize("spare", [64 << 20, 4 << 20])
async def test_little_address_space(nest: Nest, spare: int) -> None:
    async with running(sys.executable, "-c", LIMITED % (spare, spare)) as process:
        await expect(process, "ready")
        moved = await nest.away(process.pid)
        tell(process, b"away\n")
        await expect(process, "4")
        async with asyncio.timeout(LIMIT):
            assert (await moved.home()).phase == "home"
        tell(process, b"at home\n")
        await expect(process, "7")
        await expect(process, "no more")
        assert await ended(process) == 0


async def test_no_address_space_at_all(nest: Nest) -> None:
    nest.wired = True
    async with running(sys.executable, "-c", LIMITED % (0, 0)) as process:
        await expect(process, "ready")
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        name, sentence = await _refused(nest, process.pid)
        assert (name, "Cannot allocate memory" in sentence) == ("CannotMigrate", True)
        await until(lambda: Path(f"/proc/{process.pid}/maps").read_text() == maps, "as it was")
        tell(process, b"one\n")
        await expect(process, "3")
        tell(process, b"two\n")
        await expect(process, "3")


FORKS = """
import os, sys
print("ready", flush=True)
for word in sys.stdin:
    try:
        pid = os.fork()
    except OSError as error:
        print(error.strerror, flush=True)
        continue
    if not pid:
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


async def test_home_has_no_room_for_who_must_come(nest: Nest) -> None:
    """Its call fails, once for each time it is made; it goes home when there is room again."""
    async with running(sys.executable, "-I", "-c", FORKS) as process:
        await expect(process, "ready")
        moved = await nest.away(process.pid)
        before = resource.prlimit(process.pid, resource.RLIMIT_AS)
        resource.prlimit(process.pid, resource.RLIMIT_AS, (1 << 20, before[1]))
        for _turn in range(2):
            tell(process, b"fork\n")
            await expect(process, "Resource temporarily unavailable")
        assert (await moved.deputy.until("away")).node == 2
        resource.prlimit(process.pid, resource.RLIMIT_AS, before)
        tell(process, b"fork\n")
        await expect(process, "7")
        assert (await moved.deputy.until("home")).phase == "home"
        process.stdin.close()  # type: ignore[union-attr]
        assert await ended(process) == 0


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user")
async def test_a_process_that_became_another_user(nest: Nest) -> None:
    nest.wired = True
    code = "import os; os.setresuid(65534, 65534, 0); print('ready', flush=True); input()"
    async with running(sys.executable, "-c", code) as process:
        await expect(process, "ready")
        name, _sentence = await _refused(nest, process.pid)
        assert name in ("CannotMigrate", "NotYourProcess")


async def test_two_orders_for_one_process(nest: Nest) -> None:
    nest.wired = True
    async with running("sleep", "100") as process:
        moved = await nest.away(process.pid)
        assert (await _refused(nest, process.pid))[0] == "AlreadyTraced"
        async with asyncio.timeout(LIMIT):
            assert (await moved.home()).phase == "home"
