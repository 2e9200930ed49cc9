from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from omtools.lab.metal import cpio

ENTRIES = [
    cpio.file("etc/motd", "hello\n"),
    cpio.file("bin/run", b"#!/bin/sh\n", 0o755),
    cpio.link("usr/lib64", "lib"),
    cpio.character_device("dev/console", 5, 1),
    cpio.directory("tmp", 0o1777),
    cpio.file("empty", b""),
]


def test_a_header_is_written_as_the_format_has_it() -> None:
    written = cpio.archive([cpio.file("a", b"xyz", 0o640)])
    assert written[:6] == b"070701"
    fields = [int(written[6 + 8 * n : 14 + 8 * n], 16) for n in range(13)]
    assert fields == [1, stat.S_IFREG | 0o640, 0, 0, 1, 0, 3, 0, 0, 0, 0, 2, 0]
    assert written[110:116] == b"a\0xyz\0"  # 110 + 2 is a multiple of four already
    assert written[116:122] == b"070701"
    assert b"TRAILER!!!\0" in written
    assert len(written) % 4 == 0


def test_a_device_is_only_a_record() -> None:
    written = cpio.archive([cpio.character_device("dev/null", 1, 3, 0o666)])
    entry = written[written.index(b"dev/null") - 110 :]
    assert [int(entry[6 + 8 * n : 14 + 8 * n], 16) for n in (1, 9, 10)] == [stat.S_IFCHR | 0o666, 1, 3]


def test_directories_come_before_what_is_in_them() -> None:
    paths = [entry.path for entry in cpio.complete(ENTRIES)]
    for path in paths:
        parent = os.path.dirname(path)
        assert not parent or paths.index(parent) < paths.index(path)
    assert len(paths) == len(set(paths))


def test_the_last_of_one_path_counts() -> None:
    first, second = cpio.file("a", "1"), cpio.file("a", "2")
    assert cpio.archive([first, second]) == cpio.archive([second])


def test_order_does_not_matter() -> None:
    assert cpio.archive(ENTRIES) == cpio.archive(reversed(ENTRIES))


@pytest.mark.parametrize("path", ["/a", "a/../b", "..", ".", "a//b", "a/", "", "a\0b"])
def test_paths_that_lead_elsewhere_are_refused(path: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - it names the path, whatever that is
        cpio.archive([cpio.file(path, b"")])


def test_another_program_reads_it(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(cpio.archive(ENTRIES))
    with open(tmp_path / "archive", "rb") as file:
        done = subprocess.run(["cpio", "-tv", "--quiet"], stdin=file, capture_output=True, text=True, check=True)
    lines = {line.split()[-1]: line for line in done.stdout.splitlines()}
    assert sorted(line.partition(" -> ")[0].split()[-1] for line in done.stdout.splitlines()) == sorted(
        entry.path for entry in cpio.complete(ENTRIES)
    )
    assert lines["dev/console"].startswith("crw-------")
    assert "5,   1" in lines["dev/console"]
    assert lines["tmp"].startswith("drwxrwxrwt")
    assert lines["bin/run"].startswith("-rwxr-xr-x")
    assert "usr/lib64 -> lib" in lines["lib"]


def read(data: bytes) -> dict[str, tuple[int, bytes]]:
    """A reader of the format, written from its description and not from the writer."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        mode, size, name_size = (int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in (1, 6, 11))
        name = data[at + 110 : at + 110 + name_size - 1].decode()
        at += -(-(110 + name_size) // 4) * 4
        if name == "TRAILER!!!":
            assert not data[at:].strip(b"\0")
            return found
        found[name] = (mode, data[at : at + size])
        at += -(-size // 4) * 4


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=9).filter(
    lambda name: name not in (".", "..")
)


@given(st.dictionaries(st.lists(names, min_size=1, max_size=1).map("/".join), st.binary(max_size=50), max_size=6))
def test_what_is_written_can_be_read(files: dict[str, bytes]) -> None:
    written = cpio.archive(cpio.file(path, data) for path, data in files.items())
    assert read(written) == {path: (stat.S_IFREG | 0o644, data) for path, data in files.items()}


def test_archives_may_follow_each_other() -> None:
    one = cpio.archive(ENTRIES)
    assert len(one) % cpio.ALIGNMENT == 0
