"""Whatever is done, in whatever order: the same as on a plain directory, locally and over TLS."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from omfs.support import local, remote
from omfs.worlds import Plain, Served, World
from omtools.linux.files import Fallocate
from omtools.omfs.cluster_files import ClusterFiles
from omtools.omfs.exports import only
from omtools.omfs.local import LocalFiles
from omtools.omfs.operations import Changes
from omtools.omfs.tree import ClusterTree

_SECOND = 1_000_000_000
NAMES = [b"a", b"b", b"\xff\n \xc3", b"n" * 255, b"m" * 256]
names = st.sampled_from(NAMES[:3]) | st.sampled_from(NAMES)
paths = st.lists(names, min_size=1, max_size=3).map(tuple)
modes = st.sampled_from([0o777, 0o666, 0o644, 0o600, 0o4755, 0o1777, 0o000])
umasks = st.sampled_from([0, 0o022, 0o077])
offsets = st.sampled_from([0, 1, 4095, 4096, 70_000, 1 << 20]) | st.integers(0, 10_000)
accesses = st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR])
how = st.sampled_from([0, 0, os.O_TRUNC, os.O_APPEND, os.O_EXCL])
contents = st.binary(max_size=64) | st.integers(1, 200_000).map(lambda size: b"0123456789abcdef" * (size // 16))
xattrs = st.sampled_from([b"user.a", b"user.b", b"user." + b"x" * 250, b"bad"])
ranges = st.sampled_from(
    [0, Fallocate.KEEP_SIZE, Fallocate.KEEP_SIZE | Fallocate.PUNCH_HOLE, Fallocate.ZERO_RANGE, 0x1000]
)


class NoFacts:
    """Nobody asks for here or home."""

    def here(self, pid: int) -> int:
        return pid

    home = lastexec = selected = magic = here

    def set_magic(self, pid: int, node: int) -> None: ...

    def select(self, pid: int, node: int | None) -> None: ...


@contextlib.contextmanager
def cluster(directory: str) -> Iterator[ClusterFiles]:
    """One node's files in the cluster's tree."""
    tree = ClusterTree({7: "seven"})
    files = ClusterFiles(lambda: tree, NoFacts(), lambda _node: LocalFiles(only(directory)))
    try:
        yield files
    finally:
        files.close()


class SameAsPlain(RuleBasedStateMachine):
    """Each step is done in all worlds, and the outcomes must be equal."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()
        self._number = 0
        top = tempfile.mkdtemp(prefix="omfs-same-")
        self._stack.callback(shutil.rmtree, top, ignore_errors=True)
        tops = [os.path.join(top, name) for name in ("plain", "local", "remote", "cluster")]
        for each in tops:
            os.mkdir(each)
        self.plain = Plain(tops[0])
        self.worlds: list[World] = [
            self.plain,
            Served(self._stack.enter_context(local(tops[1]))),
            Served(self._stack.enter_context(remote(tops[2], tls=True))),
            Served(self._stack.enter_context(cluster(tops[3])), b"7"),
        ]

    def teardown(self) -> None:
        with self._stack:
            for number in list(self.plain.opened):
                self.both("close", number)

    def both(self, operation: str, *args: Any) -> None:
        outcomes: list[Any] = []
        for world in self.worlds:
            try:
                outcomes.append(getattr(world, operation)(*args))
            except OSError as error:
                outcomes.append(f"errno {error.errno}: {error.strerror}")
        assert outcomes[1] == outcomes[0], f"locally {operation}{args} is another"
        assert outcomes[2] == outcomes[0], f"remotely {operation}{args} is another"
        assert outcomes[3] == outcomes[0], f"in the cluster's tree {operation}{args} is another"

    @rule(path=paths, mode=modes, umask=umasks)
    def mkdir(self, path: Any, mode: int, umask: int) -> None:
        self.both("mkdir", path, mode & 0o1777, umask)

    @rule(path=paths, mode=modes, umask=umasks, kind=st.sampled_from([stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK]))
    def mknod(self, path: Any, mode: int, umask: int, kind: int) -> None:
        self.both("mknod", path, kind | mode, umask)

    @rule(path=paths, leads=st.sampled_from([b"a", b"/etc", b"../../..", b"\xff", b"", b"x" * 4000]))
    def symlink(self, path: Any, leads: bytes) -> None:
        self.both("symlink", path, leads)

    @rule(path=paths, new=paths)
    def link(self, path: Any, new: Any) -> None:
        self.both("link", path, new)

    @rule(path=paths)
    def unlink(self, path: Any) -> None:
        self.both("unlink", path)

    @rule(path=paths)
    def rmdir(self, path: Any) -> None:
        self.both("rmdir", path)

    @rule(path=paths, new=paths, flags=st.sampled_from([0, 0, 0, 1, 2, 3]))
    def rename(self, path: Any, new: Any, flags: int) -> None:
        self.both("rename", path, new, flags)

    @rule(path=paths)
    def look(self, path: Any) -> None:
        for operation in ("stat", "readlink", "listdir", "xattrs"):
            self.both(operation, path)

    @rule(path=paths, mask=st.integers(0, 7))
    def access(self, path: Any, mask: int) -> None:
        self.both("access", path, mask)

    @rule(
        path=paths,
        changes=modes.map(lambda mode: Changes(mode=mode))
        | offsets.map(lambda size: Changes(size=size))
        | st.integers(0, 3).map(lambda uid: Changes(uid=uid))
        | st.integers(-_SECOND, _SECOND - 10).map(lambda time: Changes(atime_ns=1, mtime_ns=time)),
    )
    def change(self, path: Any, changes: Changes) -> None:
        self.both("change", path, changes)

    @rule(path=paths, name=xattrs, value=st.binary(max_size=40), flags=st.sampled_from([0, 0, 1, 2]))
    def setxattr(self, path: Any, name: bytes, value: bytes, flags: int) -> None:
        self.both("setxattr", path, name, value, flags)

    @rule(path=paths, name=xattrs)
    def removexattr(self, path: Any, name: bytes) -> None:
        self.both("removexattr", path, name)

    @rule(path=paths, access=accesses, flags=how)
    def open(self, path: Any, access: int, flags: int) -> None:
        mode = getattr(self._try_stat(path), "mode", stat.S_IFREG)
        if stat.S_ISFIFO(mode) or (stat.S_ISDIR(mode) and access == os.O_RDONLY):
            return  # the plain one would wait for the other end; directories are opened by another operation
        self._number += 1
        self.both("open", path, access | (flags & ~os.O_EXCL), self._number)

    def _try_stat(self, path: Any) -> Any:
        try:
            return self.plain.stat(path)
        except OSError:
            return None

    @rule(path=paths, access=accesses, flags=how, mode=modes, umask=umasks)
    def create(self, path: Any, access: int, flags: int, mode: int, umask: int) -> None:
        if stat.S_ISFIFO(getattr(self._try_stat(path), "mode", stat.S_IFREG)):
            return
        self._number += 1
        self.both("create", path, access | flags, mode & 0o777, umask, self._number)

    def _pick(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.plain.opened)))

    @precondition(lambda self: self.plain.opened)
    @rule(data=st.data(), offset=offsets, content=contents)
    def write(self, data: st.DataObject, offset: int, content: bytes) -> None:
        self.both("write", self._pick(data), offset, content)

    @precondition(lambda self: self.plain.opened)
    @rule(data=st.data(), offset=offsets, size=offsets)
    def read(self, data: st.DataObject, offset: int, size: int) -> None:
        self.both("read", self._pick(data), offset, size)

    @precondition(lambda self: self.plain.opened)
    @rule(data=st.data(), size=offsets)
    def ftruncate(self, data: st.DataObject, size: int) -> None:
        self.both("ftruncate", self._pick(data), size)

    @precondition(lambda self: self.plain.opened)
    @rule(data=st.data(), mode=ranges, offset=offsets, length=offsets)
    def fallocate(self, data: st.DataObject, mode: int, offset: int, length: int) -> None:
        self.both("fallocate", self._pick(data), int(mode), offset, length)

    @precondition(lambda self: self.plain.opened)
    @rule(data=st.data(), offset=offsets, whence=st.sampled_from([os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE, 77]))
    def seek(self, data: st.DataObject, offset: int, whence: int) -> None:
        self.both("seek", self._pick(data), offset, whence)

    @precondition(lambda self: self.plain.opened)
    @rule(data=st.data(), offset=offsets, at=offsets, size=offsets)
    def copy(self, data: st.DataObject, offset: int, at: int, size: int) -> None:
        self.both("copy", self._pick(data), offset, self._pick(data), at, size)

    @precondition(lambda self: self.plain.opened)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        self.both("close", self._pick(data))

    @invariant()
    def the_same_open_files(self) -> None:
        for number in self.plain.opened:
            self.both("fstat", number)


@pytest.mark.parametrize("steps", [15, 50])
def test_the_same_as_a_plain_directory(steps: int) -> None:
    run_state_machine_as_test(
        SameAsPlain,
        settings=settings(
            max_examples=30,
            stateful_step_count=steps,
            suppress_health_check=list(HealthCheck),
            phases=[phase for phase in Phase if phase is not Phase.shrink],
            deadline=None,
        ),
    )
