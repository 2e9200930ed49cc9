"""Which directories a guest gets for itself."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from omtools.migration.own_tree import arguments, choose, places
from omtools.migration.reach import Export, Reach


def reach(base: Path) -> Reach:
    exports = [Export(str(base))]
    return Reach("/omfs", "/omfs", {"metrakilate": 2, "mCii": 1}, exports)


def test_the_largest_directory_around_the_place(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    shown = f"/omfs/2{tmp_path}"
    for name in ("2", "metrakilate"):
        found = choose([f"/omfs/{name}{tmp_path}/a/b/file"], reach(tmp_path), 1, 2)
        assert found is not None
        assert (found.path, found.source) == (f"/omfs/{name}{tmp_path}/a", f"{tmp_path}/a")
    assert choose([f"{shown}/file"], reach(tmp_path), 1, 2) is None  # there is no such directory
    assert choose([f"{shown}/a"], reach(tmp_path), 1, 3) is None  # another node's
    assert choose([f"/omfs/1{tmp_path}/a", str(tmp_path / "a")], reach(tmp_path), 1, 2) is None


def test_an_export_with_options_of_its_own_is_not_inside(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    exports = [Export(str(tmp_path)), Export(str(tmp_path / "a" / "b"), writable=False)]
    nested = Reach("/omfs", "/omfs", {}, exports)
    shown = f"/omfs/2{tmp_path}"
    found = choose([f"{shown}/a/b/c"], nested, 1, 2)
    assert found is not None
    assert (found.path, found.writable) == (f"{shown}/a/b/c", False)
    assert choose([f"{shown}/a"], nested, 1, 2) is None


def test_a_link_on_the_way_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "a").mkdir()
    assert choose([f"/omfs/2{tmp_path}/link/a"], reach(tmp_path), 1, 2) is None


def test_what_the_kernel_makes_up_is_not_given_away() -> None:
    everything = Reach("/omfs", "/omfs", {"metrakilate": 2}, [Export("/")])
    assert choose(["/omfs/2/proc/self", "/omfs/2/sys/kernel"], everything, 1, 2) is None


def test_where_a_process_is_at_work(tmp_path: Path) -> None:
    (tmp_path / "open").touch()
    code = "import sys; file = open('open'); print('ready', flush=True); sys.stdin.read()"
    words = ["--data=/omfs/2/x", "relative", "a:/omfs/3"]
    with subprocess.Popen(
        [sys.executable, "-I", "-c", code, *words], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = places(process.pid, arguments(process.pid))
    assert found[0] == str(tmp_path)
    assert {str(tmp_path / "open"), "/omfs/2/x", "/omfs/3", str(tmp_path / "relative")} <= set(found)


def test_a_process_whose_files_are_limited_leaves_them_with_the_deputy() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
            assert places(process.pid, []) == []
        finally:
            process.kill()
