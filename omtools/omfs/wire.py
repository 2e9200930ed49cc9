"""The protocol of oMFS: what a frame looks like. Pure: bytes in, values out.

A frame is a header (length of the body, kind, serial) and a body. The client asks, the server answers with
`RESULT` or `ERROR` and the serial of the question; on one connection there is one question at a time. Only
while an answer waits for a lock, the client may send `CANCEL` and `PING`. `FORGET` has no answer, nor has a
`RELEASE` of serial 0; they may come in front of a question.

The frequent kinds are packed by hand, the rare ones are msgpack. Whatever is not as it should be is a
`BadFrame`. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import msgspec

from omtools.omfs.operations import (
    MAX_TRANSFER,
    NAME_MAX,
    Attributes,
    Buffer,
    Changes,
    Created,
    DirectoryEntry,
    Entry,
    EntryPlus,
    FileSystem,
    Lock,
)

VERSION = 1
MAGIC = "omfs"
HEADER = struct.Struct("<IHxxI")
UNANSWERED = 0
"""The serial of what is only told."""
MAX_BODY = MAX_TRANSFER + (1 << 16)
"""No body is longer, in bytes."""


class BadFrame(Exception):
    """What arrived is not of this protocol."""


class Kind(IntEnum):
    """Kinds of frames: questions, and from 100 on what belongs to the conversation itself."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    MKNOD = 6
    MKDIR = 7
    SYMLINK = 8
    LINK = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    ACCESS = 13
    STATFS = 14
    SETXATTR = 15
    GETXATTR = 16
    LISTXATTR = 17
    REMOVEXATTR = 18
    OPEN = 19
    CREATE = 20
    OPENDIR = 21
    READ = 22
    WRITE = 23
    FLUSH = 24
    RELEASE = 25
    FSYNC = 26
    FALLOCATE = 27
    LSEEK = 28
    COPY_FILE_RANGE = 29
    READDIR = 30
    READDIRPLUS = 31
    RELEASEDIR = 32
    FSYNCDIR = 33
    GETLK = 34
    SETLK = 35
    FLOCK = 36
    TMPFILE = 37

    HELLO = 100   # who asks, and for which session
    RESULT = 101  # the answer
    ERROR = 102   # errno
    CANCEL = 103  # break off the question of that serial
    PING = 104    # are you there?
    PONG = 105    # yes


_KINDS = {int(kind): kind for kind in Kind}  # quicker than Kind(number)


def unpack_header(raw: Buffer) -> tuple[Kind, int, int]:
    """Kind, serial, length of the body."""
    length, number, serial = HEADER.unpack(raw)
    kind = _KINDS.get(number)
    if kind is None or length > MAX_BODY:
        raise BadFrame(f"kind {number}, {length} bytes")
    return kind, serial, length


class Hello(NamedTuple):
    """The first question of a connection.

    Attributes:
        magic: `MAGIC`.
        version: `VERSION`; another one is answered with EPROTO.
        session: what joins a client's connections, 16 random bytes.
        begin: make the session; else it must be there (answer: ESTALE).
    """

    magic: str
    version: int
    session: bytes
    begin: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """How a value is laid out in a body."""

    pack: Callable[[Any], bytes]
    unpack: Callable[[memoryview], Any]


def _guarded(unpack: Callable[[memoryview], Any]) -> Callable[[memoryview], Any]:
    def guarded(body: memoryview) -> Any:
        try:
            return unpack(body)
        except (struct.error, ValueError, IndexError, msgspec.MsgspecError) as error:
            raise BadFrame(str(error)) from error

    return guarded


def _fixed(layout: str) -> Shape:
    """A tuple of numbers."""
    form = struct.Struct(layout)
    return Shape(lambda values: form.pack(*values), _guarded(form.unpack))


def _number(layout: str) -> Shape:
    """One number."""
    form = struct.Struct(layout)
    return Shape(form.pack, _guarded(lambda body: form.unpack(body)[0]))


def _with_tail(layout: str) -> Shape:
    """A tuple of numbers and bytes at the end."""
    form = struct.Struct(layout)
    size = form.size
    return Shape(
        lambda values: form.pack(*values[:-1]) + values[-1],
        _guarded(lambda body: (*form.unpack_from(body), bytes(body[size:]))),
    )


def _packed(kind: Any) -> Shape:
    """Anything, as msgpack; what arrives must be of that type."""
    return Shape(msgspec.msgpack.encode, _guarded(msgspec.msgpack.Decoder(kind).decode))


