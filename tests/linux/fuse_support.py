"""For tests of FUSE: mounts of their own, a server in another process, and a small real file system.

The server must be another process: whoever touches a page that it would have to serve itself holds the
interpreter's lock meanwhile. It is killed by an alarm in any case, and a mount whose server is dead answers at
once, so that no error here can leave anybody in uninterruptible sleep.
"""

# ruff: noqa: ARG002 - a handler's methods have the arguments that the protocol gives them

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import stat
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from short import short_directory

from omtools.linux.fuse import abi
from omtools.linux.fuse.handler import Buffer, Cancellation, Directory, Handler, Request
from omtools.linux.fuse.mount import MountOptions, is_dead, mount, unmount
from omtools.linux.fuse.session import Session
from omtools.linux.namespaces import (
    Clone,
    IdRange,
    Mount,
    Pr,
    mount as mount2,
    prctl,
    set_parent_death_signal,
    setns,
    unshare,
    write_id_maps,
)

SECONDS = 500  # a server lives no longer; much longer than the tests that share one on a busy machine
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can unshare mounts in the test's own process")


@contextlib.contextmanager
def own_mounts() -> Iterator[None]:
    """This thread in a mount namespace of its own: what other tests mount is not seen, nor the other way."""
    before, here = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC), os.getcwd()
    unshare(Clone.NEWNS)
    try:
        mount2(None, "/", None, Mount.REC | Mount.PRIVATE)
        yield
    finally:
        setns(before, Clone.NEWNS)
        os.close(before)
        os.chdir(here)


def forked(body: Callable[[], object]) -> int:
    """Run `body` in a child that ends with it; its pid."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        set_parent_death_signal(signal.SIGKILL, parent)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        body()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Server:
    """A process that serves a mount until it is told to stop."""

    def __init__(self, target: Path, serve: Callable[[], Session]) -> None:
        self.target = target
        ready, tell_ready = os.pipe()
        stop, self._tell_stop = os.pipe()
        self.pid = forked(lambda: self._body(serve, tell_ready, stop))
        os.close(tell_ready)
        os.close(stop)
        with os.fdopen(ready) as pipe:
            self.agreed = pipe.read()
        if not self.agreed:
            os.close(self._tell_stop)
            pytest.fail(f"the server ended with {ended(self.pid)}")

    def _body(self, serve: Callable[[], Session], tell_ready: int, stop: int) -> None:
        os.close(self._tell_stop)
        session = serve()
        session.start()
        os.write(tell_ready, str(int(session.agreed)).encode())
        os.close(tell_ready)

        def end() -> None:
            os.read(stop, 1)
            session.close()

        ending = threading.Thread(target=end, daemon=True)
        ending.start()
        session.wait()

    def stop(self) -> int:
        """Have it unmount and end; its exit status."""
        with contextlib.suppress(BrokenPipeError):  # it has ended: its status says how
            os.write(self._tell_stop, b"x")  # closing would not do: children of the test have it open too
        os.close(self._tell_stop)
        status = ended(self.pid)
        if is_dead(self.target):
            unmount(self.target)
        return status

    def kill(self) -> None:
        """End it as a crash would; the dead mount stays."""
        os.kill(self.pid, signal.SIGKILL)
        os.close(self._tell_stop)
        ended(self.pid)


    def clear_away(self) -> None:
        """End it however it is, and leave nothing."""
        with contextlib.suppress(OSError):
            self.kill()
        unmount(self.target)


@contextlib.contextmanager
def serving(
    target: Path, make: Callable[[], Handler], options: MountOptions | None = None
) -> Iterator[Server]:
    """Serve a handler, which is made in the server's process, at `target`."""
    target.mkdir(exist_ok=True)

    def serve() -> Session:
        return Session(mount(target, options or MountOptions(allow_other=os.geteuid() == 0)), make(), log=log)

    server = Server(target, serve)
    try:
        yield server
    except BaseException:
        server.clear_away()
        raise
    assert server.stop() == 0


