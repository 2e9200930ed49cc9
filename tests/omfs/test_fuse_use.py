"""What people do on a mount: two nodes at once, locks, programs, and an fsx of our own."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from linux.fuse_support import (
    become_nobody,
    ended,
    forked,
    needs_root,
    own_mounts,
    own_namespaces,
    public_place,
)
from short import short_directory

from omfs.fuse_support import mounted
from omtools.linux.files import fallocate

pytestmark = needs_root


@pytest.fixture(autouse=True, scope="module")
def _own_mounts() -> Iterator[None]:
    with own_mounts():
        yield


@pytest.fixture(scope="module", params=["local", "remote", "through"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    made = short_directory()
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def two(_own_mounts: None, base: Path, kind: str) -> Iterator[tuple[Path, Path]]:
    """Two mounts of one directory, each with a server of its own: two nodes."""
    (base / kind).mkdir()
    with mounted(base / kind, base / f"{kind}-1", kind) as one, mounted(base / kind, base / f"{kind}-2", kind) as other:
        yield one, other


@pytest.fixture
def at(two: tuple[Path, Path]) -> Iterator[Path]:
    place = two[0] / "place"
    place.mkdir()
    yield place
    shutil.rmtree(place)


def test_what_one_writes_the_other_reads_at_once(two: tuple[Path, Path]) -> None:
    one, other = two
    with open(one / "f", "w+b", buffering=0) as writer, open(other / "f", "r+b", buffering=0) as reader:
        for number in range(50):
            writer.write(b"%5d" % number)
            assert os.fstat(reader.fileno()).st_size == 5 * (number + 1)
            assert reader.read() == b"%5d" % number
        os.ftruncate(reader.fileno(), 3)
        assert os.stat(one / "f").st_size == 3
        os.chmod(other / "f", 0o600)
        assert os.stat(one / "f").st_mode & 0o777 == 0o600
        os.utime(one / "f", ns=(5, 6))
        assert os.stat(other / "f").st_mtime_ns == 6
    os.rename(other / "f", other / "g")
    assert not (one / "f").exists()
    os.mkdir(one / "d")
    (other / "d/in").touch()
    assert os.listdir(one / "d") == ["in"]
    shutil.rmtree(one / "d")
    (other / "g").unlink()
    assert os.listdir(one) == []


def test_what_is_written_through_a_node_s_cache_of_programs(two: tuple[Path, Path]) -> None:
    """A private mapping made after a write sees it, whoever wrote."""
    one, other = two
    for number in range(20):
        (other / "text").write_bytes(b"%d" % number * 5000)
        with open(one / "text", "rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE) as mapped:
            assert bytes(mapped) == b"%d" % number * 5000
    (one / "text").unlink()


def test_two_who_append(two: tuple[Path, Path]) -> None:
    def append(path: Path, letter: bytes) -> None:
        with open(path, "ab", buffering=0) as file:
            for _time in range(300):
                file.write(letter * 10)

    pids = [forked(lambda: append(two[0] / "log", b"a")), forked(lambda: append(two[1] / "log", b"b"))]
    assert [ended(pid) for pid in pids] == [0, 0]
    data = (two[0] / "log").read_bytes()
    assert len(data) == 6000
    assert {data[at : at + 10] for at in range(0, 6000, 10)} == {b"a" * 10, b"b" * 10}
    (two[0] / "log").unlink()


def test_append_switched_on_while_it_is_open(at: Path) -> None:
    with open(at / "f", "w+b", buffering=0) as file:
        file.write(b"12345")
        flags = fcntl.fcntl(file, fcntl.F_GETFL)
        fcntl.fcntl(file, fcntl.F_SETFL, flags | os.O_APPEND)
        os.pwrite(file.fileno(), b"end", 0)
        fcntl.fcntl(file, fcntl.F_SETFL, flags)
        os.pwrite(file.fileno(), b"0", 0)
    assert (at / "f").read_bytes() == b"02345end"


def test_locks_between_nodes(two: tuple[Path, Path]) -> None:
    one, other = two
    (one / "lock").write_bytes(bytes(100))
    with open(one / "lock", "r+b") as here, open(other / "lock", "r+b") as there:
        fcntl.flock(here, fcntl.LOCK_SH)
        fcntl.flock(there, fcntl.LOCK_SH)
        with pytest.raises(BlockingIOError):
            fcntl.flock(there, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(here, fcntl.LOCK_UN)
        fcntl.flock(there, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(there, fcntl.LOCK_UN)

        fcntl.lockf(here, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 20)
        with pytest.raises(OSError, match="unavailable") as caught:
            fcntl.lockf(there, fcntl.LOCK_SH | fcntl.LOCK_NB, 5, 28)
        assert caught.value.errno == errno.EAGAIN
        asked = fcntl.fcntl(there, fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0))
        kind, _whence, start, length, pid = struct.unpack("hhqqi4x", asked)
        assert (kind, start, length, pid) == (fcntl.F_WRLCK, 20, 10, 0)  # what another node calls it says nothing here
        fcntl.lockf(there, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 30)

        def wait_for_it() -> None:
            with open(other / "lock", "r+b") as third:
                fcntl.lockf(third, fcntl.LOCK_EX, 1, 25)

        waiting = forked(wait_for_it)
        time.sleep(0.05)  # so that it mostly waits already; it must get there either way
        with open(one / "lock", "rb"):
            pass  # POSIX: closing any descriptor of the file drops the process's locks on it
        assert ended(waiting) == 0
    (one / "lock").unlink()


def test_a_lock_ends_with_its_process(two: tuple[Path, Path]) -> None:
    (two[0] / "lock").touch()

    def hold() -> None:
        with open(two[0] / "lock", "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            fcntl.flock(file, fcntl.LOCK_EX)
            os.kill(os.getpid(), 9)

    assert ended(forked(hold)) == -9
    with open(two[1] / "lock", "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        fcntl.flock(file, fcntl.LOCK_EX)
    (two[0] / "lock").unlink()


@pytest.mark.parametrize(("number", "lock"), [("73 ", fcntl.flock), ("72 ", fcntl.lockf)], ids=["flock", "fcntl"])
def test_who_waits_for_a_lock_can_be_killed(two: tuple[Path, Path], number: str, lock: Callable[[int, int], None]) -> None:
    (two[0] / "lock").touch()
    holder = os.open(two[0] / "lock", os.O_RDWR | os.O_CLOEXEC)
    lock(holder, fcntl.LOCK_EX)

    def wait() -> None:
        os.close(holder)
        lock(os.open(two[1] / "lock", os.O_RDWR), fcntl.LOCK_EX)

    # closing the holder's descriptor in the child must not unlock: flock is the open file's, fcntl the process's
    waiting = forked(wait)
    while not Path(f"/proc/{waiting}/syscall").read_text().startswith(number):
        assert os.waitpid(waiting, os.WNOHANG) == (0, 0)
        time.sleep(0.005)
    os.kill(waiting, 9)
    assert ended(waiting) == -9
    lock(holder, fcntl.LOCK_UN)
    other = os.open(two[1] / "lock", os.O_RDWR)
    lock(other, fcntl.LOCK_EX)
    os.close(other)
    os.close(holder)
    (two[0] / "lock").unlink()


def test_shared_mappings_are_real_or_refused(at: Path, kind: str) -> None:
    (at / "f").write_bytes(b"x" * 5000)
    with open(at / "f", "r+b") as file:
        if kind == "through":
            with mmap.mmap(file.fileno(), 0) as mapped:
                mapped[4999:5000] = b"y"
                assert os.pread(file.fileno(), 1, 4999) == b"y"
        else:
            with pytest.raises(OSError, match="No such device") as caught:
                mmap.mmap(file.fileno(), 0)
            assert caught.value.errno == errno.ENODEV
        with mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
            mapped[0:1] = b"z"
    assert (at / "f").read_bytes()[:1] == b"x"


def test_as_an_ordinary_user_in_a_user_namespace() -> None:
    """The kernel does not pass anything through for such a one; it works all the same."""

    def body() -> None:
        become_nobody(public)
        own_namespaces()
        with mounted(public / "back", public / "m", "through") as target:
            assert (target / "hello").read_text() == "hello"
            (target / "new").write_bytes(b"x" * 100_000)
            with open(target / "new", "r+b") as file, pytest.raises(OSError, match="No such device"):
                mmap.mmap(file.fileno(), 0)
            assert (public / "back/new").stat().st_size == 100_000
            assert sorted(os.listdir(target)) == ["hello", "new"]

    with public_place() as public:
        assert ended(forked(body)) == 0


def run(command: str, where: Path) -> str:
    environment = {
        **os.environ, "HOME": str(where), "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "x", "GIT_COMMITTER_NAME": "x",
        "GIT_AUTHOR_EMAIL": "x@localhost", "GIT_COMMITTER_EMAIL": "x@localhost",
    }  # fmt: skip
    done = subprocess.run(["/bin/sh", "-ec", command], cwd=where, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_git(at: Path) -> None:
    run("git init -q here && cd here && for i in 1 2 3 4 5; do echo $i > f$i; done && git add . && git commit -qm first", at)
    run("cd here && echo more >> f1 && git mv f2 g2 && git commit -qam second && git gc -q && git fsck --strict", at)
    assert run("git clone -q here there && cd there && git log --format=%s && git status --short && cat f1", at) == "second\nfirst\n1\nmore\n"


def test_tar_and_make(at: Path) -> None:
    source = at / "source"
    source.mkdir()
    (source / "Makefile").write_text(
        "all: program\nprogram: a.o b.o\n\tcc -o $@ a.o b.o\n%.o: %.c\n\tcc -c -o $@ $<\n"
    )
    (source / "a.c").write_text('int answer(void);\nint main(void) { return answer() == 42 ? 0 : 1; }\n')
    (source / "b.c").write_text("int answer(void) { return 42; }\n")
    (source / "link").symlink_to("a.c")
    os.link(source / "b.c", source / "hard")
    run("tar cf t.tar source && mkdir out && tar xpf t.tar -C out && diff -r source out/source", at)
    assert os.stat(at / "out/source/hard").st_nlink == 2
    run("cd out/source && make -s -j2 && ./program", at)
    assert "up to date" in run("cd out/source && sleep 0.01 && make program", at)


def test_sqlite(at: Path, two: tuple[Path, Path], kind: str) -> None:
    elsewhere = two[1] / "place"
    with sqlite3.connect(at / "db") as here, sqlite3.connect(elsewhere / "db") as there:
        here.execute("create table t (n integer)")
        for number in range(20):
            (here if number % 2 else there).execute("insert into t values (?)", (number,))
            (here if number % 2 else there).commit()
        assert here.execute("select count(*), sum(n) from t").fetchone() == (20, 190)
        here.execute("begin exclusive")
        there.execute("pragma busy_timeout = 1")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            there.execute("insert into t values (1)")
        here.rollback()
    here.close()
    there.close()
    wal = sqlite3.connect(at / "wal")
    if kind == "through":
        assert wal.execute("pragma journal_mode=wal").fetchone() == ("wal",)
        wal.execute("create table t (n integer)")
    else:  # it says so, and goes on with WAL for one process alone
        with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
            wal.executescript("pragma journal_mode=wal; create table t (n integer)")
        wal.close()
        wal = sqlite3.connect(at / "wal")
        wal.execute("pragma locking_mode=exclusive")
        wal.execute("create table t (n integer)")
    wal.execute("insert into t values (7)")
    wal.commit()
    assert wal.execute("pragma integrity_check").fetchone() == ("ok",)
    assert wal.execute("select n from t").fetchall() == [(7,)]
    wal.close()


# --- in the spirit of fsx: random operations on one file, and what it must hold


class Model:
    """A file, what it should hold, and the other node's view of it."""

    def __init__(self, path: Path, mirror: Path, seed: int) -> None:
        self.dice = random.Random(seed)
        self.path, self.mirror = path, mirror
        self.content = bytearray()
        self.file = os.open(path, os.O_RDWR | os.O_CREAT)
        self.log: list[str] = []

    def span(self) -> tuple[int, int]:
        offset = self.dice.randrange(300_000)
        return offset, self.dice.choice((1, 7, 4096, self.dice.randrange(1, 70_000)))

    def grow(self, size: int) -> None:
        self.content.extend(bytes(max(0, size - len(self.content))))

    def write(self) -> None:
        offset, length = self.span()
        data = self.dice.randbytes(length)
        assert os.pwrite(self.file, data, offset) == length
        self.grow(offset + length)
        self.content[offset : offset + length] = data

    def append(self) -> None:
        data = self.dice.randbytes(100)
        with open(self.dice.choice((self.path, self.mirror)), "ab") as file:
            file.write(data)
        self.content += data

    def read(self) -> None:
        offset, length = self.span()
        assert os.pread(self.file, length, offset) == self.content[offset : offset + length]

    def read_elsewhere(self) -> None:
        assert self.mirror.read_bytes() == self.content

    def map_it(self) -> None:
        if self.content:
            with mmap.mmap(self.file, len(self.content), mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped:
                offset, length = self.span()
                assert mapped[offset : offset + length] == self.content[offset : offset + length]

    def truncate(self) -> None:
        size = self.dice.randrange(350_000)
        self.dice.choice((lambda: os.ftruncate(self.file, size), lambda: os.truncate(self.mirror, size)))()
        del self.content[size:]
        self.grow(size)

    def reserve(self) -> None:
        offset, length = self.span()
        fallocate(self.file, 0, offset, length)
        self.grow(offset + length)

    def punch(self) -> None:
        offset, length = self.span()
        fallocate(self.file, 3, offset, length)  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
        end = min(offset + length, len(self.content))
        self.content[offset:end] = bytes(max(0, end - offset))

    def copy(self) -> None:
        (source, length), (target, _length) = self.span(), self.span()
        os.fstat(self.file)  # the kernel cuts the copy at the size that it saw last, before anybody is asked
        if source < len(self.content) and (source + length <= target or target + length <= source):
            done = os.copy_file_range(self.file, self.file, length, source, target)
            data = self.content[source : source + length]
            assert done == len(data)
            self.grow(target + done)
            self.content[target : target + done] = data

    def size(self) -> None:
        assert os.fstat(self.file).st_size == len(self.content) == os.stat(self.mirror).st_size

    def sync(self) -> None:
        os.fsync(self.file)

    def reopen(self) -> None:
        os.close(self.file)
        self.file = os.open(self.path, os.O_RDWR)

    OPERATIONS = (
        write, write, write, append, read, read, read, read_elsewhere, map_it, truncate, reserve, punch, copy, size,
        sync, reopen,
    )  # fmt: skip

    def step(self) -> None:
        operation = self.dice.choice(self.OPERATIONS)
        self.log = [*self.log[-20:], operation.__name__]
        operation(self)


@pytest.mark.parametrize("seed", range(2))
def test_random_operations(at: Path, two: tuple[Path, Path], seed: int) -> None:
    seed = int(os.environ.get("FSX_SEED", str(seed)))
    model = Model(at / "f", two[1] / "place/f", seed)
    try:
        for number in range(int(os.environ.get("FSX_STEPS", "800"))):
            try:
                model.step()
            except (AssertionError, OSError) as error:
                raise AssertionError(f"seed {seed}, step {number}, after {model.log}") from error
        model.read_elsewhere()
    finally:
        os.close(model.file)
