"""What must be exact whatever happens to names meanwhile; each locally and through a server."""

from __future__ import annotations

import ast
import contextlib
import errno
import fcntl
import os
import random
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from omfs.support import find, local, refused, remote
from omtools.linux.files import Fallocate
from omtools.omfs.descriptors import __file__ as omfs_code
from omtools.omfs.exports import only
from omtools.omfs.local import LocalFiles
from omtools.omfs.operations import (
    MAX_TRANSFER,
    NOBODY,
    ROOT,
    UTIME_NOW,
    Caller,
    Changes,
    DirectoryEntry,
    Files,
)


@pytest.fixture(params=["local", "remote"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    with contextlib.ExitStack() as stack:
        (tmp_path / "top").mkdir()
        (tmp_path / "outside").write_text("secret")
        top = tmp_path / "top"
        served: contextlib.AbstractContextManager[Files] = remote(top)
        yield stack.enter_context(local(top) if request.param == "local" else served)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return tmp_path / "top"


def test_no_name_leads_up(files: Files) -> None:
    inside = files.mkdir(NOBODY, ROOT, b"a", 0o755).node
    for node in (ROOT, inside):
        for name in (b"..", b".", b"../outside", b"a/..", b"/etc", b"x\0y"):
            for call in (files.lookup, files.unlink, files.rmdir):
                refused(errno.EINVAL, call, NOBODY, node, name)
            refused(errno.EINVAL, files.create, NOBODY, node, name, os.O_RDWR, 0o644)
            refused(errno.EINVAL, files.mkdir, NOBODY, node, name, 0o755)
            refused(errno.EINVAL, files.rename, NOBODY, ROOT, b"a", node, name)
            refused(errno.EINVAL, files.symlink, NOBODY, node, name, b"x")
        refused(errno.ENOENT, files.lookup, NOBODY, node, b"")


def test_no_link_is_followed(files: Files, top: Path) -> None:
    (top / "up").symlink_to("..")
    (top / "file").symlink_to("../outside")
    up, file = (files.lookup(NOBODY, ROOT, name) for name in (b"up", b"file"))
    assert stat.S_ISLNK(up.attributes.mode)
    refused(errno.ENOTDIR, files.lookup, NOBODY, up.node, b"outside")
    refused(errno.ENOTDIR, files.opendir, NOBODY, up.node)
    refused(errno.ENOTDIR, files.create, NOBODY, up.node, b"new", os.O_RDWR, 0o644)
    refused(errno.ELOOP, files.open, NOBODY, file.node, os.O_RDONLY)
    refused(errno.ELOOP, files.create, NOBODY, ROOT, b"file", os.O_RDWR, 0o644)
    refused(errno.EOPNOTSUPP, files.setattr, NOBODY, file.node, Changes(mode=0o777))
    refused(errno.EINVAL, files.setattr, NOBODY, file.node, Changes(size=0))
    outside = (top.parent / "outside").stat()
    files.setattr(NOBODY, file.node, Changes(uid=os.getuid(), mtime_ns=1))
    files.link(NOBODY, file.node, ROOT, b"other")
    assert os.readlink(top / "other") == "../outside"
    assert (top.parent / "outside").stat() == outside


def test_a_directory_that_turns_into_a_link_leads_nowhere(files: Files, top: Path) -> None:
    """One swaps a directory for a symbolic link without end, another goes through it."""
    (top.parent / "elsewhere").mkdir()
    (top.parent / "elsewhere" / "f").write_text("secret")
    (top / "real").mkdir()
    (top / "real" / "f").write_text("mine")
    (top / "link").symlink_to("../elsewhere")
    os.rename(top / "real", top / "door")
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for one, other in (("door", "real"), ("link", "door")):
                os.rename(top / one, top / other)
            over.wait(0.0005)  # each for a while, or one of them would hardly ever be seen
            for one, other in (("door", "link"), ("real", "door")):
                os.rename(top / one, top / other)
            over.wait(0.0005)

    thread = threading.Thread(target=swap)
    thread.start()
    seen = {"mine": 0, "refused": 0}
    try:
        while sum(seen.values()) < 1500 or not all(seen.values()):
            try:
                made = find(files, b"door/f")
                file = files.open(NOBODY, made.node, os.O_RDONLY)
                assert files.read(file, 0, 10) == b"mine"
                files.release(file)
                files.forget([(made.node, 1)])
                seen["mine"] += 1
            except OSError as error:
                assert error.errno in {errno.ENOENT, errno.ENOTDIR}, error  # noqa: PT017 - one of several
                seen["refused"] += 1
    finally:
        over.set()
        thread.join()
    assert (top.parent / "elsewhere" / "f").read_text() == "secret"


def test_what_is_unlinked_lives_as_long_as_it_is_open(files: Files, top: Path) -> None:
    (node, _attributes), file = files.create(NOBODY, ROOT, b"f", os.O_RDWR, 0o600)
    files.write(file, 0, b"content")
    files.unlink(NOBODY, ROOT, b"f")
    refused(errno.ENOENT, files.lookup, NOBODY, ROOT, b"f")
    assert files.getattr(NOBODY, node).nlink == 0
    assert files.setattr(NOBODY, node, Changes(size=3)).size == 3
    assert files.read(file, 0, 10) == b"con"
    again = files.open(NOBODY, node, os.O_RDONLY)  # through the node, as /proc/PID/fd does it
    assert files.read(again, 0, 10) == b"con"
    (top / "f").write_text("another")
    assert files.lookup(NOBODY, ROOT, b"f").node != node


def test_a_file_that_another_is_renamed_over_lives_on_too(files: Files, top: Path) -> None:
    old = files.create(NOBODY, ROOT, b"old", os.O_RDWR, 0o600)
    files.write(old.file, 0, b"old")
    new = files.create(NOBODY, ROOT, b"new", os.O_RDWR, 0o600)
    files.write(new.file, 0, b"new")
    files.rename(NOBODY, ROOT, b"new", ROOT, b"old")
    assert files.read(old.file, 0, 3) == b"old"
    assert files.getattr(NOBODY, old.entry.node).nlink == 0
    assert files.lookup(NOBODY, ROOT, b"old").node == new.entry.node
    assert (top / "old").read_bytes() == b"new"


def test_a_directory_stays_itself_wherever_it_moves(files: Files, top: Path) -> None:
    here = files.mkdir(NOBODY, ROOT, b"a", 0o755).node
    files.mkdir(NOBODY, ROOT, b"b", 0o755)
    os.rename(top / "a", top / "b" / "moved")
    files.mkdir(NOBODY, here, b"inside", 0o755)
    assert (top / "b" / "moved" / "inside").is_dir()
    files.rmdir(NOBODY, here, b"inside")
    os.rmdir(top / "b" / "moved")
    refused(errno.ENOENT, files.mkdir, NOBODY, here, b"late", 0o755)
    assert files.getattr(NOBODY, here).nlink == 0


def test_one_inode_is_one_node(files: Files) -> None:
    made = files.create(NOBODY, ROOT, b"f", os.O_RDWR, 0o600).entry
    assert files.link(NOBODY, made.node, ROOT, b"g").node == made.node
    assert files.lookup(NOBODY, ROOT, b"g").node == made.node
    files.forget([(made.node, 2)])
    assert files.getattr(NOBODY, made.node).nlink == 2
    files.forget([(made.node, 1), (12345, 1), (ROOT, 99)])
    refused(errno.ESTALE, files.getattr, NOBODY, made.node)
    assert files.getattr(NOBODY, ROOT).nlink >= 2


@pytest.mark.parametrize("name", [b"\xff\xfe", b"new\nline", b" ", b"\\", b"...", b"n" * 255, "ñ".encode()])
def test_a_name_may_be_any_bytes(files: Files, top: Path, name: bytes) -> None:
    files.mkdir(NOBODY, ROOT, name, 0o755)
    file = files.opendir(NOBODY, ROOT)
    assert name in {entry.name for entry in files.readdir(file, 0)}
    files.releasedir(file)
    assert os.listdir(os.fsencode(top)) == [name]
    refused(errno.ENAMETOOLONG, files.mkdir, NOBODY, ROOT, b"n" * 256, 0o755)


def test_a_text_with_a_zero_byte_is_invalid(files: Files) -> None:
    refused(errno.EINVAL, files.symlink, NOBODY, ROOT, b"s", b"a\0b")
    refused(errno.EINVAL, files.setxattr, NOBODY, ROOT, b"user.\0", b"")
    refused(errno.EINVAL, files.getxattr, NOBODY, ROOT, b"user.\0")
    refused(errno.EINVAL, files.mknod, NOBODY, ROOT, b"n", stat.S_IFREG, 1 << 63)


def test_modes_lose_what_the_umask_says(files: Files, top: Path) -> None:
    caller = Caller(0, 0o027)
    files.mkdir(caller, ROOT, b"d", 0o777)
    files.create(caller, ROOT, b"f", os.O_RDWR, 0o666)
    files.mknod(caller, ROOT, b"p", stat.S_IFIFO | 0o666, 0)
    files.create(NOBODY, ROOT, b"g", os.O_RDWR, 0o666)
    assert [stat.S_IMODE((top / name).stat().st_mode) for name in "dfpg"] == [0o750, 0o640, 0o640, 0o666]
    before = os.umask(0o022)
    os.umask(before)
    assert before != 0o027


def test_times_to_the_nanosecond(files: Files, top: Path) -> None:
    node = files.create(NOBODY, ROOT, b"f", os.O_RDWR, 0o600).entry.node
    told = files.setattr(NOBODY, node, Changes(atime_ns=1_000_000_001, mtime_ns=-1))
    assert (told.atime_ns, told.mtime_ns) == (1_000_000_001, -1)
    assert (top / "f").stat().st_mtime_ns == -1
    told = files.setattr(NOBODY, node, Changes(mtime_ns=UTIME_NOW))
    assert told.atime_ns == 1_000_000_001
    assert told.mtime_ns > 1_000_000_000_000_000_000


def test_a_sparse_file_of_five_gigabytes(files: Files) -> None:
    (node, _a), file = files.create(NOBODY, ROOT, b"f", os.O_RDWR, 0o600)
    end, block = 5 << 30, 1 << 16
    files.write(file, end - block, b"x" * block)
    assert files.getattr(NOBODY, node).size == end
    assert files.getattr(NOBODY, node).blocks * 512 < 1 << 20
    assert files.lseek(file, 0, os.SEEK_DATA) == end - block
    assert files.lseek(file, end - block, os.SEEK_HOLE) == end
    refused(errno.ENXIO, files.lseek, file, end, os.SEEK_DATA)
    refused(errno.EINVAL, files.lseek, file, 0, os.SEEK_SET)
    assert files.read(file, 4 << 30, 10) == bytes(10)


def test_room_is_reserved_and_given_back(files: Files) -> None:
    (node, _a), file = files.create(NOBODY, ROOT, b"f", os.O_RDWR, 0o600)
    files.fallocate(file, Fallocate.KEEP_SIZE, 0, 1 << 20)
    told = files.getattr(NOBODY, node)
    assert told.size == 0
    assert told.blocks * 512 >= 1 << 20
    files.write(file, 0, b"x" * 65536)
    files.fallocate(file, Fallocate.KEEP_SIZE | Fallocate.PUNCH_HOLE, 0, 32768)
    assert files.read(file, 0, 65536) == bytes(32768) + b"x" * 32768
    assert files.lseek(file, 0, os.SEEK_DATA) == 32768
    refused(errno.EINVAL, files.fallocate, file, 0, 0, 0)


def test_a_transfer_is_cut_at_its_limit(files: Files) -> None:
    file = files.create(NOBODY, ROOT, b"f", os.O_RDWR, 0o600).file
    data = os.urandom(2 * MAX_TRANSFER)
    assert files.write(file, 0, data) == MAX_TRANSFER
    assert files.write(file, MAX_TRANSFER, memoryview(data)[MAX_TRANSFER:]) == MAX_TRANSFER
    assert files.read(file, 0, 2 * MAX_TRANSFER) == data[:MAX_TRANSFER]
    buffer = bytearray(2 * MAX_TRANSFER)
    assert files.read_into(file, MAX_TRANSFER, memoryview(buffer)) == MAX_TRANSFER
    assert buffer[:MAX_TRANSFER] == data[MAX_TRANSFER:]
    assert files.read_into(file, 2 * MAX_TRANSFER, memoryview(buffer)) == 0


def test_append_mode_follows_the_flag(files: Files) -> None:
    file = files.create(NOBODY, ROOT, b"f", os.O_RDWR | os.O_APPEND, 0o600).file
    files.write(file, 0, b"one")
    files.write(file, 0, b"two")
    files.write(file, 0, b"X", append=False)
    files.write(file, 0, b"end", append=True)
    assert files.read(file, 0, 100) == b"Xnetwoend"


def test_a_large_directory_is_listed_whole_while_it_changes(files: Files, top: Path) -> None:
    for number in range(2000):
        (top / f"file{number}").touch()
    file = files.opendir(NOBODY, ROOT)
    names: list[bytes] = []
    cookie = 0
    while found := files.readdir(file, cookie, 100):
        names += [entry.name for entry in found]
        cookie = found[-1].cookie
        if len(names) < 1000:
            (top / os.fsdecode(names[-1])).unlink(missing_ok=True)
    files.releasedir(file)
    assert len(names) == len(set(names)) >= 2000


def test_a_listing_goes_on_from_any_cookie(files: Files, top: Path) -> None:
    for number in range(200):
        (top / f"file{number}").touch()
    file = files.opendir(NOBODY, ROOT)
    whole: list[DirectoryEntry] = []
    cookie = 0
    while found := files.readdir(file, cookie, 16):
        whole += found
        cookie = found[-1].cookie
    middle = whole[100]
    rest = files.readdir(file, middle.cookie, 16)
    assert list(rest) == whole[101 : 101 + len(rest)]
    files.releasedir(file)


FULL = """
import os, sys
from omtools.linux.namespaces import Clone, IdRange, mount, unshare, write_id_maps
uid, gid = os.getuid(), os.getgid()
unshare(Clone.NEWUSER | Clone.NEWNS if uid else Clone.NEWNS)
if uid:
    write_id_maps([IdRange(0, uid)], [IdRange(0, gid)])
mount("none", "/", None, 0x44000)  # MS_REC | MS_PRIVATE
mount("none", sys.argv[1], "tmpfs", 0, "size=1m")
sys.path.insert(0, sys.argv[2])
from omfs.support import remote
from omtools.omfs.operations import NOBODY, ROOT
with remote(sys.argv[1]) as files:
    made = files.create(NOBODY, ROOT, b"f", os.O_RDWR, 0o600)
    written, offset = [], 0
    try:
        while True:
            offset += files.write(made.file, offset, bytes(300_000))
    except OSError as error:
        print(error.errno, offset, files.getattr(NOBODY, made.entry.node).size)
    print(files.statfs(NOBODY, ROOT).bavail)
    files.unlink(NOBODY, ROOT, b"f")
    files.release(made.file)
    files.forget([(made.entry.node, 1)])
    print(files.statfs(NOBODY, ROOT).bavail > 200)
"""


def test_a_full_disk_is_told_and_what_was_written_is_there(tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), tests],
        capture_output=True, text=True, timeout=60, check=False, cwd=Path(tests).parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    number, offset, size, left, freed = done.stdout.split()
    assert int(number) == errno.ENOSPC
    assert int(offset) == int(size) == 1 << 20
    assert (left, freed) == ("0", "True")


def test_more_nodes_than_descriptors(tmp_path: Path) -> None:
    files = LocalFiles(only(str(tmp_path)), node_descriptors=16)
    try:
        above = files.mkdir(NOBODY, ROOT, b"d", 0o755).node
        nodes = {}
        for number in range(500):
            made = files.create(NOBODY, above, b"f%d" % number, os.O_RDWR, 0o600)
            files.write(made.file, 0, b"%d" % number)
            files.release(made.file)
            nodes[number] = made.entry
        assert len(os.listdir("/proc/self/fd")) < 200
        files.rename(NOBODY, ROOT, b"d", ROOT, b"e")
        files.unlink(NOBODY, above, b"f7")  # known, and its descriptor given up long ago
        files.rename(NOBODY, above, b"f8", ROOT, b"moved")
        for number, entry in nodes.items():
            assert files.getattr(NOBODY, entry.node).ino == entry.attributes.ino
            file = files.open(NOBODY, entry.node, os.O_RDONLY)
            assert files.read(file, 0, 10) == b"%d" % number
            files.release(file)
    finally:
        files.close()


def test_a_node_given_up_is_not_taken_for_another(tmp_path: Path) -> None:
    files = LocalFiles(only(str(tmp_path)), node_descriptors=16)
    try:
        lost = files.create(NOBODY, ROOT, b"lost", os.O_RDWR, 0o600)
        files.release(lost.file)
        for number in range(100):
            files.mkdir(NOBODY, ROOT, b"d%d" % number, 0o755)
        (tmp_path / "lost").unlink()
        for number in range(20):  # one of them is likely to get the inode number of the lost one
            (tmp_path / f"other{number}").write_text("other")
        (tmp_path / "lost").write_text("other")
        refused(errno.ESTALE, files.getattr, NOBODY, lost.entry.node)
        assert files.lookup(NOBODY, ROOT, b"lost").node != lost.entry.node
    finally:
        files.close()


def test_threads_and_few_descriptors(tmp_path: Path) -> None:
    """Descriptors are given up and taken again all the time, and nobody ever reads another file."""
    for number in range(120):
        (tmp_path / f"f{number}").write_text(f"{number}")
    files = LocalFiles(only(str(tmp_path)), node_descriptors=16)
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        draw = random.Random(seed)
        known: list[tuple[int, int]] = []
        try:
            for _turn in range(400):
                number = draw.randrange(120)
                known.append((number, files.lookup(NOBODY, ROOT, b"f%d" % number).node))
                number, node = draw.choice(known)
                file = files.open(NOBODY, node, os.O_RDONLY)
                assert files.read(file, 0, 10) == b"%d" % number
                assert files.getattr(NOBODY, node).size == len(str(number))
                files.release(file)
                if len(known) > 30:
                    files.forget([(known.pop(draw.randrange(30))[1], 1)])
            files.forget([(node, 1) for _number, node in known])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert failed == []
    assert len(files._nodes) == 1
    assert files._nodes.held == 1
    files.close()


def test_no_number_is_taken_from_a_descriptor_that_nobody_keeps() -> None:
    """`f().number` lets go of the descriptor before its number is used, and another thread may close it."""
    found = [
        f"{path.name}: {ast.unparse(node)}"
        for path in Path(omfs_code).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr == "number"
        and any(isinstance(inner, ast.Call) for inner in ast.walk(node.value))
    ]
    assert found == []


def test_clients_of_one_process_share_its_descriptors(tmp_path: Path) -> None:
    import resource

    names = [b"d%d" % number for number in range(300)]
    for name in names:
        (tmp_path / os.fsdecode(name)).mkdir()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with local(tmp_path) as many, local(tmp_path) as few:
        for name in names:
            many.lookup(NOBODY, ROOT, name)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), before[1]))
        try:
            for name in names[:50]:
                few.lookup(NOBODY, ROOT, name)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
        assert many.lookup(NOBODY, ROOT, names[0]).node