def log(sentence: str, error: BaseException) -> None:
    print(f"{sentence}: {error!r}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def public_place() -> Iterator[Path]:
    """A place of nobody's, with a device that everybody may open."""
    place = short_directory()
    try:
        for name in ("back", "m"):
            (place / name).mkdir()
            os.chown(place / name, NOBODY, NOBODY)
        (place / "back/hello").write_text("hello")
        place.chmod(0o755)
        os.mknod(place / "fuse", stat.S_IFCHR | 0o666, os.stat("/dev/fuse").st_rdev)
        (place / "fuse").chmod(0o666)
        yield place
    finally:
        shutil.rmtree(place)


def become_nobody(place: Path) -> None:
    unshare(Clone.NEWNS)
    mount2(str(place / "fuse"), "/dev/fuse", None, Mount.BIND)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    prctl(Pr.SET_DUMPABLE, 1)  # the files of /proc/self are its own again
    os.chdir(place)


def own_namespaces() -> None:
    """A user and a mount namespace, of which this process, an ordinary user's, is root."""
    unshare(Clone.NEWUSER | Clone.NEWNS)
    write_id_maps([IdRange(0, NOBODY)], [IdRange(0, NOBODY)])


def _fail(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class Mirror(Handler):
    """Shows a directory of this machine, by O_PATH descriptors; simple, whole, and slow."""

    def __init__(self, top: Path) -> None:
        self._guard = threading.Lock()
        self._paths = {abi.ROOT_ID: os.open(top, os.O_PATH | os.O_DIRECTORY)}
        self._counts = {abi.ROOT_ID: 1}
        self._numbers: dict[tuple[int, int], int] = {}
        self._next = abi.ROOT_ID + 1

    def ended(self) -> None:
        for descriptor in self._paths.values():
            os.close(descriptor)

    def way(self, node: int) -> str:
        return f"/proc/self/fd/{self._paths[node]}"

    def _entry(self, request: Request, name: bytes) -> abi.Entry:
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=self._paths[request.node])
        return self._known(descriptor)

    def _known(self, descriptor: int) -> abi.Entry:
        found = os.fstat(descriptor)
        with self._guard:
            node = self._numbers.get((found.st_dev, found.st_ino))
            if node is None:
                node, self._next = self._next, self._next + 1
                self._numbers[found.st_dev, found.st_ino] = node
                self._paths[node] = descriptor
                self._counts[node] = 0
            else:
                os.close(descriptor)
            self._counts[node] += 1
        return abi.Entry(node, 0, abi.attributes_of(found))

    def lookup(self, request: Request, name: bytes) -> abi.Entry:
        return self._entry(request, name)

    def forget(self, node: int, count: int) -> None:
        with self._guard:
            self._counts[node] -= count
            if self._counts[node] == 0 and node != abi.ROOT_ID:
                found = os.fstat(self._paths[node])
                os.close(self._paths.pop(node))
                del self._counts[node], self._numbers[found.st_dev, found.st_ino]

    def getattr(self, request: Request, fh: int | None) -> abi.Attributes:
        return abi.attributes_of(os.fstat(self._paths[request.node] if fh is None else fh))

    def setattr(self, request: Request, change: abi.SetattrIn) -> abi.Attributes:
        valid, way = abi.Fattr(change.valid), self.way(request.node)
        if valid & (abi.Fattr.UID | abi.Fattr.GID):
            os.chown(way, change.uid if valid & abi.Fattr.UID else -1, change.gid if valid & abi.Fattr.GID else -1)
        if valid & abi.Fattr.MODE:
            os.chmod(way, stat.S_IMODE(change.mode))
        if valid & abi.Fattr.SIZE:
            os.truncate(change.fh if valid & abi.Fattr.FH else way, change.size)
        if valid & (abi.Fattr.ATIME | abi.Fattr.MTIME):
            now, found = os.times(), os.stat(way)
            assert now
            atime = change.atime * 10**9 + change.atimensec if valid & abi.Fattr.ATIME else found.st_atime_ns
            mtime = change.mtime * 10**9 + change.mtimensec if valid & abi.Fattr.MTIME else found.st_mtime_ns
            os.utime(way, ns=(atime, mtime))
        return self.getattr(request, None)

    def readlink(self, request: Request) -> bytes:
        return os.readlink(b"", dir_fd=self._paths[request.node])

    def symlink(self, request: Request, name: bytes, target: bytes) -> abi.Entry:
        os.symlink(target, name, dir_fd=self._paths[request.node])
        return self._entry(request, name)

    def mknod(self, request: Request, name: bytes, mode: int, device: int, umask: int) -> abi.Entry:
        os.mknod(name, mode & ~umask, device, dir_fd=self._paths[request.node])
        return self._entry(request, name)

    def mkdir(self, request: Request, name: bytes, mode: int, umask: int) -> abi.Entry:
        os.mkdir(name, mode & ~umask, dir_fd=self._paths[request.node])
        return self._entry(request, name)

    def unlink(self, request: Request, name: bytes) -> None:
        os.unlink(name, dir_fd=self._paths[request.node])

    def rmdir(self, request: Request, name: bytes) -> None:
        os.rmdir(name, dir_fd=self._paths[request.node])

    def rename(self, request: Request, name: bytes, directory: int, new: bytes, flags: int) -> None:
        if flags:
            raise _fail(errno.EINVAL)
        os.rename(name, new, src_dir_fd=self._paths[request.node], dst_dir_fd=self._paths[directory])

    def link(self, request: Request, node: int, name: bytes) -> abi.Entry:
        os.link(self.way(node), name, dst_dir_fd=self._paths[request.node], follow_symlinks=True)
        return self._entry(request, name)

    def open(self, request: Request, flags: int, kill: bool) -> abi.Opened:
        return abi.Opened(os.open(self.way(request.node), flags & ~os.O_NOFOLLOW), abi.Fopen.DIRECT_IO)

    def create(
        self, request: Request, name: bytes, flags: int, mode: int, umask: int, kill: bool
    ) -> tuple[abi.Entry, abi.Opened]:
        made = os.open(name, flags | os.O_CREAT, mode & ~umask, dir_fd=self._paths[request.node])
        return self._entry(request, name), abi.Opened(made, abi.Fopen.DIRECT_IO)

    def tmpfile(self, request: Request, flags: int, mode: int, umask: int) -> tuple[abi.Entry, abi.Opened]:
        made = os.open(self.way(request.node), flags, mode & ~umask)
        again = os.open(f"/proc/self/fd/{made}", os.O_PATH)
        return self._known(again), abi.Opened(made, abi.Fopen.DIRECT_IO)

    def read(self, request: Request, asked: abi.ReadIn) -> int | Buffer:
        if asked.size <= 4096:
            return os.pread(asked.fh, asked.size, asked.offset)
        return os.preadv(asked.fh, [request.room[: asked.size]], asked.offset)

    def write(self, request: Request, asked: abi.WriteIn, data: memoryview) -> int:
        return os.pwrite(asked.fh, data, asked.offset)

    def statfs(self, request: Request) -> abi.StatFs:
        found = os.statvfs(self.way(request.node))
        return abi.StatFs(found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree,
                          found.f_bsize, found.f_namemax, found.f_frsize)  # fmt: skip

    def flush(self, request: Request, fh: int, lock_owner: int) -> None:
        os.close(os.dup(fh))

    def release(self, request: Request, asked: abi.ReleaseIn) -> None:
        os.close(asked.fh)

    def fsync(self, request: Request, fh: int, data_only: bool) -> None:
        (os.fdatasync if data_only else os.fsync)(fh)

    def opendir(self, request: Request, flags: int) -> abi.Opened:
        return abi.Opened(os.open(self.way(request.node), os.O_RDONLY | os.O_DIRECTORY))

    def readdir(self, request: Request, fh: int, cookie: int, into: Directory) -> None:
        names = [b".", b"..", *sorted(map(os.fsencode, os.listdir(fh)))]
        for number, name in enumerate(names[cookie:], cookie + 1):
            if not into.fits(name):
                return
            dots = name in (b".", b"..")
            found = os.stat(name, dir_fd=fh, follow_symlinks=False)
            entry = self._entry(request, name) if into.plus and not dots else None
            into.add(name, found.st_ino, stat.S_IFMT(found.st_mode), number, entry)

    def releasedir(self, request: Request, fh: int) -> None:
        os.close(fh)

    def fsyncdir(self, request: Request, fh: int, data_only: bool) -> None:
        os.fsync(fh)

    def setxattr(self, request: Request, name: bytes, value: bytes, flags: int) -> None:
        os.setxattr(self.way(request.node), name, value, flags)

    def getxattr(self, request: Request, name: bytes) -> bytes:
        return os.getxattr(self.way(request.node), name)

    def listxattr(self, request: Request) -> list[bytes]:
        return [os.fsencode(name) for name in os.listxattr(self.way(request.node))]

    def removexattr(self, request: Request, name: bytes) -> None:
        os.removexattr(self.way(request.node), name)

    def access(self, request: Request, mask: int) -> None:
        if not os.access(self.way(request.node), mask):
            raise _fail(errno.EACCES)

    def setlk(self, request: Request, asked: abi.LockIn) -> None:
        fcntl.flock(asked.fh, _flock_of(asked) | fcntl.LOCK_NB)

    def announce(self, what: str) -> None:
        """Let the test see where a request is: a file in the top directory."""
        os.close(os.open(f"{self.way(abi.ROOT_ID)}/{what}", os.O_CREAT | os.O_WRONLY))

    def setlkw(self, request: Request, asked: abi.LockIn, cancellation: Cancellation) -> None:
        while True:
            try:
                return self.setlk(request, asked)
            except BlockingIOError:
                self.announce(f"waits-{request.pid}")
                if cancellation.wait(0.01):
                    raise _fail(errno.EINTR) from None

    def fallocate(self, request: Request, asked: abi.FallocateIn) -> None:
        if asked.mode:
            raise _fail(errno.EOPNOTSUPP)
        os.posix_fallocate(asked.fh, asked.offset, asked.length)

    def lseek(self, request: Request, fh: int, offset: int, whence: int) -> int:
        return os.lseek(fh, offset, whence)

    def copy_file_range(self, request: Request, asked: abi.CopyIn) -> int:
        return os.copy_file_range(asked.fh_in, asked.fh_out, asked.length, asked.off_in, asked.off_out)


def _flock_of(asked: abi.LockIn) -> int:
    return {fcntl.F_RDLCK: fcntl.LOCK_SH, fcntl.F_WRLCK: fcntl.LOCK_EX, fcntl.F_UNLCK: fcntl.LOCK_UN}[asked.kind]
