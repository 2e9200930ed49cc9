"""oMFS between two nodes of a real lab when things go wrong, or are large, or odd."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab.labs import Omlab, until

SERVER = "ps axo pid,args | awk '/omfs.serving/ && !/awk/ {print $1}'"


@pytest.fixture
def cluster(my_omlab: Omlab) -> Iterator[Omlab]:
    """A lab with real agents."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("this user may not open /dev/fuse")
    del my_omlab.environment["OMLAB_AGENT"]
    my_omlab.ok("up")
    yield my_omlab
    my_omlab.ok("down")


def on(lab: Omlab, node: str, *command: str) -> subprocess.CompletedProcess[str]:
    return lab("exec", node, "--", *command)


def sh(lab: Omlab, node: str, script: str) -> str:
    done = on(lab, node, "sh", "-c", script)
    assert done.returncode == 0, (script, done.stdout, done.stderr)
    return done.stdout


def python(lab: Omlab, node: str, program: str, *args: str) -> str:
    done = on(lab, node, sys.executable, "-c", program, *args)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def start(lab: Omlab, node: str, program: str, *args: str) -> subprocess.Popen[str]:
    return lab.popen(
        "exec", node, "--", sys.executable, "-c", program, *args, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def say(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()


def end(process: subprocess.Popen[str]) -> int:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    return process.wait(30)


FULL = """
import errno, os, sys
top = sys.argv[1]
file = os.open(top + "/file", os.O_CREAT | os.O_WRONLY)
done = 0
try:
    while True:
        done += os.write(file, b"x" * 100_000)
except OSError as error:
    assert error.errno == errno.ENOSPC, error
assert os.fstat(file).st_size == done > 500_000, done
assert os.statvfs(top).f_bavail == 0
assert os.pwrite(file, b"y", 0) == 1  # there is room for that
os.close(file)
os.truncate(top + "/file", 10)
open(top + "/other", "w").write("room again")
"""
NAMES = """
import errno, os, sys
top = os.fsencode(sys.argv[1])
names = {b"n" * 255, "ñ".encode() * 127, b"-rf *", b" ", b"\\n"}
names |= {bytes([first, 255 - first or 1]) for first in range(1, 256) if 47 not in (first, 255 - first)}
for name in names:
    with open(top + b"/" + name, "xb") as file:
        file.write(name)
assert set(os.listdir(top)) == names
for name in names:
    assert open(top + b"/" + name, "rb").read() == name
    os.rename(top + b"/" + name, top + b"/" + name)
try:
    open(top + b"/" + b"n" * 256, "xb")
except OSError as error:
    assert error.errno == errno.ENAMETOOLONG, error
else:
    raise AssertionError("a name of 256 bytes")
deep = top + b"/deep"
for _step in range(14):
    deep += b"/" + b"d" * 250
    os.makedirs(deep, exist_ok=True)
open(deep + b"/leaf", "w").write("far down")
print(len(names))
"""
SPARSE = """
import os, sys
size = 5 << 30
file = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
os.ftruncate(file, size)
assert os.pwrite(file, b"in the middle", 3 << 30) == 13
assert os.pwrite(file, b"the end", size - 7) == 7
assert os.pread(file, 13, 3 << 30) == b"in the middle"
assert os.pread(file, 4, size - 3) == b"end"
assert os.pread(file, 10, 1 << 30) == bytes(10)
assert os.lseek(file, 0, os.SEEK_DATA) == 3 << 30
assert os.lseek(file, 3 << 30, os.SEEK_HOLE) <= (3 << 30) + 65536
assert os.lseek(file, 0, os.SEEK_END) == size
os.fsync(file)
status = os.fstat(file)
assert status.st_size == size and status.st_blocks < 1000, status
"""
MANY = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
open(sys.argv[1], "w").write("one of many")
files = [os.open(sys.argv[1], os.O_RDONLY) for _each in range(5_000)]
assert os.pread(files[0], 20, 0) == os.pread(files[-1], 20, 0) == b"one of many"
assert len(os.listdir(os.path.dirname(sys.argv[1]))) >= 1
for file in files:
    os.close(file)
"""


def test_a_full_disk_odd_names_and_large_files(cluster: Omlab) -> None:
    sh(cluster, "metrakilate", "mkdir /tmp/small /tmp/names && mount -t tmpfs -o size=1m none /tmp/small")
    python(cluster, "mCii", FULL, "/omfs/2/tmp/small")
    assert sh(cluster, "metrakilate", "cat /tmp/small/other; wc -c < /tmp/small/file") == "room again10\n"
    count = python(cluster, "mCii", NAMES, "/omfs/2/tmp/names").strip()
    assert sh(cluster, "metrakilate", "find /tmp/names -mindepth 1 -maxdepth 1 -type f -print0 | tr -dc '\\0' | wc -c") == (
        count + "\n"
    )
    assert sh(cluster, "metrakilate", "find /tmp/names -name leaf -exec cat {} +") == "far down"
    python(cluster, "mCii", SPARSE, "/omfs/2/tmp/sparse")
    python(cluster, "metrakilate", SPARSE, "/tmp/sparse")
    hard = int(python(cluster, "metrakilate", "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[1])"))
    if hard > 6_000:  # on both sides each is a descriptor
        python(cluster, "mCii", MANY, "/omfs/2/tmp/many")


APPEND = """
import os, sys
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
print("ready", flush=True)
sys.stdin.readline()
for number in range(300):
    record = f"{sys.argv[2]} {number:04} ".encode()
    record += b"x" * (500 - len(record)) + b"\\n"
    assert os.write(file, record) == len(record)
print("done", flush=True)
"""
COUNT = """
import fcntl, os, struct, sys
file = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
print("ready", flush=True)
sys.stdin.readline()
for number in range(150):
    locks = [fcntl.lockf, fcntl.flock] if number % 2 else [fcntl.lockf]
    for lock in locks:
        lock(file, fcntl.LOCK_EX)
    value = int(os.pread(file, 20, 0) or b"0")
    os.pwrite(file, b"%d" % (value + 1), 0)
    for lock in reversed(locks):
        lock(file, fcntl.LOCK_UN)
print("done", flush=True)
"""


@pytest.mark.parametrize("program", [APPEND, COUNT], ids=["append", "locks"])
def test_two_nodes_at_one_file(cluster: Omlab, program: str) -> None:
    both = [
        start(cluster, "mCii", program, "/omfs/2/tmp/file", "one"),
        start(cluster, "metrakilate", program, "/tmp/file", "two"),
    ]
    assert [line(process) for process in both] == ["ready"] * 2
    for process in both:
        say(process, "go")
    assert [line(process) for process in both] == ["done"] * 2
    assert [end(process) for process in both] == [0, 0]
    text = sh(cluster, "metrakilate", "cat /tmp/file")
    if program is COUNT:
        assert text == "300"
        return
    records = text.splitlines()
    assert {len(record) for record in records} == {500}
    for who in ("one", "two"):
        assert [record.split()[1] for record in records if record.startswith(who)] == [f"{n:04}" for n in range(300)]


WRITE = """
import os, sys
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
number = 0
try:
    while True:
        os.write(file, b"%015d\\n" % number * 4096)
        number += 1
        if number == 20:
            print("writes", flush=True)
except OSError as error:
    print(number, error.strerror, flush=True)
try:
    os.close(file)
except OSError:
    pass
"""
CABLE = """
import fcntl, socket, struct, sys
name = next(name for _index, name in socket.if_nameindex() if name != "lo")
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    asked = struct.pack("16sH14x", name.encode(), 0)
    flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, 0x8913, asked))[1]  # SIOCGIFFLAGS of linux/sockios.h
    flags = flags | 1 if sys.argv[1] == "in" else flags & ~1  # IFF_UP of net/if.h
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", name.encode(), flags))  # SIOCSIFFLAGS
"""


def test_a_server_killed_in_the_middle_of_writing(cluster: Omlab) -> None:
    writer = start(cluster, "mCii", WRITE, "/omfs/2/tmp/file")
    assert line(writer) == "writes"
    sh(cluster, "metrakilate", f"kill -9 $({SERVER})")
    said = line(writer)
    assert end(writer) == 0
    number, why = said.split(" ", 1)
    assert why in {"Input/output error", "Stale file handle", "Host is down"}
    program = "import sys; print({len(line) for line in open(sys.argv[1])}, sum(1 for _line in open(sys.argv[1])) // 4096)"
    sizes, pieces = python(cluster, "metrakilate", program, "/tmp/file").split()
    assert sizes == "{16}"
    assert int(number) <= int(pieces) <= int(number) + 1  # all that was answered, and perhaps what was not
    sh(cluster, "mCii", "echo new > /omfs/2/tmp/new && cat /omfs/2/tmp/new")


def test_a_server_that_hangs_is_an_error_and_heals(cluster: Omlab) -> None:
    sh(cluster, "mCii", "echo here > /omfs/2/tmp/file && cat /omfs/2/tmp/file")
    sh(cluster, "metrakilate", f"kill -STOP $({SERVER})")
    done = on(cluster, "mCii", "cat", "/omfs/2/tmp/file")
    assert "Host is down" in done.stderr or "timed out" in done.stderr
    sh(cluster, "mCii", "ls /omfs /omfs/1/tmp")  # is not held up
    assert "Host is down" in on(cluster, "mCii", "cat", "/omfs/2/tmp/file").stderr
    sh(cluster, "metrakilate", f"kill -CONT $({SERVER})")
    until(lambda: on(cluster, "mCii", "cat", "/omfs/2/tmp/file").stdout == "here\n", "it heals", 60)


def test_a_cut_link_is_an_error_and_heals(cluster: Omlab) -> None:
    writer = start(cluster, "mCii", WRITE, "/omfs/2/tmp/file")
    assert line(writer) == "writes"
    python(cluster, "metrakilate", CABLE, "out")
    sh(cluster, "mCii", "echo own > /omfs/1/tmp/own && cat /omfs/1/tmp/own && ls /omfs")  # is not held up
    _number, why = line(writer).split(" ", 1)
    assert end(writer) == 0
    assert why in {"Connection timed out", "Input/output error", "Host is down"}
    done = on(cluster, "mCii", "cat", "/omfs/2/tmp/file")
    assert done.returncode == 1
    assert "Host is down" in done.stderr
    python(cluster, "metrakilate", CABLE, "in")
    until(lambda: on(cluster, "mCii", "ls", "/omfs/2/tmp/file").returncode == 0, "it heals", 60)
    sh(cluster, "mCii", "echo new > /omfs/2/tmp/new")
    assert sh(cluster, "metrakilate", "cat /tmp/new") == "new\n"
