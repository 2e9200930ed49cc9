"""omtools.omfs.mounts: what is not served, also when it is mounted later."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from omtools.omfs.mounts import Mount, is_unserved, parse_mounts


def test_the_list_of_mounts_is_read() -> None:
    text = (
        b"22 28 0:21 / /proc rw,nosuid - proc proc rw\n"
        b"28 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw\n"
        b"99 28 0:77 / /mnt/two\\040words rw - fuse.omfs omfs rw\n"
        b"rubbish\n"
    )
    assert list(parse_mounts(text)) == [
        Mount(os.makedev(0, 21), b"/proc", "proc"),
        Mount(os.makedev(254, 0), b"/", "ext4"),
        Mount(os.makedev(0, 77), b"/mnt/two words", "fuse.omfs"),
    ]


@pytest.mark.parametrize(
    ("kind", "unserved"),
    [
        ("proc", True), ("sysfs", True), ("fuse.omfs", True), ("fuse.hpc", True),
        ("ext4", False), ("fuse.sshfs", False), ("tmpfs", False),
    ],
)
def test_kinds(kind: str, unserved: bool) -> None:
    assert is_unserved(kind) == unserved


LATER = """
import os, stat, sys
from omtools.linux.namespaces import Clone, IdRange, mount, umount2, unshare, write_id_maps
uid, gid = os.getuid(), os.getgid()
unshare(Clone.NEWUSER | Clone.NEWNS if uid else Clone.NEWNS)
if uid:
    write_id_maps([IdRange(0, uid)], [IdRange(0, gid)])
mount("none", "/", None, 0x44000)  # MS_REC | MS_PRIVATE
from omtools.omfs.exports import only
from omtools.omfs.local import LocalFiles
from omtools.omfs.operations import NOBODY, ROOT
os.mkdir(sys.argv[1] + "/d")
os.mkdir(sys.argv[1] + "/d/inside")
files = LocalFiles(only(sys.argv[1]))
def names():
    node = files.lookup(NOBODY, ROOT, b"d").node
    return sorted(entry.name for entry in files.readdir(files.opendir(NOBODY, node), 0))[2:]
print(names())
mount("/proc", sys.argv[1] + "/d", None, 0x5000)  # MS_BIND | MS_REC
print(names())
umount2(sys.argv[1] + "/d", 2)  # MNT_DETACH
print(names())
"""


def test_what_is_mounted_later_is_not_entered(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LATER, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["[b'inside']", "[]", "[b'inside']", ""]
