"""Building: that the same gives the same, and what there is when something goes wrong."""

from __future__ import annotations

import io
import marshal
import os
import queue
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from types import CodeType

import pytest

from omtools.errors import MetalImageFailed
from omtools.lab.metal import cpio, image, layers, python_files
from omtools.lab.metal.layers import LAB, Layer
from omtools.lab.metal.packages import Package


def sources() -> list[tuple[str, Path]]:
    base = Path(sysconfig.get_paths()["stdlib"])
    names = ("enum.py", "re/_parser.py", "typing.py", "dataclasses.py", "json/decoder.py", "socket.py")
    return [(f"usr/lib/python3/{name}", base / name) for name in names]


def test_bytecode_is_the_same_every_time() -> None:
    first, second = python_files.compiled(sources()), python_files.compiled(sources())
    assert len(first) == len(sources())
    assert first == second


def test_bytecode_is_never_compared_with_its_source_and_names_the_images_path() -> None:
    for entry in python_files.compiled(sources()[:2]):
        assert int.from_bytes(entry.data[4:8], "little") == 0b01  # PEP 552: hash-based, unchecked
        code = marshal.loads(entry.data[16:])
        assert isinstance(code, CodeType)
        assert code.co_filename.startswith("/usr/lib/python3/")
        assert entry.path == python_files.cached_name(code.co_filename.lstrip("/"))


