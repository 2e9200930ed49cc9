"""omtools.omfs.wire: what is packed is what arrives, and garbage is a BadFrame and nothing else."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, strategies as st

from omtools.omfs.operations import (
    Attributes,
    Changes,
    Created,
    DirectoryEntry,
    Entry,
    EntryPlus,
    FileSystem,
    Lock,
)
from omtools.omfs.wire import (
    ANSWERS,
    HEADER,
    LISTED_MAX,
    MAGIC,
    MAX_BODY,
    REQUESTS,
    VERSION,
    BadFrame,
    Hello,
    Kind,
    unpack_header,
)

u32, u64 = st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)
i64 = st.integers(-(1 << 63), (1 << 63) - 1)
i32 = st.integers(-(1 << 31), (1 << 31) - 1)
names = st.binary(min_size=1, max_size=255)
blobs = st.binary(max_size=300)
attributes = st.builds(
    Attributes, u32, u64, u64, u64, u32, u32, u64, i64, u32, u64, i64, i64, i64
)  # fmt: skip
entries = st.builds(Entry, st.integers(1, (1 << 64) - 1), attributes)
listed = st.builds(DirectoryEntry, names, u64, st.integers(0, 255), i64)
locks = st.builds(Lock, i32, i64, i64, i32)
changes = st.builds(
    Changes,
    *[st.none() | u32] * 3, st.none() | i64, st.none() | i64, st.none() | i64,
)  # fmt: skip

QUESTIONS: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.LOOKUP: st.tuples(u64, names),
    Kind.FORGET: st.lists(st.tuples(u64, u64)),
    Kind.GETATTR: st.tuples(u64, u64),
    Kind.SETATTR: st.tuples(u64, changes, st.none() | u64),
    Kind.READLINK: st.tuples(u64),
    Kind.MKNOD: st.tuples(u64, names, u32, u64, u32),
    Kind.MKDIR: st.tuples(u64, u32, u32, names),
    Kind.SYMLINK: st.tuples(u64, names, blobs, u32),
    Kind.LINK: st.tuples(u64, u64, names),
    Kind.UNLINK: st.tuples(u64, names),
    Kind.RMDIR: st.tuples(u64, names),
    Kind.RENAME: st.tuples(u64, names, u64, names, u32),
    Kind.ACCESS: st.tuples(u64, u32),
    Kind.STATFS: st.tuples(u64),
    Kind.SETXATTR: st.tuples(u64, names, blobs, u32),
    Kind.GETXATTR: st.tuples(u64, names),
    Kind.LISTXATTR: st.tuples(u64),
    Kind.REMOVEXATTR: st.tuples(u64, names),
    Kind.OPEN: st.tuples(u64, u32),
    Kind.CREATE: st.tuples(u64, u32, u32, u32, names),
    Kind.OPENDIR: st.tuples(u64),
    Kind.TMPFILE: st.tuples(u64, u32, u32, u32),
    Kind.READ: st.tuples(u64, i64, u32),
    Kind.WRITE: st.tuples(u64, i64, blobs, st.none() | st.booleans()),
    Kind.FLUSH: st.tuples(u64, u64),
    Kind.RELEASE: st.tuples(u64),
    Kind.FSYNC: st.tuples(u64, st.booleans()),
    Kind.FALLOCATE: st.tuples(u64, u32, i64, i64),
    Kind.LSEEK: st.tuples(u64, i64, i32),
    Kind.COPY_FILE_RANGE: st.tuples(u64, i64, u64, i64, u64),
    Kind.READDIR: st.tuples(u64, i64, u32),
    Kind.READDIRPLUS: st.tuples(u64, i64, u32),
    Kind.RELEASEDIR: st.tuples(u64),
    Kind.FSYNCDIR: st.tuples(u64, st.booleans()),
    Kind.GETLK: st.tuples(u64, u64, locks),
    Kind.SETLK: st.tuples(u64, u64, locks, st.booleans()),
    Kind.FLOCK: st.tuples(u64, i32, st.booleans()),
    Kind.HELLO: st.builds(Hello, st.text(), i32, blobs, st.booleans()),
}

REPLIES: dict[Kind, st.SearchStrategy[Any]] = {
    **dict.fromkeys((Kind.LOOKUP, Kind.MKNOD, Kind.MKDIR, Kind.SYMLINK, Kind.LINK), entries),
    **dict.fromkeys((Kind.GETATTR, Kind.SETATTR), attributes),
    **dict.fromkeys((Kind.READLINK, Kind.GETXATTR, Kind.READ), blobs),
    **dict.fromkeys((Kind.OPEN, Kind.OPENDIR), u64),
    **dict.fromkeys((Kind.LSEEK, Kind.COPY_FILE_RANGE), i64),
    Kind.WRITE: u32,
    **dict.fromkeys((Kind.CREATE, Kind.TMPFILE), st.builds(Created, entries, u64)),
    Kind.STATFS: st.builds(FileSystem, *[u64] * 10),
    Kind.LISTXATTR: st.lists(names).map(tuple),
    Kind.READDIR: st.lists(listed),
    Kind.READDIRPLUS: st.lists(st.builds(EntryPlus, listed, st.none() | entries)),
    Kind.GETLK: st.none() | locks,
}


def test_every_kind_is_here() -> None:
    assert set(QUESTIONS) == set(REQUESTS)
    assert set(REPLIES) == {kind for kind in ANSWERS if ANSWERS[kind].pack is not ANSWERS[Kind.FSYNC].pack}
    assert set(ANSWERS) == set(REQUESTS) - {Kind.FORGET}


@pytest.mark.parametrize("kind", QUESTIONS, ids=lambda kind: kind.name)
@given(data=st.data())
def test_a_question_arrives_as_it_was_asked(kind: Kind, data: st.DataObject) -> None:
    asked = data.draw(QUESTIONS[kind])
    arrived = REQUESTS[kind].unpack(memoryview(REQUESTS[kind].pack(asked)))
    assert arrived == asked


@pytest.mark.parametrize("kind", REPLIES, ids=lambda kind: kind.name)
@given(data=st.data())
def test_an_answer_arrives_as_it_was_given(kind: Kind, data: st.DataObject) -> None:
    answer = data.draw(REPLIES[kind])
    assert ANSWERS[kind].unpack(memoryview(ANSWERS[kind].pack(answer))) == answer


@given(kind=st.sampled_from(sorted(REQUESTS)), body=st.binary(max_size=400))
def test_garbage_is_a_bad_frame(kind: Kind, body: bytes) -> None:
    for shape in (REQUESTS[kind], ANSWERS.get(kind)):
        if shape is not None:
            with contextlib.suppress(BadFrame):
                shape.unpack(memoryview(body))


@given(data=st.data(), cut=st.integers(1, 40))
def test_a_body_cut_short_is_a_bad_frame_or_another_value(data: st.DataObject, cut: int) -> None:
    kind = data.draw(st.sampled_from(sorted(QUESTIONS)))
    asked = data.draw(QUESTIONS[kind])
    body = REQUESTS[kind].pack(asked)
    try:
        arrived = REQUESTS[kind].unpack(memoryview(body)[: -min(cut, len(body)) or len(body)])
    except BadFrame:
        return
    assert arrived != asked or not body


@given(st.binary(min_size=HEADER.size, max_size=HEADER.size))
def test_a_header_is_a_known_kind_of_bounded_length(raw: bytes) -> None:
    try:
        kind, _serial, length = unpack_header(raw)
    except BadFrame:
        return
    assert kind in Kind
    assert length <= MAX_BODY


def test_a_listed_entry_is_never_longer_than_said() -> None:
    longest = EntryPlus(DirectoryEntry(b"n" * 255, 1, 2, 3), Entry(1, Attributes(*range(13))))
    assert len(ANSWERS[Kind.READDIRPLUS].pack([longest])) == LISTED_MAX


def test_the_version_is_told() -> None:
    hello = Hello(MAGIC, VERSION, bytes(16), True)
    assert REQUESTS[Kind.HELLO].unpack(memoryview(REQUESTS[Kind.HELLO].pack(hello))) == hello
