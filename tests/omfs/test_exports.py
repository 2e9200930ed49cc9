"""omtools.omfs.exports, and what of it shows in the tree."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from omfs.support import find, refused
from omtools.errors import BadExports
from omtools.omfs.exports import Export, everything, parse_exports
from omtools.omfs.local import LocalFiles
from omtools.omfs.operations import NOBODY, ROOT, Changes


def test_a_list_is_read() -> None:
    text = """
    # what we offer
    /home        rw
    /srv//data/  ro,onefs   # as it is mounted
    "/opt/two words"
    """
    assert parse_exports(text).entries == (
        Export(b"/home", read_only=False),
        Export(b"/srv/data", read_only=True, one_file_system=True),
        Export(b"/opt/two words", read_only=True),
    )


def test_the_tree_leads_to_the_exports() -> None:
    top = parse_exports("/home/x rw\n/home ro\n/srv/a ro").tree()
    assert [(point.path, point.export is not None) for point in top.walk()] == [
        (b"/", False), (b"/home", True), (b"/home/x", True), (b"/srv", False), (b"/srv/a", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("home rw", 1, "“home” is no absolute path"),
        ("/ok\n/home wr", 2, "“wr” is none of rw, ro, onefs"),
        ("/home rw,ro", 1, "both"),
        ("/home rw\n/home/ ro", 2, "/home/ is listed twice"),
        ("/my home rw", 1, "quote names with spaces"),
        ('"/home', 1, "not closed"),
        ("/home/../etc", 1, "“.” or “..”"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int, why: str) -> None:
    with pytest.raises(BadExports) as caught:
        parse_exports(text, "exports")
    assert str(caught.value).startswith(f"exports, line {line}: ")
    assert why in str(caught.value)


def names(files: LocalFiles, node: int) -> set[bytes]:
    file = files.opendir(NOBODY, node)
    try:
        return {entry.name for entry in files.readdir(file, 0)} - {b".", b".."}
    finally:
        files.releasedir(file)


def test_directories_above_are_there_and_empty_but_for_the_way(tmp_path: Path) -> None:
    for name in ("open", "shut", "secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    files = LocalFiles(parse_exports(f"{tmp_path}/open rw\n{tmp_path}/shut ro\n{tmp_path}/missing ro"))
    try:
        above = find(files, str(tmp_path))
        assert stat.S_ISDIR(above.attributes.mode)
        assert names(files, above.node) == {b"open", b"shut", b"missing"}
        assert names(files, ROOT) == {os.fsencode(tmp_path.parts[1])}
        refused(errno.ENOENT, files.lookup, NOBODY, above.node, b"secret")
        refused(errno.ENOENT, files.lookup, NOBODY, above.node, b"missing")
        refused(errno.EROFS, files.mkdir, NOBODY, above.node, b"new", 0o755)
        refused(errno.EROFS, files.rmdir, NOBODY, above.node, b"open")
        assert (tmp_path / "secret").is_dir()
        inside = find(files, f"{tmp_path}/open/file")
        files.setattr(NOBODY, inside.node, Changes(mode=0o600))
        assert (tmp_path / "open" / "file").stat().st_mode & 0o777 == 0o600
    finally:
        files.close()


def test_what_is_exported_read_only_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "own").mkdir()
    files = LocalFiles(parse_exports(f"{tmp_path} ro\n{tmp_path}/own rw"))
    try:
        top, file = find(files, str(tmp_path)), find(files, f"{tmp_path}/file")
        refused(errno.EROFS, files.open, NOBODY, file.node, os.O_RDWR)
        refused(errno.EROFS, files.open, NOBODY, file.node, os.O_RDONLY | os.O_TRUNC)
        refused(errno.EROFS, files.create, NOBODY, top.node, b"new", os.O_RDWR, 0o644)
        refused(errno.EROFS, files.unlink, NOBODY, top.node, b"file")
        refused(errno.EROFS, files.setattr, NOBODY, file.node, Changes(mtime_ns=0))
        refused(errno.EROFS, files.setxattr, NOBODY, file.node, b"user.a", b"")
        refused(errno.EROFS, files.access, NOBODY, file.node, os.W_OK)
        files.access(NOBODY, file.node, os.R_OK)
        opened = files.create(NOBODY, top.node, b"file", os.O_RDONLY, 0o644)  # it exists: nothing to make
        assert files.read(opened.file, 0, 100) == b"content"
        own = find(files, f"{tmp_path}/own")
        files.mkdir(NOBODY, own.node, b"made", 0o755)
        assert (tmp_path / "own" / "made").is_dir()
        refused(errno.EROFS, files.rename, NOBODY, own.node, b"made", top.node, b"made")
    finally:
        files.close()


def test_proc_and_sys_are_empty_directories() -> None:
    files = LocalFiles(everything())
    try:
        for name in (b"proc", b"sys"):
            entry = files.lookup(NOBODY, ROOT, name)
            assert stat.S_ISDIR(entry.attributes.mode)
            assert names(files, entry.node) == set()
            refused(errno.ENOENT, files.lookup, NOBODY, entry.node, b"self")
    finally:
        files.close()


def test_a_file_system_that_the_caller_excludes_is_not_entered() -> None:
    device = os.stat("/dev/shm").st_dev
    if device == os.stat("/dev").st_dev:
        pytest.fail("/dev/shm is no mount of its own here")
    files = LocalFiles(everything(), unserved_devices=[device])
    try:
        assert names(files, find(files, "/dev/shm").node) == set()
    finally:
        files.close()


def test_devices_are_seen_and_not_opened() -> None:
    files = LocalFiles(everything())
    try:
        null = find(files, "/dev/null")
        assert stat.S_ISCHR(null.attributes.mode)
        assert null.attributes.rdev == os.makedev(1, 3)
        refused(errno.ENXIO, files.open, NOBODY, null.node, os.O_RDONLY)
        directory = find(files, "/dev")
        refused(errno.ENXIO, files.create, NOBODY, directory.node, b"null", os.O_RDWR, 0o644)
    finally:
        files.close()


def test_onefs_ends_where_another_file_system_begins() -> None:
    files = LocalFiles(parse_exports("/dev ro,onefs"))
    try:
        other = find(files, "/dev/shm")
        assert names(files, other.node) == set()
        refused(errno.EROFS, files.mkdir, NOBODY, other.node, b"x", 0o755)
        assert stat.S_ISCHR(find(files, "/dev/null").attributes.mode)
    finally:
        files.close()
