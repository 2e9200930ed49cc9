"""POSIX on a mount: each call does on it what it does on a plain directory, with the same errno and the same traces.

In the spirit of pjdfstest: a table of calls times a table of names, compared with the native file system.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from linux.fuse_support import ended, forked, needs_root, own_mounts

from omfs.fuse_support import USER, Place, outcome, place, populate, snapshot

pytestmark = needs_root

LONG = "n" * 255
TARGETS = [
    "file", "dir", "full", "link", "dangling", "loop", "linkdir", "fifo", "suid", "missing", "file/below",
    "dir/below", "missing/below", "loop/below", "linkdir/below", LONG, LONG + "n", "dir/", "file/", "link/",
    "linkdir/", "missing/", ".", "dir/.", "dir/..", "", "up/plain-or-mount",
]  # fmt: skip


def change_times(path: str, **how: Any) -> tuple[int, int]:
    os.utime(path, **how)
    found = os.stat(path)
    return found.st_atime_ns, found.st_mtime_ns


def touch_now(path: str) -> bool:
    os.utime(path)
    found = os.stat(path)
    return found.st_atime_ns == found.st_mtime_ns > 1_500_000_000 * 10**9


def xattrs(path: str) -> Any:
    os.setxattr(path, "user.one", b"1")
    os.setxattr(path, "user.two", b"\0\xff")
    with pytest.raises(FileExistsError):
        os.setxattr(path, "user.one", b"", os.XATTR_CREATE)
    names = sorted(os.listxattr(path))
    os.removexattr(path, "user.one")
    return names, os.getxattr(path, "user.two").hex(), os.listxattr(path)


def list_all(path: str) -> Any:
    return sorted((one.name, one.is_dir(follow_symlinks=False), one.is_symlink()) for one in os.scandir(path))


def looked(change: Callable[..., None], path: str, *arguments: int) -> os.stat_result:
    change(path, *arguments)
    return os.lstat(path)


def write_into(path: str) -> Any:
    with open(path, "r+b") as file:
        file.write(b"W")
    return os.stat(path)


def use_and_look(path: str, use_it: Callable[[int], object]) -> Any:
    file = os.open(path, os.O_RDWR)
    try:
        use_it(file)
        return os.fstat(file).st_mode, os.fstat(file).st_size
    finally:
        os.close(file)


UNARY: dict[str, Callable[[str], Any]] = {
    "stat": os.stat,
    "lstat": os.lstat,
    "unlink": os.unlink,
    "rmdir": os.rmdir,
    "mkdir": lambda path: os.mkdir(path, 0o751),
    "mkdir 7777": lambda path: os.mkdir(path, 0o7777),
    "mkfifo": lambda path: os.mkfifo(path, 0o666),
    "mknod file": lambda path: os.mknod(path, stat.S_IFREG | 0o6777),
    "mknod socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
    "symlink": lambda path: os.symlink("to/nowhere", path),
    "symlink long": lambda path: os.symlink("x/" * 2040, path),
    "readlink": os.readlink,
    "list": list_all,
    "chmod 0": lambda path: os.chmod(path, 0),
    "chmod 7777": lambda path: looked(os.chmod, path, 0o7777),
    "chown": lambda path: looked(os.chown, path, 7, 8),
    "chown no one": lambda path: looked(os.chown, path, -1, -1),
    "lchown": lambda path: looked(os.lchown, path, 9, -1),
    "truncate 0": lambda path: looked(os.truncate, path, 0),
    "truncate 70000": lambda path: looked(os.truncate, path, 70000),
    "truncate -1": lambda path: os.truncate(path, -1),
    "utime": lambda path: change_times(path, ns=(1, 2)),
    "utime 1960": lambda path: change_times(path, ns=(-(10**18) + 5, -1)),
    "utime now": touch_now,
    "access": lambda path: [os.access(path, mask) for mask in range(8)],
    "xattr": xattrs,
    "statvfs": lambda path: os.statvfs(path).f_namemax,
    "write": write_into,
    "chdir": lambda path: os.close(os.open(path, os.O_PATH | os.O_DIRECTORY)),
    "pathconf": lambda path: os.pathconf(path, "PC_NAME_MAX"),
}


@pytest.fixture(autouse=True, scope="module")
def _own_mounts() -> Iterator[None]:
    with own_mounts():
        yield


@pytest.fixture(autouse=True)
def _anew(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test begins with nothing there."""
    yield
    for name in {"both", "users"} & set(request.fixturenames):
        places = request.getfixturevalue(name)
        for top in (places.plain / "top", places.back / "top"):
            shutil.rmtree(top, ignore_errors=True)


