from __future__ import annotations

import os
from pathlib import Path

import pytest

from omtools.migration.places import Place, locate, open_place
from omtools.migration.reach import Export, Reach

REACH = Reach("/omfs", "/run/omfs", {"mCii": 1, "metrakilate": 2}, [Export("/"), Export("/srv", writable=False)])


@pytest.mark.parametrize(("path", "expected"), [
    ("/home/u/file", Place(1, "/run/omfs/1", "home/u/file")),
    ("/omfs/1/home/u/file", Place(1, "/run/omfs/1", "home/u/file")),
    ("/omfs/mCii/home/u/file", Place(1, "/run/omfs/1", "home/u/file")),
    ("/omfs/2/data/x", Place(2, "/", "data/x")),
    ("/omfs/metrakilate/data/x", Place(2, "/", "data/x")),
    ("/omfs/2/srv/x", Place(2, "/srv", "x", writable=False)),
    ("/omfs/2/srvx", Place(2, "/", "srvx")),
    ("/omfs/3/data", Place(3, "/run/omfs/3", "data")),
    ("/omfs/unknown/data", None),
    ("/omfs/2", None),
    ("/omfs/2/a/../../etc/passwd", None),
    ("/omfsx/2", Place(1, "/run/omfs/1", "omfsx/2")),
    ("/", None),
])  # fmt: skip
def test_where_a_file_lies(path: str, expected: Place | None) -> None:
    assert locate(path, REACH, home=1, here=2) == expected


def test_nothing_is_reached_without_mount_and_exports() -> None:
    for path in ("/home/u", "/omfs/2/x", "/omfs/3/x"):
        assert locate(path, Reach(), home=1, here=2) is None
    assert locate("/omfs/2/x", Reach("/omfs"), home=1, here=2) is None
    assert locate("/omfs/2/x", Reach("/omfs", "/omfs", exports=[Export("/home")]), home=1, here=2) is None


def test_a_node_with_a_root_of_its_own() -> None:
    reach = Reach("/omfs", exports=[Export("/home")], root="/lab/two")
    assert locate("/omfs/2/home/u/f", reach, home=1, here=2) == Place(2, "/lab/two/home", "u/f")


def test_it_is_opened_below_its_base_only(tmp_path: Path) -> None:
    (tmp_path / "base" / "sub").mkdir(parents=True)
    (tmp_path / "base" / "sub" / "file").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "base" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "base" / "folder").symlink_to(tmp_path)
    base = str(tmp_path / "base")
    descriptor = open_place(Place(2, base, "sub/file"), os.O_RDONLY)
    assert os.read(descriptor, 10) == b"inside"
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)
    for rest in ("link", "folder/secret", "../secret", "/etc/passwd", "none"):
        with pytest.raises(OSError, match="Errno"):
            open_place(Place(2, base, rest), os.O_RDONLY)