_ATTRIBUTES = struct.Struct("<IQQQIIQqIQqqq")
_ENTRY = struct.Struct("<QIQQQIIQqIQqqq")
_CREATED = struct.Struct("<QQIQQQIIQqIQqqq")
_LISTED = struct.Struct("<QqBB")  # inode, cookie, kind, length of the name, which follows
_READ = struct.Struct("<QqI")
_WRITE = struct.Struct("<QqB")
_FORGET = struct.Struct("<QQ")
_APPEND = (None, False, True)
ERRNO = _number("<i")
COUNT = _number("<I")


def _empty(body: memoryview) -> None:
    if len(body):
        raise ValueError("an answer that should be empty is not")


def _unpack_entry(body: memoryview) -> Entry:
    node, *attributes = _ENTRY.unpack(body)
    return Entry(node, Attributes._make(attributes))


def _unpack_created(body: memoryview) -> Created:
    file, node, *attributes = _CREATED.unpack(body)
    return Created(Entry(node, Attributes._make(attributes)), file)


_ATTRIBUTES_SHAPE = Shape(
    lambda value: _ATTRIBUTES.pack(*value), _guarded(lambda body: Attributes._make(_ATTRIBUTES.unpack(body)))
)
_ENTRY_SHAPE = Shape(lambda entry: _ENTRY.pack(entry.node, *entry.attributes), _guarded(_unpack_entry))
_CREATED_SHAPE = Shape(
    lambda made: _CREATED.pack(made.file, made.entry.node, *made.entry.attributes), _guarded(_unpack_created)
)
_NOTHING = Shape(lambda _value: b"", _guarded(_empty))
_BYTES = Shape(bytes, bytes)


def _pack_listed(entry: DirectoryEntry) -> bytes:
    return _LISTED.pack(entry.ino, entry.cookie, entry.kind, len(entry.name)) + entry.name


def _unpack_listed(body: memoryview, at: int) -> tuple[DirectoryEntry, int]:
    ino, cookie, kind, length = _LISTED.unpack_from(body, at)
    start = at + _LISTED.size
    name = bytes(body[start : start + length])
    if len(name) < length:
        raise ValueError("a name is cut off")
    return DirectoryEntry(name, ino, kind, cookie), start + length


def _unpack_listing(body: memoryview) -> list[DirectoryEntry]:
    found, at = [], 0
    while at < len(body):
        entry, at = _unpack_listed(body, at)
        found.append(entry)
    return found


def _pack_plus(listing: Sequence[EntryPlus]) -> bytes:
    parts = []
    for plus in listing:
        parts.append(_pack_listed(plus.listed))
        entry = plus.entry
        # node 0 is none
        parts.append(_ENTRY.pack(entry.node, *entry.attributes) if entry else bytes(_ENTRY.size))
    return b"".join(parts)


def _unpack_plus(body: memoryview) -> list[EntryPlus]:
    found, at = [], 0
    while at < len(body):
        listed, at = _unpack_listed(body, at)
        entry = _unpack_entry(body[at : at + _ENTRY.size])
        at += _ENTRY.size
        found.append(EntryPlus(listed, entry if entry.node else None))
    return found


LISTED_MAX = _LISTED.size + NAME_MAX + _ENTRY.size
"""Bytes that one entry of a listing takes at most."""


def pack_read(file: int, offset: int, size: int) -> bytes:
    """The body of a READ."""
    return _READ.pack(file, offset, size)


def pack_write(file: int, offset: int, append: bool | None) -> bytes:
    """The body of a WRITE but for the data, which follow."""
    return _WRITE.pack(file, offset, _APPEND.index(append))


WRITE_HEAD = _WRITE.size
"""Bytes of a WRITE's body in front of the data."""


def _unpack_write_head(body: memoryview) -> tuple[int, int, bool | None]:
    file, offset, append = _WRITE.unpack_from(body)
    return file, offset, _APPEND[append]


unpack_write_head = _guarded(_unpack_write_head)
"""Of a WRITE's body all but the data: file, offset, append."""


def _unpack_write(body: memoryview) -> tuple[int, int, memoryview, bool | None]:
    file, offset, append = _unpack_write_head(body)
    return file, offset, body[WRITE_HEAD:], append


