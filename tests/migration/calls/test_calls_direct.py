from __future__ import annotations

import fcntl

import pytest
from hypothesis import given, strategies as st

from omtools.migration.calls.direct import (
    Closed,
    Duplicated,
    Followed,
    GivenAway,
    Native,
    Placed,
    Synced,
    Touch,
    touch,
)
from omtools.migration.calls.table import TABLE

DIRECT = {3, 7, 600}
NUMBERS = {call.name: nr for nr, call in TABLE.items()}


def meaning(name: str, *args: int) -> Touch | None:
    return touch(NUMBERS[name], (*args, *(0,) * (6 - len(args))), DIRECT)


@pytest.mark.parametrize("name", [
    "read", "write", "lseek", "pread64", "pwrite64", "readv", "writev", "preadv", "pwritev", "preadv2", "pwritev2",
    "fsync", "fdatasync", "ftruncate", "fallocate", "fadvise64", "readahead", "sync_file_range",
])  # fmt: skip
def test_data_is_moved_where_the_process_runs(name: str) -> None:
    assert meaning(name, 3) == Native()
    assert meaning(name, 600 | 1 << 40) == Native()  # the kernel looks at 32 bits
    assert meaning(name, 4) is None
    assert meaning(name, (1 << 64) - 1) is None


@pytest.mark.parametrize(("name", "args", "expected"), [
    ("sendfile", (3, 7), Native()),
    ("sendfile", (1, 7), Synced((7,))),
    ("sendfile", (3, 4), Synced((3,))),
    ("sendfile", (1, 2), None),
    ("splice", (3, 0, 5), Synced((3,))),
    ("splice", (5, 0, 7), Synced((7,))),
    ("copy_file_range", (3, 0, 7), Native()),
    ("ioctl", (3, 0x541B), Synced((3,))),
    ("close", (7,), Closed(7, 7)),
    ("close", (8,), None),
    ("close_range", (3, 0xFFFFFFFF, 0), Closed(3, 0xFFFFFFFF)),
    ("close_range", (3, 9, 4), None),  # CLOSE_RANGE_CLOEXEC only marks them
    ("dup", (3,), Duplicated(3)),
    ("dup", (4,), None),
    ("dup2", (3, 3), None),
    ("dup2", (3, 9), Duplicated(3, 9)),
    ("dup2", (4, 7), Duplicated(-1, 7)),
    ("dup3", (4, 9), None),
    ("fcntl", (3, fcntl.F_DUPFD, 10), Duplicated(3)),
    ("fcntl", (3, 1030, 10), Duplicated(3)),  # F_DUPFD_CLOEXEC
    ("fcntl", (3, fcntl.F_SETFL, 0), Followed()),
    ("fcntl", (3, fcntl.F_GETFL), None),
    ("fcntl", (3, fcntl.F_SETLK), Placed(3)),
    ("fcntl", (3, 36), Placed(3)),  # F_OFD_GETLK
    ("fcntl", (4, fcntl.F_SETLK), None),
    ("sendmsg", (5, 0), GivenAway()),
    ("fstat", (3,), None),
    ("mmap", (0, 4096, 1, 2, 3), None),
])  # fmt: skip
def test_the_others(name: str, args: tuple[int, ...], expected: Touch | None) -> None:
    assert meaning(name, *args) == expected


@given(st.sampled_from(sorted(TABLE)), st.tuples(*[st.integers(0, (1 << 64) - 1)] * 6))
def test_without_direct_files_a_call_is_as_ever(nr: int, args: tuple[int, ...]) -> None:
    assert isinstance(touch(nr, args, ()), GivenAway | Closed | None)
