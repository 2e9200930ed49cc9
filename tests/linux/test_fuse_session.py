"""omtools.linux.fuse.session: a real file system on a real mount, and a loop that nothing keeps from answering."""

# ruff: noqa: ARG002 - a handler's methods have the arguments that the protocol gives them

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import random
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from linux.fuse_support import (
    Mirror,
    Server,
    ended,
    forked,
    log,
    needs_root,
    own_mounts,
    serving,
)
from omtools.linux.fuse import abi
from omtools.linux.fuse.abi import Init
from omtools.linux.fuse.handler import Buffer, Request
from omtools.linux.fuse.mount import find_mount, mount, unmount
from omtools.linux.fuse.session import Session

pytestmark = needs_root


@pytest.fixture(autouse=True, scope="module")
def _own_mounts() -> Iterator[None]:
    with own_mounts():
        yield


@pytest.fixture
def back(tmp_path: Path) -> Path:
    (tmp_path / "back").mkdir()
    (tmp_path / "back/hello").write_text("hello")
    return tmp_path / "back"


@pytest.fixture
def at(back: Path, tmp_path: Path) -> Iterator[Path]:
    with serving(tmp_path / "m", lambda: Mirror(back)) as server:
        agreed = Init(int(server.agreed))
        assert Init.WRITEBACK_CACHE not in agreed
        assert Init.POSIX_LOCKS | Init.FLOCK_LOCKS | Init.ATOMIC_O_TRUNC | Init.DO_READDIRPLUS in agreed
        yield tmp_path / "m"