@pytest.fixture(scope="module")
def both(request: pytest.FixtureRequest, _own_mounts: None) -> Iterator[Place]:
    with place(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def users(_own_mounts: None) -> Iterator[Place]:
    with place("users") as made:
        yield made


def compare(places: Place, call: Callable[[str], Any]) -> tuple[str, Any]:
    """Do it here and there; what it gives and what it leaves must be the same.

    What a call has changed is made anew for the next one.
    """
    tops = (places.plain / "top", places.back / "top")
    for top in tops:
        if not top.exists():
            populate(top)
    fresh = snapshot(tops[0])
    try:
        plain = outcome(lambda: call(f"{places.plain}/top"))
        on_mount = outcome(lambda: call(f"{places.mount}/top"))
        assert on_mount == plain
        left = [snapshot(top) for top in tops]
        assert left[0] == left[1]
    except BaseException:
        fresh = {}
        raise
    finally:
        if not fresh or left[0] != fresh:
            for top in tops:
                shutil.rmtree(top)
    return plain


def kinds(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("both", names, indirect=True, scope="module")


@kinds("local", "remote")
@pytest.mark.parametrize("name", UNARY)
def test_calls_on_names_of_all_kinds(both: Place, name: str, request: pytest.FixtureRequest) -> None:
    chosen = TARGETS if request.node.callspec.params["both"] == "local" else TARGETS[:9]
    outcomes = {target: compare(both, lambda top, target=target: UNARY[name](f"{top}/{target}"))[0] for target in chosen}  # type: ignore[misc]
    assert "value" in outcomes.values() or name in {"truncate -1", "mkdir", "mkdir 7777", "symlink", "symlink long", "mkfifo", "mknod file", "mknod socket"}


PAIRED = ["file", "second", "dir", "full", "link", "dangling", "linkdir", "fifo", "missing", "full/x", "dir/below", "dir/", "file/below", LONG + "n", "."]


@kinds("local")
@pytest.mark.parametrize("source", PAIRED)
def test_rename_and_link_of_all_pairs(both: Place, source: str) -> None:
    for target in PAIRED:
        compare(both, lambda top, target=target: os.rename(f"{top}/{source}", f"{top}/{target}"))  # type: ignore[misc]
        compare(both, lambda top, target=target: os.link(f"{top}/{source}", f"{top}/{target}", follow_symlinks=False))  # type: ignore[misc]


FLAGS = {"CREAT": os.O_CREAT, "EXCL": os.O_EXCL, "TRUNC": os.O_TRUNC, "APPEND": os.O_APPEND, "DIRECTORY": os.O_DIRECTORY, "NOFOLLOW": os.O_NOFOLLOW}
COMBINATIONS = [sum(chosen) for count in range(len(FLAGS) + 1) for chosen in itertools.combinations(FLAGS.values(), count)]


def use(path: str, flags: int) -> Any:
    """Open, write if it may be, read if it may be."""
    opened = os.open(path, flags | os.O_NONBLOCK, 0o6640)
    try:
        wrote = outcome(lambda: os.write(opened, b"abc"))
        read = outcome(lambda: os.pread(opened, 100, 0).decode())
        return wrote, read, os.lseek(opened, 0, os.SEEK_CUR), outcome(lambda: os.fstat(opened))
    finally:
        os.close(opened)


@kinds("local", "through")
@pytest.mark.parametrize("target", ["file", "dir", "link", "dangling", "linkdir", "loop", "missing", "file/below", "missing/below"])
def test_open_with_all_combinations_of_flags(both: Place, target: str) -> None:
    populate(both.plain / "top")
    populate(both.back / "top")
    try:
        for mode, more in itertools.product((os.O_RDONLY, os.O_WRONLY, os.O_RDWR), COMBINATIONS):
            plain = outcome(lambda mode=mode, more=more: use(f"{both.plain}/top/{target}", mode | more))  # type: ignore[misc]
            on_mount = outcome(lambda mode=mode, more=more: use(f"{both.mount}/top/{target}", mode | more))  # type: ignore[misc]
            assert on_mount == plain, (mode, more)
            for top in (both.plain / "top", both.back / "top"):
                for name in ("missing", "nowhere"):
                    (top / name).unlink(missing_ok=True)
        assert snapshot(both.back / "top") == snapshot(both.plain / "top")
    finally:
        shutil.rmtree(both.plain / "top")
        shutil.rmtree(both.back / "top")


@kinds("local", "remote")
@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_umask(both: Place, umask: int) -> None:
    def make(top: str) -> None:
        before = os.umask(umask)
        try:
            os.close(os.open(f"{top}/a", os.O_CREAT | os.O_WRONLY, 0o6777))
            os.mkdir(f"{top}/b", 0o1777)
            os.mkfifo(f"{top}/c", 0o666)
            os.mknod(f"{top}/d", stat.S_IFREG | 0o666)
        finally:
            os.umask(before)

    assert compare(both, make)[0] == "value"


def unlinked_while_open(top: str) -> Any:
    with open(f"{top}/file", "r+b") as file:
        os.unlink(f"{top}/file")
        os.unlink(f"{top}/second")
        file.write(b"still")
        file.flush()
        os.ftruncate(file.fileno(), 8)
        os.fchmod(file.fileno(), 0o600)
        file.seek(0)
        return file.read().decode(), os.fstat(file.fileno())


def renamed_while_open(top: str) -> Any:
    with open(f"{top}/file", "r+b") as file:
        os.rename(f"{top}/file", f"{top}/full/x")
        file.write(b"moved")
        file.flush()
        return Path(f"{top}/full/x").read_text(), os.fstat(file.fileno())


def directory_removed_while_open(top: str) -> Any:
    opened = os.open(f"{top}/dir", os.O_RDONLY)
    try:
        os.rmdir(f"{top}/dir")
        return (
            os.listdir(opened), os.fstat(opened).st_nlink,
            outcome(lambda: os.close(os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=opened))),
            outcome(lambda: os.mkdir("new", dir_fd=opened)),
        )  # fmt: skip
    finally:
        os.close(opened)


def names_relative_to_a_moved_directory(top: str) -> Any:
    opened = os.open(f"{top}/full", os.O_RDONLY)
    try:
        os.rename(f"{top}/full", f"{top}/dir/moved")
        os.rename("x", "y", src_dir_fd=opened, dst_dir_fd=opened)
        return os.listdir(opened), os.listdir(f"{top}/dir/moved")
    finally:
        os.close(opened)


def append_and_go_back(top: str) -> Any:
    opened = os.open(f"{top}/file", os.O_RDWR | os.O_APPEND)
    try:
        os.lseek(opened, 0, os.SEEK_SET)
        os.write(opened, b"-end")
        os.pwrite(opened, b"-too", 0)  # Linux: O_APPEND wins
        return os.pread(opened, 100, 0).decode(), os.lseek(opened, 0, os.SEEK_CUR)
    finally:
        os.close(opened)


def holes(top: str) -> Any:
    opened = os.open(f"{top}/sparse", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(opened, b"x" * 4096, 1 << 20)
        first = [os.lseek(opened, 0, os.SEEK_DATA), os.lseek(opened, 1 << 20, os.SEEK_HOLE)]
        nothing = outcome(lambda: os.lseek(opened, 2 << 20, os.SEEK_DATA))
        return first, nothing, os.fstat(opened).st_blocks, os.pread(opened, 8, 0).hex()
    finally:
        os.close(opened)


def many_names(top: str) -> Any:
    os.mkdir(f"{top}/many")
    for number in range(400):
        os.close(os.open(f"{top}/many/{number:03}{'x' * (number % 120)}", os.O_CREAT | os.O_WRONLY, 0o600))
    seen_while_removing = 0
    with os.scandir(f"{top}/many") as found:
        for one in found:
            os.unlink(one)
            seen_while_removing += 1
    os.rmdir(f"{top}/many")
    return seen_while_removing


def deep(top: str) -> Any:
    path = top
    for _level in range(40):
        path += "/" + "d" * 20
        os.mkdir(path)
    too_long = path + "/x" * 2000
    return outcome(lambda: os.stat(too_long)), os.stat(path)


def copies(top: str) -> Any:
    with open(f"{top}/file", "rb") as source, open(f"{top}/copy", "wb") as target:
        return os.copy_file_range(source.fileno(), target.fileno(), 5, 2, 3), os.stat(f"{top}/copy")


def seeks_to_the_end_that_another_moved(top: str) -> Any:
    with open(f"{top}/file", "rb") as reader, open(f"{top}/file", "ab") as writer:
        before = reader.seek(0, os.SEEK_END)
        writer.write(b"more")
        writer.flush()
        return before, reader.seek(0, os.SEEK_END), reader.read()


def text_busy(top: str) -> Any:
    shutil.copy("/bin/sleep", f"{top}/sleep")
    started, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.set_inheritable(tell, False)
        os.execv(f"{top}/sleep", ["sleep", "100"])
    os.close(tell)
    os.read(started, 1)  # closed by exec
    os.close(started)
    try:
        return outcome(lambda: os.open(f"{top}/sleep", os.O_WRONLY))
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


SCENES = [
    unlinked_while_open, renamed_while_open, directory_removed_while_open, names_relative_to_a_moved_directory,
    append_and_go_back, holes, many_names, deep, copies, seeks_to_the_end_that_another_moved, text_busy,
]  # fmt: skip


@kinds("local", "through", "remote")
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: str(scene.__name__))
def test_scenes(both: Place, scene: Callable[[str], Any]) -> None:
    assert compare(both, scene)[0] == "value"


# --- as another user

USER_TARGETS = [
    "file", "secret", "readonly", "open", "mine", "suid", "loose", "closed", "closed/x", "blind", "blind/x", "sticky/root-s",
    "sticky/mine", "my-sticky/root-s", "dir/below", "yours/new", "group/new", "closed/new", "sticky/new", "link",
    "full/x", "missing",
]  # fmt: skip
USER_CALLS = {
    **{name: UNARY[name] for name in ("stat", "unlink", "rmdir", "mkdir", "mkdir 7777", "mknod file", "symlink", "list",
       "chmod 0", "chmod 7777", "chown", "chown no one", "truncate 0", "utime", "utime now", "access", "write", "chdir")},
    "give to own group": lambda path: looked(os.chown, path, -1, USER),
    "read": lambda path: Path(path).read_text(),
    "no atime": lambda path: os.close(os.open(path, os.O_RDONLY | os.O_NOATIME)),
    "reserve": lambda path: use_and_look(path, lambda file: os.posix_fallocate(file, 0, 100)),
    "copy within": lambda path: use_and_look(path, lambda file: os.copy_file_range(file, file, 3, 0, 5)),
    "create": lambda path: use(path, os.O_CREAT | os.O_RDWR),
    "open to truncate": lambda path: use(path, os.O_TRUNC | os.O_WRONLY),
    "rename away": lambda path: os.rename(path, f"{path}-renamed"),
    "rename onto": lambda path: os.rename(f"{path.partition('/top/')[0]}/top/mine", path),
    "hard link": lambda path: os.link(path, f"{path}-linked"),
    "run": lambda path: os.execv(path, ["it"]),
}  # fmt: skip


# Where two things are wrong at once, permissions, which only the server judges, come last
EITHER = {
    ("rmdir", "sticky/root-s"), ("rmdir", "blind/x"), ("rmdir", "full/x"), ("no atime", "closed"),
    ("no atime", "blind"), ("no atime", "secret"), ("rename onto", "closed/x"), ("rename onto", "closed/new"),
}  # fmt: skip


def as_user(name: str, top: str, said: Path) -> Any:
    """All the targets' outcomes, from a child with the user's rights."""

    def body() -> None:
        pipe = os.open(said, os.O_WRONLY)
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
        call: Callable[[str], Any] = USER_CALLS[name]
        got = {target: outcome(functools.partial(call, f"{top}/{target}")) for target in USER_TARGETS}
        for target in USER_TARGETS:
            if (name, target) in EITHER:
                got[target] = (got[target][0], "either")
        os.write(pipe, json.dumps(got, default=str).encode())

    said.write_text("")
    assert ended(forked(body)) == 0
    return json.loads(said.read_text())


@pytest.mark.parametrize("name", USER_CALLS)
def test_as_another_user(users: Place, name: str, tmp_path: Path) -> None:
    populate(users.plain / "top")
    populate(users.back / "top")
    try:
        plain = as_user(name, f"{users.plain}/top", tmp_path / "said")
        on_mount = as_user(name, f"{users.mount}/top", tmp_path / "said")
        assert on_mount == plain
        assert snapshot(users.back / "top") == snapshot(users.plain / "top")
    finally:
        shutil.rmtree(users.plain / "top")
        shutil.rmtree(users.back / "top")


def test_two_users_see_one_tree(users: Place) -> None:
    """What one has open or as working directory works on when the process becomes another."""
    populate(users.back / "top")
    top = users.mount / "top"
    try:
        (top / "secret").read_text()  # root has looked it up

        def body() -> None:
            os.chdir(top / "yours")  # as root
            with open(top / "secret", "r+b") as file:
                os.setgroups([])
                os.setresgid(USER, USER, USER)
                os.setresuid(USER, USER, USER)
                file.write(b"opened before")
            Path("by-user").write_text("relative to what root has found")
            assert os.stat("by-user").st_uid == USER
            with pytest.raises(PermissionError):
                (top / "secret").read_text()
            os.rename("by-user", "../mine")

        assert ended(forked(body)) == 0
        assert (top / "secret").read_text() == "opened before"
        assert (top / "mine").read_text() == "relative to what root has found"
        assert (users.back / "top/mine").stat().st_uid == USER
    finally:
        shutil.rmtree(users.back / "top")
