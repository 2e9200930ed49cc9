"""omtools.image.cage: what a guest sees, and that nothing stays behind."""

from __future__ import annotations

import errno
import functools
import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracees import fork, gone, until

from omtools.errors import KernelLacks, RestoreFailed
from omtools.image import cage
from omtools.image.cage import Cage, Clocks
from omtools.linux import namespaces as ns, proc, ptrace
from omtools.linux.x86_64 import NO_CALL, STUB_GADGET, unsigned

HOME_PID = 54321
HOUR = 3600 * 1_000_000_000
SYS = {
    "open": 2, "mmap": 9, "socket": 41, "getpid": 39, "kill": 62, "getdents64": 217, "getuid": 102,
    "getgid": 104, "clock_gettime": 228, "uname": 63, "mount": 165, "sethostname": 170, "setuid": 105,
    "connect": 42, "mkdir": 83,
}  # fmt: skip


@pytest.fixture
def home() -> Clocks:
    """How far its clocks are ahead."""
    return Clocks(5 * HOUR, 7 * HOUR)


@pytest.fixture
def caged(home: Clocks) -> Iterator[Cage]:
    try:
        built = cage.build(HOME_PID, "uhn-1", home)
    except KernelLacks as error:
        pytest.skip(str(error))
    yield built
    built.destroy()
    assert gone(built.init)
    assert gone(built.stub.pid)


class Prisoner:
    """Makes calls in the stub."""

    def __init__(self, built: Cage) -> None:
        self.stub = built.stub
        self.registers = ptrace.get_registers(self.stub.pid)
        self.page = self("mmap", 0, 4096, 3, 0x22, -1, 0)

    def __call__(self, name: str, *arguments: int) -> int:
        frame = self.registers.copy()
        frame.rax, frame.orig_rax, frame.rip = SYS[name], NO_CALL, STUB_GADGET
        for register, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), arguments, strict=False):
            setattr(frame, register, unsigned(value))
        ptrace.set_registers(self.stub.pid, frame)
        self.stub.run_to_trap()
        return ptrace.get_registers(self.stub.pid).result

    def put(self, data: bytes) -> int:
        self.stub.memory.write(self.page, data)
        return self.page

    def opened(self, path: bytes) -> int:
        return self("open", self.put(path + b"\0"), 0, 0)

    def clock(self, number: int) -> int:
        assert self("clock_gettime", number, self.page) == 0
        seconds, nanoseconds = struct.unpack("<qq", self.stub.memory.read(self.page, 16))
        return int(seconds * 1_000_000_000 + nanoseconds)


@pytest.fixture
def prisoner(caged: Cage) -> Prisoner:
    return Prisoner(caged)


def test_it_has_the_pid_and_the_ids_it_has_at_home(prisoner: Prisoner) -> None:
    assert prisoner("getpid") == HOME_PID
    assert prisoner("getuid") == os.getuid()
    assert prisoner("getgid") == os.getgid()
    assert proc.status(prisoner.stub.pid)["NSpid"].split() == [str(prisoner.stub.pid), str(HOME_PID)]


def test_every_namespace_is_its_own(caged: Cage) -> None:
    for kind in ("user", "pid", "mnt", "net", "ipc", "uts", "time"):
        assert ns.namespace_id(caged.stub.pid, kind) != ns.namespace_id("self", kind), kind
        assert ns.namespace_id(caged.stub.pid, kind) == ns.namespace_id(caged.init, kind), kind


def test_it_has_home_s_name_and_clocks(prisoner: Prisoner) -> None:
    assert prisoner("uname", prisoner.page) == 0
    assert prisoner.stub.memory.read_string(prisoner.page + 65, 65) == b"uhn-1\0"
    for number, offset in ((time.CLOCK_MONOTONIC, 5 * HOUR), (time.CLOCK_BOOTTIME, 7 * HOUR)):
        before = time.clock_gettime_ns(number)
        seen = prisoner.clock(number)
        after = time.clock_gettime_ns(number)
        assert before + offset <= seen <= after + offset


def test_it_has_no_descriptor_and_finds_no_file(prisoner: Prisoner) -> None:
    assert proc.descriptors(prisoner.stub.pid) == {}
    for path in (b"/etc/passwd", b"/proc/self", b"/dev/null", b"..", b"/tmp"):
        found = prisoner.opened(path)
        assert found == -errno.ENOENT or path == b"..", path
    root = prisoner.opened(b"/..")
    assert root >= 0
    length = prisoner("getdents64", root, prisoner.page + 1024, 2048)
    listing = prisoner.stub.memory.read(prisoner.page + 1024, length)
    names = []
    while listing:
        _inode, _offset, size = struct.unpack_from("<QQH", listing)
        names.append(listing[19:size].split(b"\0")[0])
        listing = listing[size:]
    assert sorted(names) == [b".", b".."]
    assert prisoner("mkdir", prisoner.put(b"/new\0"), 0o777) in (-errno.EROFS, -errno.EACCES)


