"""What a case of `omfs.posix_names` and `omfs.posix_data` tells on a mount is what it tells on a plain directory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from linux.fuse_support import ended, forked, needs_root, own_mounts

from omfs.fuse_support import USER, Place, place
from omfs.posix_data import ALL_CASES

pytestmark = needs_root


@pytest.fixture(scope="module")
def both() -> Iterator[Place]:
    with own_mounts(), place("users") as made:
        yield made


def told_as(uid: int, name: str, top: Path, said: Path) -> Any:
    """What the case tells to a process of that user's."""
    top.mkdir()
    os.chown(top, uid, uid)
    said.write_text("")

    def body() -> None:
        into = os.open(said, os.O_WRONLY)
        os.umask(0o022)
        if uid:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        os.write(into, json.dumps(ALL_CASES[name](str(top))).encode())

    assert ended(forked(body)) == 0
    return json.loads(said.read_text())


@pytest.mark.parametrize("uid", [0, USER], ids=["root", "user"])
@pytest.mark.parametrize("name", ALL_CASES)
def test_the_same_as_on_a_plain_directory(both: Place, name: str, uid: int, tmp_path: Path) -> None:
    try:
        plain = told_as(uid, name, both.plain / "case", tmp_path / "said")
        on_mount = told_as(uid, name, both.mount / "case", tmp_path / "said")
        assert plain == on_mount
    finally:
        for top in (both.plain, both.back):
            shutil.rmtree(top / "case")
