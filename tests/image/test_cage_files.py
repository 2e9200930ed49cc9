"""A cage whose guest opens files by itself: mounts, the trip wire, stand-ins."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from omtools.errors import RestoreFailed
from omtools.image import cage
from omtools.image.cage import Cage, Clocks
from omtools.image.cage_files import POOL, NativeTree

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="this user may not open /dev/fuse")

PID = 4242


@pytest.fixture
def built(tmp_path: Path) -> Iterator[Cage]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("here")
    made = cage.build(PID, "uhn", Clocks(0, 0), NativeTree("/cluster/2/data", str(tmp_path / "data"), False))
    yield made
    made.destroy()


def test_only_the_tree_is_there(built: Cage, tmp_path: Path) -> None:
    lines = Path(f"/proc/{built.stub.pid}/mountinfo").read_text().splitlines()
    seen = {line.split()[4]: (line.split()[3], line.split()[5].split(",")) for line in lines}
    assert seen.keys() == {"/", "/cluster/2/data"}
    source, options = seen["/cluster/2/data"]
    assert str(tmp_path / "data").endswith(source)
    assert {"ro", "nosuid", "nodev"} <= set(options)
    assert Path(f"/proc/{built.init}/root/cluster/2/data/file").read_text() == "here"


def test_stand_ins_are_told_apart_when_they_are_closed(built: Cage) -> None:
    files = built.files
    assert files is not None
    assert [handle for _one, handle in files.stand_ins] == list(range(1, POOL + 1))
    (first, one), (second, two) = files.stand_ins.pop(0), files.stand_ins.pop(0)
    os.close(second)
    os.close(first)
    told = [heard.handle for heard in files.root.requests() if hasattr(heard, "handle")]
    assert told == [two, one]


def test_more_stand_ins(built: Cage) -> None:
    files = built.files
    assert files is not None
    with files.opening_more() as done:
        while not done():
            assert not list(files.root.requests())
    assert [handle for _one, handle in files.stand_ins] == list(range(1, 2 * POOL + 1))


@pytest.mark.skipif(os.getuid() != 0, reason="only root has power over others' files")
def test_root_keeps_its_power_over_files_alone(built: Cage) -> None:
    status = dict(line.split(":\t") for line in Path(f"/proc/{built.stub.pid}/status").read_text().splitlines())
    assert int(status["CapEff"], 16) == 0b11111
    own = Path("/proc/self/uid_map").read_text().split()[2]
    assert Path(f"/proc/{built.stub.pid}/uid_map").read_text().split()[2] == own


def test_a_tree_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(RestoreFailed):
        cage.build(PID, "uhn", Clocks(0, 0), NativeTree("/cluster/2/data", str(tmp_path / "none"), True))
