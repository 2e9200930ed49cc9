"""omtools.linux.fuse.abi, dispatch and negotiate: against the kernel's header, by playbook, and with garbage."""

from __future__ import annotations

import enum
import errno
import os
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from omtools.linux.fuse import abi
from omtools.linux.fuse.abi import Init, Opcode
from omtools.linux.fuse.dispatch import Dispatcher
from omtools.linux.fuse.handler import Cancellation, Directory, Handler, Request
from omtools.linux.fuse.negotiate import agree, init_flags, init_reply

HEADER = Path("/usr/include/linux/fuse.h").read_text()
U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)


def header_numbers(pattern: str) -> dict[str, int]:
    found = {}
    for name, value in re.findall(pattern, HEADER):
        shift = re.fullmatch(r"\(1(?:ULL)? << (\d+)\)", value)
        found[name] = 1 << int(shift[1]) if shift else int(value)
    return found


@pytest.mark.parametrize(
    ("kind", "pattern", "at_least"),
    [
        (Opcode, r"\tFUSE_(\w+)\s*= (\d+),", 45),
        (Init, r"#define FUSE_(\w+)\s+(\(1(?:ULL)? << \d+\))", 30),
        (abi.Fopen, r"#define FOPEN_(\w+)\s+(\(1 << \d+\))", 7),
        (abi.Fattr, r"#define FATTR_(\w+)\s+(\(1 << \d+\))", 12),
    ],
)
def test_numbers_are_the_header_s(kind: type[enum.IntEnum], pattern: str, at_least: int) -> None:
    theirs = header_numbers(pattern)
    common = {one.name: one.value for one in kind if one.name in theirs}
    assert common == {name: theirs[name] for name in common}
    assert len(common) >= at_least


WIDTHS = {"uint64_t": 8, "int64_t": 8, "uint32_t": 4, "int32_t": 4, "uint16_t": 2}


def header_size(name: str) -> int:
    found = re.search(rf"struct {name} {{(.*?)\n}};", HEADER, re.DOTALL)
    assert found, name
    total = 0
    for kind, _field, count in re.findall(r"\t((?:struct )?\w+)\s+(\w+)(?:\[(\d*)\])?;", found[1]):
        width = header_size(kind.split()[1]) if kind.startswith("struct ") else WIDTHS.get(kind, 0)
        total += width * (int(count) if count else 1)
    return total


STRUCTURES = {
    "fuse_in_header": abi.HEADER_IN, "fuse_out_header": abi.HEADER_OUT, "fuse_attr": abi.ATTR,
    "fuse_entry_out": abi.ENTRY_OUT, "fuse_attr_out": abi.ATTR_OUT, "fuse_open_out": abi.OPEN_OUT,
    "fuse_write_out": abi.WRITE_OUT, "fuse_kstatfs": abi.STATFS_OUT, "fuse_getxattr_out": abi.GETXATTR_OUT,
    "fuse_lk_out": abi.LK_OUT, "fuse_lseek_out": abi.LSEEK_OUT, "fuse_init_out": abi.INIT_OUT,
    "fuse_dirent": abi.DIRENT, "fuse_notify_inval_inode_out": abi.NOTIFY_INVAL_INODE_OUT,
    "fuse_notify_inval_entry_out": abi.NOTIFY_INVAL_ENTRY_OUT, "fuse_forget_in": abi.FORGET_IN,
    "fuse_forget_one": abi.FORGET_ONE, "fuse_batch_forget_in": abi.BATCH_FORGET_IN,
    "fuse_interrupt_in": abi.INTERRUPT_IN, "fuse_getattr_in": abi.GETATTR_IN, "fuse_mknod_in": abi.MKNOD_IN,
    "fuse_mkdir_in": abi.MKDIR_IN, "fuse_rename_in": abi.RENAME_IN, "fuse_rename2_in": abi.RENAME2_IN,
    "fuse_link_in": abi.LINK_IN, "fuse_setattr_in": abi.SETATTR_IN, "fuse_open_in": abi.OPEN_IN,
    "fuse_create_in": abi.CREATE_IN, "fuse_read_in": abi.READ_IN, "fuse_write_in": abi.WRITE_IN,
    "fuse_release_in": abi.RELEASE_IN, "fuse_flush_in": abi.FLUSH_IN, "fuse_fsync_in": abi.FSYNC_IN,
    "fuse_setxattr_in": abi.SETXATTR_IN, "fuse_getxattr_in": abi.GETXATTR_IN, "fuse_lk_in": abi.LK_IN,
    "fuse_access_in": abi.ACCESS_IN, "fuse_fallocate_in": abi.FALLOCATE_IN, "fuse_lseek_in": abi.LSEEK_IN,
    "fuse_copy_file_range_in": abi.COPY_FILE_RANGE_IN, "fuse_ioctl_in": abi.IOCTL_IN,
    "fuse_ioctl_out": abi.IOCTL_OUT,
}  # fmt: skip


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_are_as_long_as_the_header_s(name: str) -> None:
    assert STRUCTURES[name].size == header_size(name)


