"""omtools.omfs.sftp, as asyncssh's own client sees it."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import pytest_asyncio

from omfs.support import local, remote
from omtools.omfs.local import LocalFiles
from omtools.omfs.operations import Files
from omtools.omfs.sftp import FilesServer, changes_of, flags_of


class AnyUser(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:  # noqa: ARG002 - nobody is asked for anything
        return False


def factory(files: Files) -> Callable[[asyncssh.SSHServerChannel[bytes]], FilesServer]:
    return lambda channel: FilesServer(channel, files)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "top/d/e").mkdir(parents=True)
    (tmp_path / "top/d/f").write_text("hello")
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "top/in").symlink_to("/d/f")  # of this tree
    (tmp_path / "top/out").symlink_to("../../secret")
    (tmp_path / "top/loop").symlink_to("loop")
    (tmp_path / "top/dangling").symlink_to("d/new")
    (tmp_path / "top/dir").symlink_to("d")
    return tmp_path / "top"


@pytest_asyncio.fixture(params=["local", "remote"])
async def client(request: pytest.FixtureRequest, top: Path) -> AsyncIterator[asyncssh.SFTPClient]:
    make = local if request.param == "local" else remote
    with make(top) as files:
        key = asyncssh.generate_private_key("ssh-ed25519")
        server = await asyncssh.listen(
            "127.0.0.1", 0, server_factory=AnyUser, server_host_keys=[key], sftp_factory=factory(files)
        )
        async with (
            server,
            asyncssh.connect("127.0.0.1", server.get_port(), known_hosts=None, username="x", client_keys=[], config=[])
            as connection,
            connection.start_sftp_client() as sftp,
        ):
            yield sftp
        if isinstance(files, LocalFiles):
            assert len(files._nodes) == 1  # every lookup was given back
            assert not files._opened  # and every open file closed


async def test_names(client: asyncssh.SFTPClient, top: Path) -> None:
    assert sorted(await client.listdir("/")) == [".", "..", "d", "dangling", "dir", "in", "loop", "out"]
    assert sorted(await client.listdir("dir/")) == [".", "..", "e", "f"]
    assert await client.realpath("dir/../d/./f") == "/d/f"
    assert await client.realpath("../../..") == "/"
    assert await client.realpath("d/not-yet") == "/d/not-yet"
    assert await client.readlink("in") == "/d/f"
    attrs = await client.stat("in")
    found = os.stat(top / "d/f")
    assert (attrs.size, attrs.permissions, attrs.uid) == (5, found.st_mode, found.st_uid)
    assert attrs.mtime == int(found.st_mtime)
    link = await client.lstat("in")
    assert link.permissions is not None
    assert stat.S_ISLNK(link.permissions)
    await client.mkdir("new")
    await client.rename("d/f", "new/g")
    with pytest.raises(asyncssh.SFTPError):
        await client.rename("new/g", "d/e")
    await client.posix_rename("new/g", "new/h")
    await client.symlink("h", "new/s")
    await client.link("new/h", "new/hard")
    assert os.stat(top / "new/hard").st_nlink == 2
    await client.unlink("new/s")
    await client.rmdir("d/e")
    with pytest.raises(asyncssh.SFTPNoSuchFile):
        await client.stat("d/e")
    assert (await client.statvfs("/")).blocks == os.statvfs(top).f_blocks


async def test_data(client: asyncssh.SFTPClient, top: Path, tmp_path: Path) -> None:
    data = random.Random(3).randbytes(3_000_000)
    (tmp_path / "source").write_bytes(data)
    await client.put(tmp_path / "source", "/copy")
    assert (top / "copy").read_bytes() == data
    await client.get("/copy", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    async with client.open("d/f", "rb+") as file:
        assert bytes(await file.read()) == b"hello"  # type: ignore[arg-type]  # opened for bytes
        await file.write(b"J", 0)
        assert (await file.stat()).size == 5
        await file.truncate(3)
        await file.utime((7, 9))
        assert (await file.statvfs()).namemax == 255
        await file.fsync()
    assert (top / "d/f").read_bytes() == b"Jel"
    assert os.stat(top / "d/f").st_mtime == 9
    async with client.open("d/f", "ab") as file:
        await file.write(b"-end", 0)
    assert (top / "d/f").read_bytes() == b"Jel-end"
    async with client.open("dangling", "wb") as file:
        await file.write(b"through the link")
    assert (top / "d/new").read_bytes() == b"through the link"
    await client.chmod("in", 0o600)
    assert stat.S_IMODE(os.stat(top / "d/f").st_mode) == 0o600
    await client.open("d/f", "rb")  # left open


@pytest.mark.parametrize("path", ["out", "/out", "d/../../secret", "dir/../../secret", "loop", "d/f/below"])
async def test_nothing_leads_out_of_the_tree(client: asyncssh.SFTPClient, path: str) -> None:
    for call in (client.stat, client.listdir, client.open):
        with pytest.raises(asyncssh.SFTPError):
            await call(path)
    with pytest.raises(asyncssh.SFTPError):
        await client.unlink("/")
    with pytest.raises(asyncssh.SFTPError):
        async with client.open("d/f", "xb"):
            pass


def test_nothing_of_asyncssh_s_own_file_system_is_left() -> None:
    """A method that a later asyncssh adds would work on this machine's files."""
    theirs = {name for name, value in vars(asyncssh.SFTPServer).items() if callable(value) and not name.startswith("_")}
    harmless = {"format_user", "format_group", "format_longname", "convert_attrs"}
    assert theirs - harmless <= set(vars(FilesServer))


def test_flags_and_changes() -> None:
    assert flags_of(asyncssh.FXF_READ) == os.O_RDONLY
    assert flags_of(asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_TRUNC) == os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    both: Any = asyncssh.FXF_READ | asyncssh.FXF_WRITE | asyncssh.FXF_APPEND | asyncssh.FXF_EXCL
    assert flags_of(both) == os.O_RDWR | os.O_APPEND | os.O_EXCL
    changes = changes_of(asyncssh.SFTPAttrs(permissions=0o100640, atime=5, mtime=6, mtime_ns=7))
    assert (changes.mode, changes.atime_ns, changes.mtime_ns, changes.size) == (0o640, 5 * 10**9, 6 * 10**9 + 7, None)