def test_a_module_that_does_not_compile_is_left_to_its_source(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("print 'for another Python'\n")
    (tmp_path / "good.py").write_text("X = 1\n")
    files = [(f"usr/lib/{name}", tmp_path / name) for name in ("bad.py", "good.py", "data.txt")]
    found = python_files.compiled(files)
    assert [entry.path.rpartition("/")[2].partition(".")[0] for entry in found] == ["good"]


def test_the_interpreter_comes_whole_and_without_what_nobody_needs_there() -> None:
    found = dict(python_files.interpreter())
    home = python_files.library_home()
    assert f"{home}/asyncio/events.py" in found
    assert f"usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}" in found
    assert any(name.startswith(f"{home}/lib-dynload/_ctypes.") for name in found)
    for part in ("/test/", "/idlelib/", "/site-packages/", "__pycache__", "/tkinter/"):
        assert not [name for name in found if part in name]


def test_the_packages_needed_are_there_and_pygments_is_not() -> None:
    names = [name for name, _path in python_files.distributions()]
    home = python_files.packages_home()
    for package in ("asyncssh/__init__.py", "msgspec/__init__.py", "rich/console.py", "cryptography/__init__.py"):
        assert f"{home}/{package}" in names
    assert not [name for name in names if "pygments" in name]
    assert len(names) == len(set(names))


def test_libraries_end_where_the_loader_looks() -> None:
    program = Path(os.path.realpath(sys.executable))
    found = dict(python_files.libraries([program]))
    assert any(name.endswith("/libc.so.6") for name in found)
    assert any("ld-linux" in name for name in found)
    assert all(name.startswith("usr/lib") for name in found)


def test_every_command_is_there() -> None:
    found = {entry.path: entry for entry in python_files.commands()}
    assert {"usr/bin/omagentd", "usr/bin/migrate", "usr/bin/mps"} <= set(found)
    assert not [name for name in found if "/_" in name]
    assert all(entry.mode & 0o111 for entry in found.values())


ENTRIES = [cpio.file(f"usr/share/{n}", os.urandom(1) * n) for n in range(50)]


def layer(digest: str = "0" * 64) -> Layer:
    return Layer("own", digest, lambda: ENTRIES)


def test_a_layer_is_the_same_every_time_and_another_archive_may_follow() -> None:
    written = []
    for _time in range(2):
        with open(os.memfd_create("layer"), "w+b") as file:
            image.write_layer(layer(), file)
            file.seek(0)
            written.append(file.read())
    assert written[0] == written[1]
    assert len(written[0]) % cpio.ALIGNMENT == 0
    unpacked = subprocess.run(["zstd", "-dq"], input=written[0].rstrip(b"\0"), capture_output=True, check=False)
    assert unpacked.stdout == cpio.archive(ENTRIES)


def test_digests_tell_names_contents_and_modes_apart(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("a")
    before = layers.digest_of_files([("x", path)], "more")
    assert layers.digest_of_files([("x", path)], "more") == before
    others = {layers.digest_of_files([("y", path)], "more"), layers.digest_of_files([("x", path)], "less")}
    path.chmod(0o755)
    others.add(layers.digest_of_files([("x", path)], "more"))
    path.chmod(0o644)
    path.write_text("b")
    others.add(layers.digest_of_files([("x", path)], "more"))
    assert len(others | {before}) == 5


def test_a_layer_is_made_once(tmp_path: Path) -> None:
    said: list[str] = []
    first = image._layer(tmp_path, layer(), False, said.append)
    stamp = first.stat().st_ino
    assert image._layer(tmp_path, layer(), False, said.append).stat().st_ino == stamp
    assert image._layer(tmp_path, layer(), True, said.append).stat().st_ino != stamp
    assert len(said) == 2


def test_who_builds_at_the_same_time_waits_and_says_so(tmp_path: Path) -> None:
    said: queue.Queue[str] = queue.Queue()
    entered = threading.Event()

    def second() -> None:
        with image._turn(tmp_path, said.put):
            entered.set()

    thread = threading.Thread(target=second)
    with image._turn(tmp_path, said.put):
        thread.start()
        assert "waiting" in said.get(timeout=30)
        assert not entered.is_set()
    thread.join(30)
    assert entered.is_set()
    assert said.empty()


def test_old_layers_are_forgotten(tmp_path: Path) -> None:
    for n in range(8):
        path = image._layer(tmp_path, layer(f"{n}" * 64), False, lambda _line: None)
        os.utime(path, (n, n))
    image._layer(tmp_path, layer("f" * 64), False, lambda _line: None)
    assert sorted(path.name[4] for path in tmp_path.glob("own-*")) == ["5", "6", "7", "f"]


def test_what_fails_leaves_nothing_half_done(tmp_path: Path) -> None:
    def fail() -> list[cpio.Entry]:
        raise MetalImageFailed(why="the disk is on fire")

    with pytest.raises(MetalImageFailed, match="on fire"):
        image._layer(tmp_path, Layer("own", "0" * 64, fail), False, lambda _line: None)
    assert list(tmp_path.iterdir()) == []


def test_packages_are_pinned_until_somebody_wants_newer_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    names = ("linux-image-6.1.0", "busybox-static", "bash", "dropbear-bin", "procps", "dnsmasq-base",
             "nfs-kernel-server")  # fmt: skip

    def obtain(_apt: object, _kernel: str, _programs: object) -> tuple[list[Package], list[Package]]:
        asked.append(1)
        return [Package(name, f"{name}.deb", 1, "0") for name in names], []

    monkeypatch.setattr("omtools.lab.metal.image.Apt.obtain", obtain)
    first = image._packages(tmp_path, False, lambda _line: None, LAB)
    assert image._packages(tmp_path, False, lambda _line: None, LAB) == first
    assert len(asked) == 1
    image._packages(tmp_path, True, lambda _line: None, LAB)
    assert len(asked) == 2
    (tmp_path / "packages.json").write_text((tmp_path / "packages.json").read_text().replace("bash", "dash"))
    assert image._packages(tmp_path, False, lambda _line: None, LAB) == first
    assert len(asked) == 3
    (tmp_path / "packages.json").write_text("{")
    assert image._packages(tmp_path, False, lambda _line: None, LAB) == first


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only = [Package("procps", "p.deb", 1, "0")]
    monkeypatch.setattr("omtools.lab.metal.image.Apt.obtain", lambda *_all: (only, []))
    with pytest.raises(MetalImageFailed, match="bash, busybox-static, dnsmasq-base, dropbear-bin"):
        image._packages(tmp_path, False, lambda _line: None, LAB)
    assert not list(tmp_path.glob("packages.json"))


def test_what_mcii_gets_and_what_it_serves(tmp_path: Path) -> None:
    for name in ("kernel", "one", "two", "server", "netroot"):
        (tmp_path / name).write_bytes(name.upper().encode().ljust(8, b"\0"))
    root = (tmp_path / "one", tmp_path / "two")
    built = image.Image(tmp_path / "kernel", root, tmp_path / "server", tmp_path / "netroot", "d")
    served, own = io.BytesIO(), io.BytesIO()
    built.write_root(served)
    built.write_server(own, b"keys")
    assert served.getvalue() == b"ONE\0\0\0\0\0TWO\0\0\0\0\0"
    assert own.getvalue().startswith(served.getvalue() + b"SERVER\0\0" + b"070701")
    assert own.getvalue().endswith(b"keys")
    assert b"boot/initrd.img\0" in own.getvalue()
    assert b"NETROOT\0" in own.getvalue().partition(b"boot/netroot.img\0")[2]
    assert own.getvalue().count(served.getvalue()) == 2