@given(st.integers(0, 0xFFF), st.integers(0, 0xFFFFF))
def test_device_numbers_there_and_back(major: int, minor: int) -> None:
    device = os.makedev(major, minor)
    assert abi.device_from_wire(abi.device_to_wire(device)) == device
    assert abi.device_to_wire(device) < 2**32


NANO = st.integers(-(2**33) * 10**9, 2**33 * 10**9)


@given(NANO, NANO, NANO)
def test_times_before_1970_and_after_2038(atime: int, mtime: int, ctime: int) -> None:
    packed = abi.ATTR.pack(*abi.Attributes(1, 2, 3, atime, mtime, ctime, 4, 5, 6, 7, 0, 8).packed())
    fields = struct.unpack("<3Q3q10I", packed)
    assert [s * 10**9 + n for s, n in zip(fields[3:6], fields[6:9], strict=True)] == [atime, mtime, ctime]
    assert fields[9:] == (4, 5, 6, 7, 0, 8, 0)


def test_attributes_of_a_real_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    found = os.stat(tmp_path / "f")
    attributes = abi.attributes_of(found)
    assert (attributes.ino, attributes.size, attributes.mtime_ns) == (found.st_ino, 5, found.st_mtime_ns)
    assert attributes.mode == found.st_mode


@given(st.lists(st.binary(min_size=1, max_size=255), max_size=40), st.integers(0, 5000), st.booleans())
def test_a_directory_is_filled_while_names_fit(names: list[bytes], size: int, plus: bool) -> None:
    directory = Directory(size, plus, (1, 2, 3, 4))
    entry = abi.Entry(7, 0, abi.Attributes(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 11))
    added = []
    for number, name in enumerate(names, 1):
        fits = directory.fits(name)
        assert directory.add(name, number, 0o040000, number, entry) == fits
        if not fits:
            break
        added.append(name)
    packed = directory.packed()
    assert len(packed) <= size
    seen = []
    while packed:
        if plus:
            assert abi.ENTRY_OUT.unpack_from(packed)[0] == 7
            packed = packed[abi.ENTRY_OUT.size :]
        ino, cookie, length, kind = abi.DIRENT.unpack_from(packed)
        seen.append(packed[24 : 24 + length])
        assert (ino, cookie, kind) == (len(seen), len(seen), 4)
        packed = packed[(24 + length + 7) // 8 * 8 :]
    assert seen == added


class Recorder(Handler):
    """Remembers what was called with what, and answers."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__(self, name)
        if name not in ANSWERS:
            return own

        def call(*arguments: Any) -> Any:
            plain = [bytes(one) if isinstance(one, memoryview) else one for one in arguments]
            self.calls.append((name, *(one for one in plain if not isinstance(one, Request))))
            return ANSWERS[name]

        return call


ENTRY = abi.Entry(9, 1, abi.Attributes(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 4096))
ANSWERS: dict[str, Any] = {
    "lookup": ENTRY, "forget": None, "getattr": ENTRY.attributes, "setattr": ENTRY.attributes,
    "readlink": b"there", "symlink": ENTRY, "mknod": ENTRY, "mkdir": ENTRY, "unlink": None, "rmdir": None,
    "rename": None, "link": ENTRY, "open": abi.Opened(5, 1), "create": (ENTRY, abi.Opened(5)),
    "tmpfile": (ENTRY, abi.Opened(5)), "read": b"data", "write": 3, "statfs": abi.StatFs(*range(8)),
    "flush": None, "release": None, "fsync": None, "opendir": abi.Opened(6), "readdir": None,
    "releasedir": None, "fsyncdir": None, "setxattr": None, "getxattr": b"value",
    "listxattr": [b"user.a", b"user.b"], "removexattr": None, "access": None,
    "getlk": abi.Lock(1, 2, 3, 4), "setlk": None, "fallocate": None, "lseek": 77,
    "copy_file_range": 88, "ioctl": (0, b"xy"), "syncfs": None,
}  # fmt: skip

SETATTR = (abi.Fattr.MODE | abi.Fattr.SIZE, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0o640, 11, 12)
PLAYBOOK: list[tuple[Opcode, bytes, tuple[Any, ...], bytes | int | None]] = [
    (Opcode.LOOKUP, b"name\0", ("lookup", b"name"), 128),
    (Opcode.GETATTR, abi.GETATTR_IN.pack(1, 4), ("getattr", 4), 104),
    (Opcode.GETATTR, abi.GETATTR_IN.pack(0, 4), ("getattr", None), 104),
    (Opcode.SETATTR, abi.SETATTR_IN.pack(*SETATTR), ("setattr", abi.SetattrIn(*SETATTR)), 104),
    (Opcode.READLINK, b"", ("readlink",), b"there"),
    (Opcode.SYMLINK, b"n\0to\0", ("symlink", b"n", b"to"), 128),
    (Opcode.MKNOD, abi.MKNOD_IN.pack(0o644, 0x103, 0o22) + b"n\0", ("mknod", b"n", 0o644, os.makedev(1, 3), 0o22), 128),
    (Opcode.MKDIR, abi.MKDIR_IN.pack(0o755, 0o22) + b"n\0", ("mkdir", b"n", 0o755, 0o22), 128),
    (Opcode.UNLINK, b"n\0", ("unlink", b"n"), None),
    (Opcode.RMDIR, b"n\0", ("rmdir", b"n"), None),
    (Opcode.RENAME, abi.RENAME_IN.pack(3) + b"a\0b\0", ("rename", b"a", 3, b"b", 0), None),
    (Opcode.RENAME2, abi.RENAME2_IN.pack(3, 2) + b"a\0b\0", ("rename", b"a", 3, b"b", 2), None),
    (Opcode.LINK, abi.LINK_IN.pack(3) + b"b\0", ("link", 3, b"b"), 128),
    (Opcode.OPEN, abi.OPEN_IN.pack(2, 1), ("open", 2, True), abi.OPEN_OUT.pack(5, 1, 0)),
    (Opcode.CREATE, abi.CREATE_IN.pack(2, 0o600, 0o22, 0) + b"n\0", ("create", b"n", 2, 0o600, 0o22, False), 144),
    (Opcode.TMPFILE, abi.CREATE_IN.pack(2, 0o600, 0o22, 0) + b"/\0", ("tmpfile", 2, 0o600, 0o22), 144),
    (Opcode.READ, abi.READ_IN.pack(1, 2, 3, 4, 5, 6), ("read", abi.ReadIn(1, 2, 3, 4, 5, 6)), b"data"),
    (Opcode.WRITE, abi.WRITE_IN.pack(1, 2, 3, 4, 5, 6) + b"abc", ("write", abi.WriteIn(1, 2, 3, 4, 5, 6), b"abc"), struct.pack("<II", 3, 0)),
    (Opcode.STATFS, b"", ("statfs",), 80),
    (Opcode.FLUSH, abi.FLUSH_IN.pack(1, 2), ("flush", 1, 2), None),
    (Opcode.RELEASE, abi.RELEASE_IN.pack(1, 2, 3, 4), ("release", abi.ReleaseIn(1, 2, 3, 4)), None),
    (Opcode.FSYNC, abi.FSYNC_IN.pack(1, 1), ("fsync", 1, True), None),
    (Opcode.OPENDIR, abi.OPEN_IN.pack(0, 0), ("opendir", 0), abi.OPEN_OUT.pack(6, 0, 0)),
    (Opcode.RELEASEDIR, abi.RELEASE_IN.pack(6, 0, 0, 0), ("releasedir", 6), None),
    (Opcode.FSYNCDIR, abi.FSYNC_IN.pack(6, 0), ("fsyncdir", 6, False), None),
    (Opcode.SETXATTR, abi.SETXATTR_IN.pack(2, 1, 0) + b"user.a\0\0v", ("setxattr", b"user.a", b"\0v", 1), None),
    (Opcode.GETXATTR, abi.GETXATTR_IN.pack(9) + b"user.a\0", ("getxattr", b"user.a"), b"value"),
    (Opcode.GETXATTR, abi.GETXATTR_IN.pack(0) + b"user.a\0", ("getxattr", b"user.a"), struct.pack("<II", 5, 0)),
    (Opcode.LISTXATTR, abi.GETXATTR_IN.pack(99), ("listxattr",), b"user.a\0user.b\0"),
    (Opcode.REMOVEXATTR, b"user.a\0", ("removexattr", b"user.a"), None),
    (Opcode.ACCESS, abi.ACCESS_IN.pack(4), ("access", 4), None),
    (Opcode.GETLK, abi.LK_IN.pack(1, 2, 3, 4, 5, 6, 0), ("getlk", abi.LockIn(1, 2, 3, 4, 5, 6, 0)), abi.LK_OUT.pack(1, 2, 3, 4)),
    (Opcode.SETLK, abi.LK_IN.pack(1, 2, 3, 4, 5, 6, 1), ("setlk", abi.LockIn(1, 2, 3, 4, 5, 6, 1)), None),
    (Opcode.FALLOCATE, abi.FALLOCATE_IN.pack(1, 2, 3, 4), ("fallocate", abi.FallocateIn(1, 2, 3, 4)), None),
    (Opcode.LSEEK, abi.LSEEK_IN.pack(1, 2, 3), ("lseek", 1, 2, 3), struct.pack("<Q", 77)),
    (Opcode.COPY_FILE_RANGE, abi.COPY_FILE_RANGE_IN.pack(1, 2, 3, 4, 5, 2**40, 0), ("copy_file_range", abi.CopyIn(1, 2, 3, 4, 5, 0x7FFFF000, 0)), struct.pack("<II", 88, 0)),
    (Opcode.COPY_FILE_RANGE_64, abi.COPY_FILE_RANGE_IN.pack(1, 2, 3, 4, 5, 2**40, 0), ("copy_file_range", abi.CopyIn(1, 2, 3, 4, 5, 2**40, 0)), struct.pack("<Q", 88)),
    (Opcode.IOCTL, abi.IOCTL_IN.pack(1, 0, 3, 4, 2, 2) + b"in", ("ioctl", abi.IoctlIn(1, 0, 3, 4, 2, 2), b"in"), bytes(16) + b"xy"),
    (Opcode.SYNCFS, bytes(8), ("syncfs",), None),
]  # fmt: skip


def request(opcode: int, body: bytes, node: int = 1) -> Request:
    return Request(opcode, 2, node, 1000, 1000, 4711, memoryview(body), memoryview(bytearray(64)))


def dispatcher(handler: Handler) -> Dispatcher:
    made = Dispatcher(handler)
    made.agreed(Init.SETXATTR_EXT)
    return made


@pytest.mark.parametrize(("opcode", "body", "call", "reply"), PLAYBOOK, ids=lambda one: getattr(one, "name", None))
def test_each_request_reaches_its_method(opcode: Opcode, body: bytes, call: tuple[Any, ...], reply: bytes | int | None) -> None:
    handler = Recorder()
    got = dispatcher(handler)(request(opcode, body))
    assert handler.calls == [call]
    assert (len(got) if isinstance(reply, int) and got is not None else got) == reply


def test_the_playbook_has_every_request() -> None:
    played = {opcode for opcode, *_more in PLAYBOOK} | {Opcode.READDIR, Opcode.READDIRPLUS}
    assert set(Dispatcher(Handler()).table) == played


def test_a_directory_s_entries_carry_the_handler_s_validity() -> None:
    class Lister(Recorder):
        entry_valid, attributes_valid = 1.5, 2.25

    entry = Dispatcher(Lister())(request(Opcode.LOOKUP, b"x\0"))
    assert entry is not None
    assert struct.unpack_from("<4QII", entry) == (9, 1, 1, 2, 500_000_000, 250_000_000)


def test_values_longer_than_the_caller_s_buffer() -> None:
    with pytest.raises(OSError, match="result") as caught:
        dispatcher(Recorder())(request(Opcode.GETXATTR, abi.GETXATTR_IN.pack(2) + b"user.a\0"))
    assert caught.value.errno == errno.ERANGE


def test_forgetting_one_and_many() -> None:
    handler = Recorder()
    dispatch = dispatcher(handler)
    dispatch.forget(request(Opcode.FORGET, abi.FORGET_IN.pack(3), node=8))
    batch = abi.BATCH_FORGET_IN.pack(2, 0) + abi.FORGET_ONE.pack(5, 1) + abi.FORGET_ONE.pack(6, 2)
    dispatch.forget(request(Opcode.BATCH_FORGET, batch))
    assert handler.calls == [("forget", 8, 3), ("forget", 5, 1), ("forget", 6, 2)]


def test_what_a_handler_does_not_have_is_enosys() -> None:
    for opcode, body, *_more in PLAYBOOK:
        with pytest.raises(OSError, match="not implemented") as caught:
            dispatcher(Handler())(request(opcode, body))
        assert caught.value.errno == errno.ENOSYS
    with pytest.raises(OSError, match="not implemented"):
        dispatcher(Handler()).blocking(request(Opcode.SETLKW, bytes(abi.LK_IN.size)), Cancellation())
    with pytest.raises(OSError, match="not implemented"):
        dispatcher(Handler())(request(4711, b""))


@given(st.sampled_from(sorted(Dispatcher(Handler()).table)), st.binary(max_size=200))
def test_garbage_is_an_exception_or_a_reply(opcode: int, body: bytes) -> None:
    try:
        got = dispatcher(Recorder())(request(opcode, body))
    except (OSError, struct.error, ValueError):
        return
    assert got is None or len(got) >= 0


def test_the_flags_both_sides_have() -> None:
    low = int(Init.ASYNC_READ | Init.INIT_EXT | Init.WRITEBACK_CACHE | Init.MAX_PAGES)
    offered = init_flags(low, abi.INIT_IN_EXT.pack(int(Init.PASSTHROUGH) >> 32) + bytes(44))
    assert offered == Init(low) | Init.PASSTHROUGH
    agreed = agree(offered, Handler.wanted)
    assert agreed == Init.ASYNC_READ | Init.INIT_EXT | Init.PASSTHROUGH | Init.MAX_PAGES
    fields = abi.INIT_OUT.unpack(init_reply(4096, agreed))
    assert fields[:4] == (7, 45, 4096, int(agreed) & 0xFFFFFFFF)
    assert (fields[6], fields[8], fields[10], fields[11]) == (1 << 20, 256, int(Init.PASSTHROUGH) >> 32, 1)
    # a kernel before 5.17 has no second word: what follows is nothing
    assert init_flags(int(Init.ASYNC_READ), b"") == Init.ASYNC_READ
    assert init_flags(int(Init.ASYNC_READ), b"\xff" * 48) == Init.ASYNC_READ
    assert abi.INIT_OUT.unpack(init_reply(0, Init.ASYNC_READ))[6] == 32 * 4096