def until(true: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def until_waits(back: Path, pid: int) -> None:
    """Until the server has seen that this process has to wait for a lock."""
    until((back / f"waits-{pid}").exists, "it does not wait for the lock")


def test_names_of_all_kinds(at: Path, back: Path) -> None:
    os.mkdir(at / "d", 0o750)
    os.symlink("../hello", at / "d/link")
    os.link(at / "hello", at / "d/second")
    os.mkfifo(at / "fifo", 0o600)
    os.mknod(at / "plain", stat.S_IFREG | 0o640)
    os.rename(at / "plain", at / "d/moved")
    assert os.readlink(at / "d/link") == "../hello"
    assert (at / "d/link").read_text() == "hello"
    assert sorted(os.listdir(at / "d")) == ["link", "moved", "second"] == sorted(os.listdir(back / "d"))
    assert os.stat(at / "d/second").st_nlink == 2
    for name in ("d", "d/link", "d/second", "d/moved", "fifo"):
        ours, theirs = os.lstat(at / name), os.lstat(back / name)
        # st_atime: reading the link on this side is reading it on the other
        assert ours[:7] == (*theirs[:2], ours.st_dev, *theirs[3:7])
        assert (ours.st_mtime_ns, ours.st_ctime_ns) == (theirs.st_mtime_ns, theirs.st_ctime_ns)
    for name in ("d/link", "d/second", "d/moved"):
        os.unlink(at / name)
    os.rmdir(at / "d")
    with pytest.raises(FileNotFoundError):
        os.stat(at / "d")
    with pytest.raises(NotADirectoryError):
        os.stat(at / "hello/below")
    assert sorted(os.listdir(back)) == ["fifo", "hello"]


def test_data_and_attributes(at: Path, back: Path) -> None:
    opened = os.open(at / "f", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    data = random.Random(1).randbytes(3_000_001)
    assert os.write(opened, data) == len(data)
    assert os.pread(opened, len(data), 0) == data == (back / "f").read_bytes()
    assert os.pread(opened, 10, len(data) - 3) == data[-3:]
    assert os.pread(opened, 10, len(data) + 3) == b""
    os.ftruncate(opened, 1000)
    os.fsync(opened)
    os.fdatasync(opened)
    os.posix_fallocate(opened, 4096, 4096)
    assert os.fstat(opened).st_size == 8192
    assert os.lseek(opened, 0, os.SEEK_END) == 8192
    assert os.lseek(opened, 8000, os.SEEK_HOLE) == 8192
    other = os.open(at / "copy", os.O_RDWR | os.O_CREAT)
    assert os.copy_file_range(opened, other, 1000, 0, 5) == 1000
    assert (back / "copy").read_bytes() == bytes(5) + data[:1000]
    os.close(other)
    os.fchmod(opened, 0o640)
    os.utime(at / "f", ns=(1_000_000_001, -5))
    found = os.stat(back / "f")
    assert (stat.S_IMODE(found.st_mode), found.st_atime_ns, found.st_mtime_ns) == (0o640, 1_000_000_001, -5)
    os.chown(at / "f", 12, 34)
    assert (os.stat(back / "f").st_uid, os.stat(at / "f").st_gid) == (12, 34)
    os.unlink(at / "f")
    assert os.pread(opened, 5, 0) == data[:5]  # unlinked, and open
    os.close(opened)
    assert os.statvfs(at).f_blocks == os.statvfs(back).f_blocks


def test_extended_attributes(at: Path, back: Path) -> None:
    os.setxattr(at / "hello", "user.colour", b"\0green")
    assert os.getxattr(back / "hello", "user.colour") == b"\0green" == os.getxattr(at / "hello", "user.colour")
    assert os.listxattr(at / "hello") == ["user.colour"]
    with pytest.raises(FileExistsError):
        os.setxattr(at / "hello", "user.colour", b"red", os.XATTR_CREATE)
    os.removexattr(at / "hello", "user.colour")
    with pytest.raises(OSError, match="No data"):
        os.getxattr(at / "hello", "user.colour")


def test_files_without_a_name(at: Path) -> None:
    with open(os.open(at, os.O_TMPFILE | os.O_RDWR), "r+b") as file:
        file.write(b"secret")
        file.seek(0)
        assert file.read() == b"secret"
    assert os.listdir(at) == ["hello"]


def test_a_directory_of_many_names(at: Path, back: Path) -> None:
    names = [f"{number:04}" + "x" * (number % 200) for number in range(700)]
    for name in names:
        (back / name).touch()
    assert sorted(os.listdir(at)) == sorted([*names, "hello"])
    with os.scandir(at) as found:
        assert all(one.is_file() and one.stat().st_ino == one.inode() for one in found)


def test_memory_mapped_for_reading(at: Path) -> None:
    with open(at / "hello", "rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE) as mapped:
        assert bytes(mapped) == b"hello"


class Exploding(Mirror):
    """Fails in ways that a file system should not."""

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        self.bad: dict[int, bytes] = {}

    def lookup(self, request: Request, name: bytes) -> abi.Entry:
        if name == b"value":
            raise ValueError("not foreseen")
        if name == b"nothing":
            return None  # type: ignore[return-value]  # what a careless method does
        if name == b"exit":
            raise SystemExit(3)
        if name == b"no-errno":
            raise OSError("in words only")
        if name == b"huge":
            raise OSError(10**6, "no such errno")
        return super().lookup(request, name)

    def read(self, request: Request, asked: abi.ReadIn) -> int | Buffer:
        return b"more than was asked for" * 1000


@pytest.mark.parametrize("name", ["value", "nothing", "no-errno", "huge", "exit"])
def test_a_handler_that_explodes_answers_all_the_same(
    back: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    at = tmp_path / "m"
    with serving(at, lambda: Exploding(back)):
        for _time in range(3):
            with pytest.raises(OSError, match="Input/output error") as caught:
                os.stat(at / name)
            assert caught.value.errno == errno.EIO
        with pytest.raises(OSError, match="Input/output error"):
            (at / "hello").read_bytes()
        assert os.listdir(at) == ["hello"]
    said = capfd.readouterr().err
    assert "the kernel does not take the reply to READ" in said
    assert name in {"no-errno", "huge"} or "LOOKUP failed in an unforeseen way" in said


def lock_in_child(path: Path, then: Callable[[int], object]) -> int:
    """A child that opens and flocks the file, then goes on with its descriptor."""

    def body() -> None:
        opened = os.open(path, os.O_RDWR)
        fcntl.flock(opened, fcntl.LOCK_EX)
        then(opened)

    return forked(body)


def test_a_blocked_lock_is_interrupted(at: Path, back: Path) -> None:
    with open(at / "hello", "r+b") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)

        def wait_and_be_interrupted() -> None:
            # the handler raises, so that Python does not try again
            signal.signal(signal.SIGUSR1, signal.default_int_handler)
            with open(at / "hello", "r+b") as file, pytest.raises(KeyboardInterrupt):
                fcntl.flock(file, fcntl.LOCK_EX)

        interrupted = forked(wait_and_be_interrupted)
        killed = lock_in_child(at / "hello", lambda _opened: None)
        for pid, signum in ((interrupted, signal.SIGUSR1), (killed, signal.SIGKILL)):
            until_waits(back, pid)
            os.kill(pid, signum)
        assert ended(interrupted) == 0
        assert ended(killed) == -signal.SIGKILL
        with pytest.raises(BlockingIOError), open(at / "hello", "r+b") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    later = lock_in_child(at / "hello", lambda _opened: None)  # neither of the two has got it after all
    assert ended(later) == 0


def test_waiting_locks_do_not_starve_the_others(back: Path, tmp_path: Path) -> None:
    at = tmp_path / "m"
    with serving(at, lambda: Mirror(back)):
        with open(at / "hello", "r+b") as holder:
            fcntl.flock(holder, fcntl.LOCK_EX)
            waiting = [lock_in_child(at / "hello", lambda _opened: None) for _number in range(6)]
            for pid in waiting:
                until_waits(back, pid)
            assert (at / "hello").stat().st_size == 5
            fcntl.flock(holder, fcntl.LOCK_UN)  # closing would not do: the children have it open too
        assert [ended(pid) for pid in waiting] == [0] * 6


class Held(Mirror):
    """Keeps whoever looks up held-N until `go` appears."""

    def lookup(self, request: Request, name: bytes) -> abi.Entry:
        if name.startswith(b"held"):
            self.announce(f"at-{os.fsdecode(name)}")
            while not os.path.exists(f"{self.way(1)}/go"):
                time.sleep(0.005)
        return super().lookup(request, name)


def test_spare_threads_take_over_when_all_are_held_up(back: Path, tmp_path: Path) -> None:
    at = tmp_path / "m"
    with serving(at, lambda: Held(back)):
        held = [forked(lambda n=n: os.path.exists(at / f"held-{n}")) for n in range(5)]  # type: ignore[misc]
        for number in range(5):
            until((back / f"at-held-{number}").exists, "it is not held up")
        assert (at / "hello").read_text() == "hello"
        (back / "go").touch()  # through the mount it would wait for those who look in the same directory
        assert [ended(pid) for pid in held] == [0] * 5
        assert (at / "hello").read_text() == "hello"


def test_four_at_once_under_load(at: Path, back: Path) -> None:
    def work(seed: int) -> None:
        dice = random.Random(seed)
        place = at / str(seed)
        place.mkdir()
        for number in range(25):
            data = dice.randbytes(dice.randrange(200_000))
            (place / f"{number}").write_bytes(data)
            assert (place / f"{number}").read_bytes() == data
            os.rename(place / f"{number}", place / f"r{number}")
            if number % 3 == 0:
                (place / f"r{number}").unlink()
        assert len(os.listdir(place)) == 16

    pids = [forked(lambda seed=seed: work(seed)) for seed in range(4)]  # type: ignore[misc]
    assert [ended(pid) for pid in pids] == [0] * 4
    for seed in range(4):
        ours = {path.name: hashlib.sha1(path.read_bytes()).digest() for path in (at / str(seed)).iterdir()}
        theirs = {path.name: hashlib.sha1(path.read_bytes()).digest() for path in (back / str(seed)).iterdir()}
        assert ours == theirs


def test_unmounted_while_busy(back: Path, tmp_path: Path) -> None:
    at = tmp_path / "m"
    at.mkdir()
    server = Server(at, lambda: Session(mount(at), Mirror(back), log=log))
    opened = os.open(at / "hello", os.O_RDWR)
    fcntl.flock(opened, fcntl.LOCK_EX)

    def wait() -> None:
        file = os.open(at / "hello", os.O_RDWR)
        with pytest.raises(OSError, match=r"abort|not connected|Interrupted"):
            fcntl.flock(file, fcntl.LOCK_EX)

    waiter = forked(wait)
    until_waits(back, waiter)
    assert server.stop() == 0
    assert ended(waiter) == 0
    assert find_mount(str(at)) is None
    with pytest.raises(OSError, match=r"not connected|abort"):
        os.pread(opened, 1, 0)
    with pytest.raises(OSError, match=r"not connected|abort"):
        os.close(opened)
    assert os.listdir(at) == []  # what is below the mount


def test_somebody_else_unmounts(back: Path, tmp_path: Path) -> None:
    at = tmp_path / "m"
    at.mkdir()
    server = Server(at, lambda: Session(mount(at), Mirror(back), log=log))
    assert unmount(at)
    assert ended(server.pid) == 0  # it notices
    os.close(server._tell_stop)


class Caching(Mirror):
    """Lets the kernel believe things for long, and takes that back when told so by an extended attribute."""

    entry_valid = attributes_valid = 1000.0
    session: Session

    def started(self, session: Session, agreed: Init) -> None:
        self.session = session

    def setxattr(self, request: Request, name: bytes, value: bytes, flags: int) -> None:
        node = request.node

        def tell() -> None:
            self.session.invalidate_inode(node)
            self.session.invalidate_entry(abi.ROOT_ID, value)
            self.session.invalidate_inode(4711)  # not known: nothing to forget

        threading.Thread(target=tell).start()


def test_what_the_kernel_believes_can_be_taken_back(back: Path, tmp_path: Path) -> None:
    at = tmp_path / "m"
    with serving(at, lambda: Caching(back)):
        assert os.stat(at / "hello").st_size == 5
        (back / "gone").touch()
        assert (at / "gone").exists()
        (back / "gone").unlink()
        (back / "hello").write_text("hello again")
        assert (at / "gone").exists()
        assert os.stat(at / "hello").st_size == 5
        os.setxattr(at / "hello", "user.x", b"gone")
        until(lambda: os.stat(at / "hello").st_size == 11, "the old size is still believed")
        until(lambda: not (at / "gone").exists(), "the name is still believed")


class Through(Mirror):
    """Has the kernel read and write the files behind by itself."""

    session: Session

    def started(self, session: Session, agreed: Init) -> None:
        assert Init.PASSTHROUGH in agreed
        self.session = session
        self._ids: dict[int, int] = {}

    def open(self, request: Request, flags: int, kill: bool) -> abi.Opened:
        opened = super().open(request, flags, kill)
        backing = self.session.open_backing(opened.fh)
        self._ids[opened.fh] = backing
        return abi.Opened(opened.fh, abi.Fopen.PASSTHROUGH, backing)

    def read(self, request: Request, asked: abi.ReadIn) -> int | Buffer:
        raise AssertionError("the kernel should do that")

    def write(self, request: Request, asked: abi.WriteIn, data: memoryview) -> int:
        raise AssertionError("the kernel should do that")

    def release(self, request: Request, asked: abi.ReleaseIn) -> None:
        self.session.close_backing(self._ids.pop(asked.fh))
        super().release(request, asked)


def test_passthrough(back: Path, tmp_path: Path) -> None:
    at = tmp_path / "m"
    with serving(at, lambda: Through(back)):
        with open(at / "hello", "r+b") as file, mmap.mmap(file.fileno(), 5) as mapped:
            assert file.read() == b"hello"
            mapped[0:1] = b"J"
            mapped.flush()
            file.write(b" there")
        assert (back / "hello").read_text() == "Jello there" == (at / "hello").read_text()