REQUESTS: dict[Kind, Shape] = {
    Kind.LOOKUP: _with_tail("<Q"),               # parent, name
    Kind.FORGET: Shape(
        lambda batch: b"".join([_FORGET.pack(*pair) for pair in batch]),
        _guarded(lambda body: list(_FORGET.iter_unpack(body))),
    ),
    Kind.GETATTR: _fixed("<QQ"),                 # node, file or 0
    Kind.SETATTR: _packed(tuple[int, Changes, int | None]),
    Kind.READLINK: _fixed("<Q"),
    Kind.MKNOD: _packed(tuple[int, bytes, int, int, int]),      # parent, name, mode, rdev, umask
    Kind.MKDIR: _with_tail("<QII"),              # parent, mode, umask, name
    Kind.SYMLINK: _packed(tuple[int, bytes, bytes, int]),       # parent, name, target, umask
    Kind.LINK: _packed(tuple[int, int, bytes]),
    Kind.UNLINK: _with_tail("<Q"),
    Kind.RMDIR: _with_tail("<Q"),
    Kind.RENAME: _packed(tuple[int, bytes, int, bytes, int]),
    Kind.ACCESS: _fixed("<QI"),
    Kind.STATFS: _fixed("<Q"),
    Kind.SETXATTR: _packed(tuple[int, bytes, bytes, int]),
    Kind.GETXATTR: _with_tail("<Q"),
    Kind.LISTXATTR: _fixed("<Q"),
    Kind.REMOVEXATTR: _with_tail("<Q"),
    Kind.OPEN: _fixed("<QI"),                    # node, flags
    Kind.CREATE: _with_tail("<QIII"),            # parent, flags, mode, umask, name
    Kind.TMPFILE: _fixed("<QIII"),               # directory, flags, mode, umask
    Kind.OPENDIR: _fixed("<Q"),
    Kind.READ: Shape(lambda values: _READ.pack(*values), _guarded(_READ.unpack)),
    Kind.WRITE: Shape(
        lambda values: pack_write(values[0], values[1], values[3]) + bytes(values[2]), _guarded(_unpack_write)
    ),
    Kind.FLUSH: _fixed("<QQ"),                   # file, owner
    Kind.RELEASE: _fixed("<Q"),
    Kind.FSYNC: _fixed("<Q?"),
    Kind.FALLOCATE: _packed(tuple[int, int, int, int]),
    Kind.LSEEK: _fixed("<Qqi"),
    Kind.COPY_FILE_RANGE: _packed(tuple[int, int, int, int, int]),
    Kind.READDIR: _fixed("<QqI"),                # file, cookie, limit
    Kind.READDIRPLUS: _fixed("<QqI"),
    Kind.RELEASEDIR: _fixed("<Q"),
    Kind.FSYNCDIR: _fixed("<Q?"),
    Kind.GETLK: _packed(tuple[int, int, Lock]),
    Kind.SETLK: _packed(tuple[int, int, Lock, bool]),
    Kind.FLOCK: _packed(tuple[int, int, bool]),
    Kind.HELLO: _packed(Hello),
}  # fmt: skip
"""Bodies of questions: tuples of what stands in `Files`, without the caller; a umask where one is needed."""

ANSWERS: dict[Kind, Shape] = {
    **dict.fromkeys(
        (Kind.LOOKUP, Kind.MKNOD, Kind.MKDIR, Kind.SYMLINK, Kind.LINK), _ENTRY_SHAPE
    ),
    **dict.fromkeys((Kind.GETATTR, Kind.SETATTR), _ATTRIBUTES_SHAPE),
    **dict.fromkeys((Kind.READLINK, Kind.GETXATTR, Kind.READ), _BYTES),
    **dict.fromkeys((Kind.OPEN, Kind.OPENDIR), _number("<Q")),
    **dict.fromkeys((Kind.LSEEK, Kind.COPY_FILE_RANGE), _number("<q")),
    Kind.WRITE: COUNT,
    **dict.fromkeys((Kind.CREATE, Kind.TMPFILE), _CREATED_SHAPE),
    Kind.STATFS: _packed(FileSystem),
    Kind.LISTXATTR: _packed(tuple[bytes, ...]),
    Kind.READDIR: Shape(
        lambda listing: b"".join([_pack_listed(entry) for entry in listing]), _guarded(_unpack_listing)
    ),
    Kind.READDIRPLUS: Shape(_pack_plus, _guarded(_unpack_plus)),
    Kind.GETLK: _packed(Lock | None),
    **dict.fromkeys(
        (
            Kind.UNLINK, Kind.RMDIR, Kind.RENAME, Kind.ACCESS, Kind.SETXATTR, Kind.REMOVEXATTR,
            Kind.FLUSH, Kind.RELEASE, Kind.FSYNC, Kind.FALLOCATE, Kind.RELEASEDIR, Kind.FSYNCDIR,
            Kind.SETLK, Kind.FLOCK, Kind.HELLO,
        ),
        _NOTHING,
    ),
}  # fmt: skip
"""Bodies of RESULTs, by the kind of the question."""
