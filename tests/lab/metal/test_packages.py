from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from omtools.errors import MetalImageFailed
from omtools.lab.metal import cpio
from omtools.lab.metal.packages import (
    Apt,
    Contents,
    Package,
    depended_on,
    is_library,
    merged,
    parse_stanzas,
    parse_uris,
    read_tar,
)

SHOWN = """\
Package: dnsmasq-base
Version: 2.90-4
Pre-Depends: libinit-helpers
Depends: passwd, libc6 (>= 2.34), libgmp10 (>= 2:6.2.1+dfsg1) | libgmp-ng, libdbus-1-3:any
Description: small DNS server
 with a second line: it is no field

Package: linux-image-cloud-amd64
Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)

Package: dnsmasq-base
Version: 2.80-1
"""


def test_what_apt_cache_shows() -> None:
    found = parse_stanzas(SHOWN)
    assert found["dnsmasq-base"]["Version"] == "2.90-4"
    assert depended_on(found["dnsmasq-base"]) == [
        "libinit-helpers", "passwd", "libc6", "libgmp10", "libdbus-1-3",
    ]  # fmt: skip
    assert depended_on(found["linux-image-cloud-amd64"]) == ["linux-image-6.1.0-56-cloud-amd64"]
    assert depended_on({}) == []


def test_libraries_by_name() -> None:
    assert [name for name in ("libgmp10", "zlib1g", "passwd", "libc6", "adduser") if is_library(name)] == [
        "libgmp10", "zlib1g",
    ]  # fmt: skip


def test_uris() -> None:
    text = (
        "'http://deb.debian.org/a/procps_4.0.2-3_amd64.deb' procps_2%3a4.0.2-3_amd64.deb 708712 SHA256:9ab\n"
        "some remark of apt's\n"
    )
    assert parse_uris(text) == [Package("procps", "procps_2%3a4.0.2-3_amd64.deb", 708712, "9ab")]


def test_a_root_with_merged_directories() -> None:
    assert [merged(path) for path in ("bin/ps", "lib/x/y.so", "lib64/ld.so", "etc/passwd", "usr/bin/ps")] == [
        "usr/bin/ps", "usr/lib/x/y.so", "usr/lib64/ld.so", "etc/passwd", "usr/bin/ps",
    ]  # fmt: skip


def tar(*members: tuple[str, bytes | str]) -> bytes:
    """A package's files: contents as bytes, the target of a link as text."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for name, what in members:
            member = tarfile.TarInfo(name)
            if isinstance(what, str):
                member.type, member.linkname = tarfile.SYMTYPE, what
                file.addfile(member)
            else:
                member.size, member.mode = len(what), 0o755
                file.addfile(member, io.BytesIO(what))
    return out.getvalue()


def test_files_of_a_package_and_its_links() -> None:
    found = Contents(read_tar(tar(
        ("./lib/x86_64-linux-gnu/libz.so.1", "libz.so.1.2"), ("./lib/x86_64-linux-gnu/libz.so.1.2", b"zlib"),
        ("./usr/share/doc/zlib/copyright", b"text"), ("./usr/bin/ps", b"ps"), ("./usr/bin/loop", "loop"),
        ("./usr/bin/away", "../../bin/ps"),
    )))  # fmt: skip
    assert "usr/share/doc/zlib/copyright" not in found.files
    assert found.library("libz.so.1") == cpio.file("usr/lib/x86_64-linux-gnu/libz.so.1", b"zlib", 0o755)
    assert found.library("libnone.so.1") is None
    assert found.follow(found.files["usr/bin/loop"]) is None
    away = found.follow(found.files["usr/bin/away"])
    assert away is not None
    assert away.data == b"ps"


def test_a_file_that_is_no_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.deb").write_bytes(b"nothing")
    with pytest.raises(MetalImageFailed, match=r"broken\.deb"):
        Contents.of([tmp_path / "broken.deb"])


def test_what_apt_says_reaches_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An apt that knows nothing, and cannot fetch lists either, as without a network."""
    program = tmp_path / "bin" / "apt-get"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'W: a warning' >&2\necho 'E: Could not resolve deb.debian.org' >&2\nexit 100\n")
    program.chmod(0o755)
    (program.parent / "apt-cache").symlink_to(program)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    with pytest.raises(MetalImageFailed, match=r"apt-get: Could not resolve deb\.debian\.org") as caught:
        Apt(tmp_path / "packages").find("linux-image-cloud-amd64", ["busybox-static"])
    assert str(caught.value).count("\n") == 0


def test_a_damaged_download_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Package("x", "x_1_amd64.deb", 4, "0" * 64)

    def download(self: Apt, *_arguments: str) -> str:
        (self.directory / wanted.file).write_bytes(b"evil")
        return ""

    monkeypatch.setattr(Apt, "_run", download)
    with pytest.raises(MetalImageFailed, match=r"x_1_amd64\.deb is not to be had"):
        Apt(tmp_path).fetch([wanted])


def test_old_lists_are_replaced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lists name a version that the archive has replaced since: the download fails with 404."""
    apt, tried = Apt(tmp_path), []

    def own_lists() -> None:
        apt._options = ["-o", "own"]

    def fetch(packages: list[Package]) -> list[Package]:
        tried.append(packages[0].file)
        if packages[0].file == "old.deb":
            raise MetalImageFailed(why="404 Not Found")
        return packages

    monkeypatch.setattr(apt, "_own_lists", own_lists)
    monkeypatch.setattr(apt, "fetch", fetch)
    monkeypatch.setattr(apt, "find", lambda *_all: [Package("x", "new.deb" if apt._options else "old.deb", 1, "0")])
    assert [one.file for one in apt.obtain("k", ["x"])[0]] == ["new.deb"]
    assert tried == ["old.deb", "new.deb"]
    monkeypatch.setattr(apt, "find", lambda *_all: [Package("x", "old.deb", 1, "0")])
    with pytest.raises(MetalImageFailed, match="404"):
        apt.obtain("k", ["x"])


def test_the_systems_apt_is_there() -> None:
    assert subprocess.run(["apt-cache", "--version"], capture_output=True, check=False).returncode == 0