def test_it_has_no_power(prisoner: Prisoner, caged: Cage) -> None:
    for pid in (caged.stub.pid, caged.init):
        status = proc.status(pid)
        assert status["NoNewPrivs"] == "1"
        for capabilities in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
            assert int(status[capabilities], 16) == 0, capabilities
    assert prisoner("sethostname", prisoner.put(b"x"), 1) == -errno.EPERM
    assert prisoner("mount", 0, prisoner.put(b"/\0"), 0, 0x20, 0) < 0
    assert prisoner("kill", os.getpid(), 0) == -errno.ESRCH
    if os.getuid():
        assert prisoner("setuid", 0) in (-errno.EPERM, -errno.EINVAL)  # there is no such user in there


def test_it_has_no_network(prisoner: Prisoner) -> None:
    descriptor = prisoner("socket", socket.AF_INET, socket.SOCK_STREAM, 0)
    assert descriptor >= 0
    address = struct.pack("!H4s8x", 22, socket.inet_aton("127.0.0.1"))
    where = prisoner.put(struct.pack("<H", socket.AF_INET) + address)
    assert prisoner("connect", descriptor, where, 16) == -errno.ENETUNREACH


def test_it_leaves_no_core_and_has_default_signals(caged: Cage) -> None:
    assert resource.prlimit(caged.stub.pid, resource.RLIMIT_CORE) == (0, 0)
    status = proc.status(caged.stub.pid)
    assert int(status["SigCgt"], 16) == 0
    assert int(status["SigIgn"], 16) & ~(3 << 31) == 0  # 32 and 33 are the C library's own


def test_the_stub_is_all_there_is_in_it(caged: Cage) -> None:
    named = [m for m in proc.mappings(caged.stub.pid) if m.name.startswith("/")]
    assert [m.name for m in named] == ["/memfd:guest (deleted)"]
    assert proc.stat(caged.stub.pid).state == "t"


def test_destroying_twice_does_no_harm(home: Clocks) -> None:
    try:
        built = cage.build(HOME_PID, "x", home)
    except KernelLacks as error:
        pytest.skip(str(error))
    os.kill(built.init, signal.SIGKILL)
    built.destroy()
    built.destroy()


def test_a_second_one_with_the_same_pid_stands_beside_the_first(caged: Cage, home: Clocks) -> None:
    second = cage.build(HOME_PID, "uhn-2", home)
    try:
        assert second.stub.pid != caged.stub.pid
    finally:
        second.destroy()


def build_and_tell(tell: int, home: Clocks, end: int) -> None:
    built = cage.build(HOME_PID, "x", home)
    os.write(tell, struct.pack("<ii", built.init, built.stub.pid))
    os.kill(os.getpid(), end)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.usefixtures("caged")  # cages can be built here
def test_a_cage_dies_with_its_builder(home: Clocks, end: int) -> None:
    told, tell = os.pipe()
    keeper = fork()
    if keeper == 0:
        try:
            build_and_tell(tell, home, end)
        finally:
            os._exit(1)
    os.close(tell)
    pids = os.read(told, 8)
    os.close(told)
    assert os.waitstatus_to_exitcode(os.waitpid(keeper, 0)[1]) == -end
    for pid in struct.unpack("<ii", pids):
        until(functools.partial(gone, pid))


def test_a_pid_that_cannot_be(home: Clocks) -> None:
    with pytest.raises((RestoreFailed, KernelLacks)):
        cage.build(1, "x", home)


def in_a_child_without_namespaces(root: Path) -> int:
    """Behind a chroot nobody may make a user namespace."""
    uid, gid = os.getuid(), os.getgid()
    ns.unshare(ns.Clone.NEWUSER)
    ns.write_id_maps([ns.IdRange(0, uid)], [ns.IdRange(0, gid)])
    os.chroot(root)
    try:
        cage.build(HOME_PID, "x", Clocks(0, 0))
    except KernelLacks:
        return 0
    return 1


@pytest.mark.usefixtures("caged")  # without the chroot they are allowed
def test_where_namespaces_are_forbidden_it_says_so(tmp_path: Path) -> None:
    pid = fork()
    if pid == 0:
        status = 99
        try:
            status = in_a_child_without_namespaces(tmp_path)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