MANY = """
import os, sys
sys.path.insert(0, sys.argv[2])
from omfs.support import remote
from omtools.omfs.operations import NOBODY, ROOT
with remote(sys.argv[1]) as files:
    opened = []
    count = int(sys.argv[3])
    for number in range(count):
        made = files.create(NOBODY, ROOT, b"f%d" % number, os.O_RDWR, 0o600)
        opened.append(made)
    for number in (0, count // 2, count - 1):
        files.write(opened[number].file, 0, b"%d" % number)
        assert files.read(opened[number].file, 0, 10) == b"%d" % number
        assert files.getattr(NOBODY, opened[number].entry.node).size
    print(len(opened))
"""


def test_ten_thousand_open_files(tmp_path: Path) -> None:
    import resource

    # Where fewer may be open, as many as leave room for the rest: a quarter is the nodes'.
    count = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] * 2 // 3)
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        ["sh", "-c", 'ulimit -S -n 1024; exec "$0" "$@"', sys.executable, "-c", MANY, str(tmp_path), tests, str(count)],
        capture_output=True, text=True, timeout=100, check=False, cwd=Path(tests).parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{count}\n"


def test_the_descriptor_of_a_local_file_can_be_handed_on(tmp_path: Path) -> None:
    with local(tmp_path) as files:
        file = files.create(NOBODY, ROOT, b"f", os.O_RDWR | os.O_APPEND, 0o600).file
        number = files.descriptor(file)
        assert number is not None
        os.write(number, b"direct")
        assert fcntl.fcntl(number, fcntl.F_GETFL) & os.O_APPEND
        assert files.read(file, 0, 10) == b"direct"
    with remote(tmp_path) as files:
        assert files.descriptor(files.open(NOBODY, find(files, "f").node, os.O_RDONLY)) is None
