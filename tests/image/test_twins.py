"""omtools.image.twins: which files need not travel, and what a guest has changed of their mappings."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from settled import settled_file
from tracees import python

from omtools.image import twins
from omtools.image.model import Region
from omtools.image.twins import Identity, Twin, known, mapped_files, opened, read_digest, settle, trusted

P = 4096


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file as libraries are, old enough to be believed."""
    return settled_file(tmp_path / "lib.so", monkeypatch)


def test_a_file_s_digest(library: Path) -> None:
    read = read_digest(str(library), os.getuid())
    assert read == (Identity.of(library.stat()), hashlib.sha256(library.read_bytes()).digest())


def test_a_file_that_has_just_changed_is_not_believed(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "_UNSETTLED_NS", 3600 * 10**9)
    assert read_digest(str(library), os.getuid()) is None


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o750])
def test_others_may_read_it_and_nobody_change_it(library: Path, mode: int) -> None:
    library.chmod(mode)
    assert not trusted(library.stat(), os.getuid())
    assert read_digest(str(library), os.getuid()) is None


def test_what_is_no_library(library: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "small").write_bytes(b"x")
    for path in (tmp_path / "fifo", tmp_path / "small", tmp_path, tmp_path / "none", "/dev/zero"):
        assert read_digest(str(path), os.getuid()) is None
    assert read_digest("/\0", os.getuid()) is None
    if os.getuid() == 0:  # somebody else's, who could change it
        os.chown(library, 4711, -1)
        assert read_digest(str(library), 0) is None
        assert read_digest(str(library), 4711) is not None


def test_only_what_is_still_the_same_is_opened(library: Path, tmp_path: Path) -> None:
    twin = Twin(str(library), Identity.of(library.stat()))
    with opened([twin, Twin(str(tmp_path / "none"), twin.identity)]) as files:
        assert list(files) == [str(library)]
        assert os.pread(files[str(library)], 9, 0) == library.read_bytes()[:9]
    assert known([twin], {str(library)}) == {twin.identity.mapped_as: str(library)}
    assert known([twin], set()) == {}
    time.sleep(0.01)  # a tick of the clock of time stamps
    library.write_bytes(library.read_bytes())
    with opened([twin]) as files:
        assert files == {}
    assert known([twin], {str(library)}) == {}


def test_what_a_process_has_mapped(library: Path) -> None:
    program = f"""
import mmap, sys
file = open({str(library)!r}, "rb")
text = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
shared = mmap.mmap(-1, 1 << 20)
print("ready", flush=True)
sys.stdin.readline()
"""
    with python(program) as child:
        found = mapped_files(child.pid)
        assert str(library) in found
        assert os.path.realpath(sys.executable) in found or any("libpython" in path for path in found)
        assert all(os.path.isfile(path) for path in found)
        copy = library.with_suffix(".new")
        copy.write_bytes(library.read_bytes())
        copy.rename(library)  # as packages are upgraded: what is mapped is another file now
        assert str(library) not in mapped_files(child.pid)
    assert mapped_files(1 << 22) == []


def region(start: int, end: int, *, twin: bool = True, offset: int | None = None) -> Region:
    at = (start if offset is None else offset) * P
    return Region(start * P, end * P, 5, "private", True, "/lib", at, twin)


def test_a_guest_that_left_all_as_it_was() -> None:
    whole = [region(10, 20)]
    assert settle(whole, whole, None) == (whole, [])
    assert settle(whole, whole, ["/lib"]) == (whole, [])
    elsewhere, gone = settle(whole, whole, ["/other"])
    assert not elsewhere[0].twin
    assert gone == []


def test_what_stands_elsewhere_travels_whole() -> None:
    (moved,), gone = settle([region(30, 40, offset=10)], [region(10, 20)], None)
    assert not moved.twin
    assert gone == [(10 * P, 20 * P)]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10)), max_size=6), st.integers(0, 20))
def test_every_page_is_a_twin_or_gone(pieces: list[tuple[int, int]], first: int) -> None:
    """Each page that was a twin's is marked or told to be gone, and none is both."""
    before = [region(first, first + 25)]
    now, at = [], 0
    for gap, length in pieces:
        at += gap
        now.append(region(at, at + length))
        at += length
    found, gone = settle(now, before, None)
    marked = {page for one in found if one.twin for page in range(one.start // P, one.end // P)}
    lost = {page for start, end in gone for page in range(start // P, end // P)}
    assert marked | lost == set(range(first, first + 25))
    assert not marked & lost
